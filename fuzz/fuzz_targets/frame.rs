//! Whatever comes through the socket of a link, until it ends.
#![no_main]

use std::io::Write;
use std::os::unix::net::UnixStream;

use libfuzzer_sys::fuzz_target;
use lucid_fuzz::soon;
use shared::wire::{ToActor, ToLearner, WireError, ends};

fuzz_target!(|bytes: &[u8]| {
    soon(|| {
        let Ok((mut other, own)) = UnixStream::pair() else { return };
        let (_sender, receiver) = ends::<ToActor, ToLearner>(own);
        other.write_all(bytes).expect("a socket holds so many bytes");
        drop(other);
        // Frames have 16 bytes at least.
        for _ in 0..=bytes.len() / 16 {
            match receiver.recv() {
                Ok(_) | Err(WireError::Decode { .. }) => {}
                Err(WireError::Closed | WireError::Malformed { .. }) => return,
                Err(other) => panic!("{other}"),
            }
        }
        panic!("more frames than bytes");
    });
});
