//! Words in order as bytes: what one message over the network holds.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::wire::{WireError, codec};

/// Bytes beside words, of all words of a packet.
const LIMIT: usize = 1 << 30;
/// From this many bytes on compressing is tried.
const WORTH: usize = 1 << 10;

/// What a packet begins with.
#[derive(Serialize, Deserialize)]
struct Head<W> {
    /// Number of the packet on its way, from 0.
    number: u64,
    words: Vec<W>,
    /// Bytes beside each word.
    lengths: Vec<u32>,
    /// Whether those bytes are compressed (LZ4), all as one block.
    compressed: bool,
}

/// A word as bytes that others may follow.
pub fn head<W: Serialize>(word: &W) -> Result<Vec<u8>, WireError> {
    let word = codec::encode(word)?;
    Ok([&(word.len() as u32).to_le_bytes(), &word[..]].concat())
}

/// The word again, and what follows it.
pub fn split<W: DeserializeOwned>(bytes: &[u8]) -> Result<(W, &[u8]), WireError> {
    let malformed = |message: &str| WireError::Malformed { what: "packet", message: message.into() };
    let (length, rest) = bytes.split_first_chunk().ok_or_else(|| malformed("it is shorter than a length"))?;
    let parts = rest.split_at_checked(u32::from_le_bytes(*length) as usize);
    let (word, rest) = parts.ok_or_else(|| malformed("it is shorter than its head"))?;
    Ok((codec::decode(word)?, rest))
}

/// A packet that arrived: its number, and its words with what lies beside each.
pub struct Packet<W> {
    /// Number on its way, from 0.
    pub number: u64,
    /// Words, oldest first.
    pub words: Vec<(W, Vec<u8>)>,
}

/// Bytes of a packet.
pub fn pack<W: Serialize>(number: u64, words: Vec<(W, Vec<u8>)>) -> Result<Vec<u8>, WireError> {
    let lengths = words.iter().map(|(_, bytes)| bytes.len() as u32).collect();
    let (words, beside): (Vec<W>, Vec<Vec<u8>>) = words.into_iter().unzip();
    let mut block = beside.concat();
    let squeezed =
        (block.len() >= WORTH).then(|| lz4_flex::compress(&block)).filter(|less| less.len() < block.len() * 9 / 10);
    let compressed = squeezed.is_some();
    if let Some(less) = squeezed {
        block = less;
    }
    let mut packet = head(&Head { number, words, lengths, compressed })?;
    packet.extend_from_slice(&block);
    Ok(packet)
}

/// The packet again. Bytes that are none are an error, and nothing is allocated for lengths that they only claim.
pub fn unpack<W: DeserializeOwned>(bytes: &[u8]) -> Result<Packet<W>, WireError> {
    let malformed = |message: &str| WireError::Malformed { what: "packet", message: message.into() };
    let (Head { number, words, lengths, compressed }, block) = split::<Head<W>>(bytes)?;
    let total: usize = lengths.iter().map(|length| *length as usize).sum();
    // LZ4 makes at most 255 bytes of one.
    if lengths.len() != words.len() || total > LIMIT || (compressed && total > block.len().saturating_mul(255)) {
        return Err(malformed("its head contradicts itself"));
    }
    let opened = compressed.then(|| lz4_flex::decompress(block, total)).transpose();
    let opened = opened.map_err(|error| malformed(&error.to_string()))?;
    let mut rest = opened.as_deref().unwrap_or(block);
    if rest.len() != total {
        return Err(malformed("what lies beside its words is longer or shorter than its head says"));
    }
    let beside = lengths.into_iter().map(|length| {
        let (bytes, after) = rest.split_at(length as usize);
        rest = after;
        bytes.to_vec()
    });
    let beside: Vec<Vec<u8>> = beside.collect();
    Ok(Packet { number, words: words.into_iter().zip(beside).collect() })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::hosts::words::{Piece, Up};

    #[test]
    fn words_come_back_with_what_lies_beside_them() {
        let words: Vec<(u32, Vec<u8>)> = vec![(1, vec![]), (2, vec![7; 50_000]), (3, (0..99).collect())];
        let bytes = pack(5, words.clone()).unwrap();
        assert!(bytes.len() < 1000, "a block of one value is compressed");
        let packet = unpack::<u32>(&bytes).unwrap();
        assert_eq!((packet.number, packet.words), (5, words));
    }

    proptest! {
        #[test]
        fn any_words_come_back(words in vec((any::<u32>(), vec(any::<u8>(), 0..3000)), 0..6), number: u64) {
            let packet = unpack::<u32>(&pack(number, words.clone()).unwrap()).unwrap();
            prop_assert_eq!((packet.number, packet.words), (number, words));
        }

        #[test]
        fn any_bytes_are_a_packet_or_refused(bytes in vec(any::<u8>(), 0..300)) {
            let _ = unpack::<Up>(&bytes);
            let _ = split::<Piece>(&bytes);
        }

        #[test]
        fn a_packet_that_was_cut_is_refused(cut in 1usize..40, beside in vec(any::<u8>(), 0..100)) {
            let bytes = pack(0, vec![(Up::Have { version: 3 }, beside)]).unwrap();
            prop_assert!(unpack::<Up>(&bytes[..bytes.len().saturating_sub(cut)]).is_err());
        }
    }
}
