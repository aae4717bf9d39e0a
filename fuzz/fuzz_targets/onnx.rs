//! ONNX models, with and without the version that they begin with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lucid_fuzz::{exhaust, soon};

fuzz_target!(|bytes: &[u8]| {
    soon(|| {
        exhaust(bytes);
        exhaust(&[b"\x08\x08", bytes].concat());
    });
});
