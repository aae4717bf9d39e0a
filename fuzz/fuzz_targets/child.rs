//! What a Python process with an environment says, and the spaces that it names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lucid_fuzz::soon;

fuzz_target!(|bytes: &[u8]| {
    soon(|| {
        actor::fuzzing::child_says(bytes);
        // Alone, as a hello.
        let length = (bytes.len() as u32 + 1).to_le_bytes();
        actor::fuzzing::child_says(&[&length[..], b"H", bytes].concat());
    });
});
