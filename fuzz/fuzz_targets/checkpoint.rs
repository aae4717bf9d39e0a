//! A checkpoint of which one file holds any bytes, or is whole but for some; its checksum is made to fit.
#![no_main]

use std::cell::LazyCell;
use std::fs;

use learner::checkpoint::{Checkpoints, Cut};
use learner::limiter::LimiterState;
use libfuzzer_sys::fuzz_target;
use lucid_fuzz::{Folder, patched, replay_in, soon};
use serde_json::{Map, Value};
use shared::array::Array;

const FILES: [&str; 4] = ["state.json", "replay.json", "agent.safetensors", "pending-0.safetensors"];

/// A run with one checkpoint, its files as they were written, and its list of checksums.
struct Saved {
    run: Folder,
    own: String,
    files: Vec<Vec<u8>>,
    digests: Map<String, Value>,
}

thread_local! {
    static SAVED: LazyCell<Saved> = LazyCell::new(|| {
        let run = Folder::default();
        let replay = replay_in(&run.path().join("replay"));
        let cut = Cut {
            agent: [("params/enc/kernel".to_string(), Array::f32(&[2], &[0.5, 1.5]))].into(),
            counters: Default::default(),
            limiter: LimiterState { open: true, due: 2.0 },
            replay: replay.save().expect("a folder in memory"),
            pending: vec![replay.sample(2).expect("items")],
            frozen: Default::default(),
            config: "c".into(),
            layout: "l".into(),
            journal: 0,
        };
        let own = Checkpoints::new(run.path(), 1).save(&cut).expect("a folder in memory");
        let read = |name: &str| fs::read(own.join(name)).expect("a file in memory");
        let digests = serde_json::from_slice(&read("complete.json")).expect("checksums");
        let files = FILES.map(read).to_vec();
        Saved { own: own.strip_prefix(run.path()).expect("below").display().to_string(), run, files, digests }
    });
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    soon(|| {
        SAVED.with(|saved| {
            let which = usize::from(*kind) % FILES.len();
            let forged = if kind & 4 == 0 { bytes.to_vec() } else { patched(&saved.files[which], bytes) };
            let mut digests = saved.digests.clone();
            digests.insert(FILES[which].into(), blake3::hash(&forged).to_hex().to_string().into());
            let put = |name: &str, bytes: &[u8]| drop(saved.run.put(&format!("{}/{name}", saved.own), bytes));
            put(FILES[which], &forged);
            put("complete.json", &serde_json::to_vec(&digests).expect("names and checksums"));
            let _ = Checkpoints::new(saved.run.path(), 1).latest();
            put(FILES[which], &saved.files[which]);
        });
    });
});
