//! Chunks of experience, into a replay: a head's length, the head, a block; or a chunk that is whole but for some bytes.
#![no_main]

use learner::replay::Replay;
use libfuzzer_sys::fuzz_target;
use lucid_fuzz::{Folder, LENGTH, patched, replay_config, soon, steps};
use shared::wire::chunk::{ChunkHead, pack, unpack};
use shared::wire::codec::{decode, encode};

fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    soon(|| match usize::from(u16::from_le_bytes(*length)) {
        0 => {
            let (head, block) = pack(&steps(0, 14));
            read(&patched(&encode(&head).expect("a head"), rest), &block);
        }
        length => {
            if let Some((head, block)) = rest.split_at_checked(length) {
                read(head, block);
            }
        }
    });
});

fn read(head: &[u8], block: &[u8]) {
    let Ok(head) = decode::<ChunkHead>(head) else { return };
    let Ok(chunk) = unpack(head, block) else { return };
    assert!(chunk.bytes() == block.len() && chunk.len() <= block.len());
    let folder = Folder::default();
    let replay = Replay::new(&replay_config(), LENGTH, 1, 7, folder.path()).expect("settings that work");
    if replay.insert(&chunk).is_ok() {
        assert_eq!(replay.insert(&chunk).map(|inserted| inserted.steps).ok(), Some(0));
        let _ = replay.sample(4);
    }
}
