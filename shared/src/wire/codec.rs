//! Messages to bytes and back. The only place that knows the codec.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::WireError;

/// Largest message, in bytes; bulk travels beside the message, not in it.
pub const LIMIT: usize = 1 << 20;

/// Bytes of a message; an error if it would be over [`LIMIT`].
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, WireError> {
    let bytes = bincode::serde::encode_to_vec(message, bincode::config::standard())
        .map_err(|e| WireError::Encode { message: e.to_string() })?;
    if bytes.len() > LIMIT {
        return Err(WireError::Encode { message: format!("{} bytes are over the limit of {LIMIT}", bytes.len()) });
    }
    Ok(bytes)
}

/// A message from bytes. Never panics, never allocates much more than [`LIMIT`]; bytes left over are an error.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, WireError> {
    let refuse = |message: String| WireError::Decode { bytes: bytes.len(), message };
    if bytes.len() > LIMIT {
        return Err(refuse(format!("over the limit of {LIMIT} bytes")));
    }
    let config = bincode::config::standard().with_limit::<LIMIT>();
    match bincode::serde::decode_from_slice(bytes, config) {
        Ok((message, used)) if used == bytes.len() => Ok(message),
        Ok((_, used)) => Err(refuse(format!("{} bytes left over", bytes.len() - used))),
        Err(e) => Err(refuse(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::tests::{to_actor, to_learner};
    use crate::wire::{ToActor, ToLearner};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_message_to_the_learner_comes_back(message in to_learner()) {
            prop_assert_eq!(decode::<ToLearner>(&encode(&message).unwrap()).unwrap(), message);
        }

        #[test]
        fn every_message_to_an_actor_comes_back(message in to_actor()) {
            prop_assert_eq!(decode::<ToActor>(&encode(&message).unwrap()).unwrap(), message);
        }

        #[test]
        fn random_bytes_are_refused_or_read_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(message) = decode::<ToLearner>(&bytes) {
                encode(&message).unwrap();
            }
            if let Ok(message) = decode::<ToActor>(&bytes) {
                encode(&message).unwrap();
            }
        }

        #[test]
        fn a_cut_message_is_refused(message in to_learner(), cut in 1usize..20) {
            let bytes = encode(&message).unwrap();
            let keep = bytes.len().saturating_sub(cut);
            prop_assert!(decode::<ToLearner>(&bytes[..keep]).is_err());
        }
    }

    #[test]
    fn over_the_limit_is_refused_both_ways() {
        let long = ToActor::Refused { reason: "x".repeat(LIMIT + 1) };
        assert!(encode(&long).unwrap_err().to_string().contains("limit"));
        assert!(decode::<ToActor>(&vec![0; LIMIT + 1]).unwrap_err().to_string().contains("limit"));
    }

    #[test]
    fn a_length_that_claims_more_than_the_limit_is_refused() {
        let mut bytes = encode(&ToActor::Refused { reason: String::new() }).unwrap();
        bytes.pop();
        bytes.extend([253, 255, 255, 255, 255, 255, 255, 255, 127]);
        assert!(decode::<ToActor>(&bytes).is_err());
    }
}
