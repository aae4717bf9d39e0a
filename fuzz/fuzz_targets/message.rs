//! Messages of every kind; the first byte says of which.
#![no_main]

use learner::evaluation::{FromEvaluator, ToEvaluator};
use learner::launch::{Notice, Order};
use libfuzzer_sys::fuzz_target;
use lucid_fuzz::soon;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::wire::codec::{decode, encode};
use shared::wire::{ToActor, ToLearner};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    soon(|| match kind % 6 {
        0 => read::<ToLearner>(bytes),
        1 => read::<ToActor>(bytes),
        2 => read::<FromEvaluator>(bytes),
        3 => read::<ToEvaluator>(bytes),
        4 => read::<Notice>(bytes),
        _ => read::<Order>(bytes),
    });
});

/// What is understood can be sent on.
fn read<M: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(message) = decode::<M>(bytes) {
        encode(&message).expect("a message that was read");
    }
}
