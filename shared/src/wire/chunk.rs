//! A chunk of experience as it travels: a head in the message, all numbers in one block beside it.

use serde::{Deserialize, Serialize};

use super::WireError;
use crate::array::{Array, DType};
use crate::experience::{Chunk, StreamId};

/// Largest block, in bytes: a chunk is copied whole, and a block may be shared memory of any length.
const LIMIT: usize = 1 << 30;

/// What a chunk's block of bytes holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChunkHead {
    /// Which stream the steps belong to.
    pub stream: StreamId,
    /// Index within the stream of the first step.
    pub first_step: u64,
    /// Name, type and shape [T, …] of each column, in the order in which their bytes follow each other.
    pub columns: Vec<(String, DType, Vec<usize>)>,
}

/// Head and block of a chunk.
pub fn pack(chunk: &Chunk) -> (ChunkHead, Vec<u8>) {
    let columns = chunk.columns.iter().map(|(k, c)| (k.clone(), c.dtype, c.shape.clone())).collect();
    let mut block = Vec::with_capacity(chunk.bytes());
    chunk.columns.values().for_each(|c| block.extend_from_slice(&c.bytes));
    (ChunkHead { stream: chunk.stream, first_step: chunk.first_step, columns }, block)
}

/// The chunk again; an error if the head does not describe the block exactly.
pub fn unpack(head: ChunkHead, block: &[u8]) -> Result<Chunk, WireError> {
    let malformed = |message: String| WireError::Malformed { what: "chunk", message };
    if block.len() > LIMIT {
        return Err(malformed(format!("{} bytes are over the limit of {LIMIT}", block.len())));
    }
    let steps = head.columns.first().and_then(|(_, _, shape)| shape.first()).copied();
    // Every step has a flag at least, whatever lengths a head claims for columns without bytes.
    if steps.is_some_and(|steps| steps > block.len()) {
        return Err(malformed(format!("{steps:?} steps are more than its {} bytes", block.len())));
    }
    let mut rest = block;
    let mut columns = std::collections::BTreeMap::new();
    for (name, dtype, shape) in head.columns {
        if shape.is_empty() || shape.first().copied() != steps {
            return Err(malformed(format!("column `{name}` of shape {shape:?} has another number of steps")));
        }
        let bytes = shape.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d));
        let Some((column, tail)) = bytes.and_then(|n| rest.split_at_checked(n)) else {
            return Err(malformed(format!("column `{name}` of shape {shape:?} is longer than the block")));
        };
        rest = tail;
        let array = Array { dtype, shape, bytes: column.to_vec() };
        if columns.insert(name.clone(), array).is_some() {
            return Err(malformed(format!("column `{name}` comes twice")));
        }
    }
    if !rest.is_empty() {
        return Err(malformed(format!("{} bytes left over", rest.len())));
    }
    Ok(Chunk { stream: head.stream, first_step: head.first_step, columns })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::messages::tests::head;

    fn chunk() -> Chunk {
        Chunk {
            stream: StreamId { actor: 1, generation: 2, env: 3 },
            first_step: 7,
            columns: [
                ("reward".to_string(), Array::f32(&[2], &[0.5, -1.0])),
                ("image".to_string(), Array::u8(&[2, 3], &[1, 2, 3, 4, 5, 6])),
            ]
            .into(),
        }
    }

    #[test]
    fn a_chunk_comes_back() {
        let (head, block) = pack(&chunk());
        assert_eq!(unpack(head, &block).unwrap(), chunk());
    }

    #[test]
    fn a_block_that_does_not_fit_its_head_is_refused() {
        let (head, block) = pack(&chunk());
        assert!(unpack(head.clone(), &block[1..]).is_err());
        assert!(unpack(head.clone(), &[&block[..], &[0]].concat()).is_err());
        let mut huge = head.clone();
        huge.columns[0].2 = vec![2, usize::MAX];
        assert!(unpack(huge, &block).is_err());
        let mut uneven = head;
        uneven.columns[1].2[0] = 3;
        assert!(unpack(uneven, &block).unwrap_err().to_string().contains("reward"));
    }

    #[test]
    fn a_column_without_steps_and_steps_without_bytes_are_refused() {
        let with = |shapes: &[&[usize]]| {
            let names = ["a", "b"].map(String::from).into_iter();
            let columns = names.zip(shapes).map(|(name, shape)| (name, DType::U8, shape.to_vec())).collect();
            ChunkHead { columns, ..pack(&chunk()).0 }
        };
        assert!(unpack(with(&[&[]]), &[0]).unwrap_err().to_string().contains("number of steps"));
        assert!(unpack(with(&[&[1 << 60, 0]]), &[]).unwrap_err().to_string().contains("more than its 0 bytes"));
        assert!(unpack(with(&[&[2], &[2, 0]]), &[0, 1]).is_ok());
    }

    proptest! {
        #[test]
        fn any_head_and_any_block_are_a_chunk_or_refused(head in head(), block in vec(any::<u8>(), 0..200)) {
            if let Ok(chunk) = unpack(head, &block) {
                prop_assert!(chunk.bytes() == block.len() && chunk.len() <= block.len());
            }
        }
    }
}
