//! A journal's last file: any bytes, or one that is whole but for some.
#![no_main]

use std::cell::LazyCell;

use learner::journal::{self, Journal};
use libfuzzer_sys::fuzz_target;
use lucid_fuzz::{Folder, patched, soon, steps};

/// A folder with one file of a journal, and what was written there.
struct Saved {
    folder: Folder,
    bytes: Vec<u8>,
}

/// The first file of a journal.
const NAME: &str = "journal-00000000.bin";

thread_local! {
    static SAVED: LazyCell<Saved> = LazyCell::new(|| {
        let folder = Folder::default();
        let mut journal = Journal::open(folder.path(), 0).expect("a folder in memory");
        journal.arrived(&steps(0, 14)).expect("a file in memory");
        journal.publishing(7).expect("a file in memory");
        let bytes = std::fs::read(folder.path().join(NAME)).expect("a file in memory");
        Saved { folder, bytes }
    });
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    soon(|| {
        SAVED.with(|saved| {
            let forged = if kind % 2 == 0 { bytes.to_vec() } else { patched(&saved.bytes, bytes) };
            saved.folder.put(NAME, &forged);
            let found = journal::read(saved.folder.path(), 0, |_| {}).expect("a folder in memory");
            found.mend().expect("a file in memory");
            // What was mended is whole, or damaged where it was.
            let again = journal::read(saved.folder.path(), 0, |_| {}).expect("a folder in memory");
            assert_eq!(found.damage.len(), again.damage.len());
        });
    });
});
