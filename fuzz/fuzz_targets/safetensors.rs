//! Safetensors: any bytes as a file, and as the header of one that has the data it speaks of.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lucid_fuzz::{exhaust, soon, with_data};

fuzz_target!(|bytes: &[u8]| {
    soon(|| {
        exhaust(bytes);
        exhaust(&with_data(bytes));
    });
});
