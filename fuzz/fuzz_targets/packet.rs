//! What a host says and is told; the first byte says which.
#![no_main]

use learner::hosts::packet::{head, pack, split, unpack};
use learner::hosts::words::{Answer, Down, Introduction, Piece, Up};
use learner::launch::{HostNotice, HostOrder};
use libfuzzer_sys::fuzz_target;
use lucid_fuzz::soon;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::wire::codec::{decode, encode};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    soon(|| match kind % 7 {
        0 => read::<Up>(bytes),
        1 => read::<Down>(bytes),
        2 => read::<Introduction>(bytes),
        3 => read::<Answer>(bytes),
        4 => {
            if let Ok((piece, rest)) = split::<Piece>(bytes) {
                assert!(head(&piece).expect("a piece that was read").len() + rest.len() <= bytes.len());
            }
        }
        5 => drop(decode::<HostNotice>(bytes).map(|notice| encode(&notice).expect("a notice that was read"))),
        _ => drop(decode::<HostOrder>(bytes).map(|order| encode(&order).expect("an order that was read"))),
    });
});

/// What is understood can be sent on.
fn read<W: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(packet) = unpack::<W>(bytes) {
        pack(packet.number, packet.words).expect("a packet that was read");
    }
}
