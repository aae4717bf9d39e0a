//! A replay's manifest and its files: any manifest, with the file of all its blocks behind the first zero byte; or some that are whole but
//! for some bytes. Checksums are made to fit.
#![no_main]

use std::cell::LazyCell;

use learner::replay::{Damaged, Manifest, Replay};
use libfuzzer_sys::fuzz_target;
use lucid_fuzz::{Folder, patched, replay_config, replay_in, soon};

/// A folder, and the manifest of what is in it.
struct Saved {
    folder: Folder,
    manifest: Vec<u8>,
}

thread_local! {
    static SAVED: LazyCell<Saved> = LazyCell::new(|| {
        let folder = Folder::default();
        let manifest = replay_in(folder.path()).save().expect("a folder in memory");
        Saved { folder, manifest: serde_json::to_vec(&manifest).expect("a manifest") }
    });
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    soon(|| {
        SAVED.with(|saved| match kind % 3 {
            0 => {
                let mut parts = bytes.splitn(2, |byte| *byte == 0);
                let text = parts.next().unwrap_or_default();
                load(&saved.folder, text, Some(parts.next().unwrap_or_default()));
            }
            1 => load(&saved.folder, &patched(&saved.manifest, bytes), None),
            _ => {
                let manifest: Manifest = serde_json::from_slice(&saved.manifest).expect("a manifest");
                let file = manifest.files().next().expect("a file");
                let whole = std::fs::read(saved.folder.path().join(file)).expect("a file in memory");
                load(&saved.folder, &saved.manifest, Some(&patched(&whole, bytes)));
            }
        });
    });
});

/// With this file as that of all its blocks, if there is one.
fn load(folder: &Folder, manifest: &[u8], file: Option<&[u8]>) {
    let Ok(mut manifest) = serde_json::from_slice::<Manifest>(manifest) else { return };
    if let Some(bytes) = file {
        folder.put("b", bytes);
        let digest = blake3::hash(bytes).to_hex().to_string();
        for part in manifest.streams.iter_mut().flat_map(|s| &mut s.blocks).flat_map(|b| &mut b.parts) {
            (part.file, part.digest) = ("b".into(), digest.clone());
        }
    }
    let (length, context) = (manifest.length, manifest.context);
    for (disk, priority) in [(0.0, 0.5), (1.0, 0.0)] {
        let mut config = replay_config();
        (config.disk_gib, config.fracs.priority, config.fracs.uniform) = (disk, priority, 1.0 - priority);
        let loaded = Replay::load(&config, length, context, folder.path(), &manifest, Damaged::Drop);
        if let Ok((replay, _)) = loaded {
            let _ = replay.sample(4);
        }
    }
}
