//! A journal's last file: any bytes, or one that is whole but for some; each also with checksums that are made to fit.
#![no_main]

use std::cell::LazyCell;

use learner::journal::{self, Journal};
use libfuzzer_sys::fuzz_target;
use lucid_fuzz::{Folder, patched, soon, steps};
use xxhash_rust::xxh3::xxh3_64;

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
            let mut forged = if kind % 2 == 0 { bytes.to_vec() } else { patched(&saved.bytes, bytes) };
            read(&saved.folder, &forged);
            fit(&mut forged);
            read(&saved.folder, &forged);
        });
    });
});

fn read(folder: &Folder, bytes: &[u8]) {
    folder.put(NAME, bytes);
    let found = journal::read(folder.path(), 0, |_| {}).expect("a folder in memory");
    found.mend().expect("a file in memory");
    // What was mended is whole, or damaged where it was.
    let again = journal::read(folder.path(), 0, |_| {}).expect("a folder in memory");
    assert_eq!(found.damage.len(), again.damage.len());
}

/// Give each whole record the checksum of its content: the head of a record is its kind, its length and the checksum.
fn fit(mut rest: &mut [u8]) {
    while let Some((head, after)) = rest.split_first_chunk_mut::<17>() {
        let length = u64::from_le_bytes(std::array::from_fn(|i| head[1 + i]));
        let split = usize::try_from(length).ok().and_then(|length| after.split_at_mut_checked(length));
        let Some((content, next)) = split else { return };
        head[9..].copy_from_slice(&xxh3_64(content).to_le_bytes());
        rest = next;
    }
}
