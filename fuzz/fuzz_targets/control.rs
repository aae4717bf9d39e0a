//! Lines on the control socket: what a run is asked, what it answers, and what watchers are told.
#![no_main]

use learner::control::{Answer, Request, Word};
use libfuzzer_sys::fuzz_target;
use lucid_fuzz::soon;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|line: &[u8]| {
    soon(|| {
        read::<Request>(line);
        read::<Answer>(line);
        read::<Word>(line);
    });
});

fn read<W: Serialize + DeserializeOwned>(line: &[u8]) {
    if let Ok(word) = serde_json::from_slice::<W>(line) {
        let written = serde_json::to_vec(&word).expect("a word that was read");
        assert!(!written.contains(&b'\n'), "a line is one line");
    }
}
