//! Chunks of experience: consecutive steps of one environment stream, as they travel from actor to replay.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::array::Array;

/// Column with the snapshot version that acted ([`crate::array::DType::U64`], shape [T]).
pub const VERSION: &str = "lucid/version";
/// Column with the learner update that the acting snapshot was taken at (U64, shape [T]).
pub const UPDATE: &str = "lucid/update";
/// Recurrent state after the step was observed (F32, [T, deter]).
pub const DETER: &str = "dyn/deter";
/// Posterior sample after the step was observed, as [`classes_of`] (U16, [T, stoch]).
pub const STOCH: &str = "dyn/stoch";

/// A group of classes of which none is set.
const NONE: u16 = u16::MAX;

/// Which class is set in each group, from one-hot samples [.., classes] (F32): [..] (U16). A sixteenth of the bytes and more.
pub fn classes_of(one_hot: &Array) -> Array {
    let (classes, lead) = one_hot.shape.split_last().map_or((1, &[][..]), |(classes, lead)| (*classes, lead));
    let set = |group: &[[u8; 4]]| group.iter().position(|x| f32::from_le_bytes(*x) != 0.0).map_or(NONE, |i| i as u16);
    let groups = one_hot.bytes.as_chunks::<4>().0.chunks_exact(classes.max(1));
    Array::u16(lead, &groups.map(set).collect::<Vec<_>>())
}

/// The samples that [`classes_of`] came from.
pub fn one_hot_of(set: &Array, classes: usize) -> Array {
    let shape = [set.shape.as_slice(), &[classes]].concat();
    let mut values = vec![0.0; set.elements() * classes];
    for (group, class) in values.chunks_exact_mut(classes.max(1)).zip(set.values::<u16>()) {
        if let Some(value) = group.get_mut(usize::from(class)) {
            *value = 1.0;
        }
    }
    Array::f32(&shape, &values)
}

/// One environment stream: an actor's environment since that actor process started.
/// A restarted actor opens new streams, so that no item of replay ever spans the gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId {
    /// Index of the actor in the run.
    pub actor: u32,
    /// How often this actor was started before (0 for the first process).
    pub generation: u32,
    /// Index of the environment within the actor.
    pub env: u32,
}

/// Consecutive steps of one stream, columns by key; each column is [T, …] with the same T.
///
/// A step holds what the environment returned (`obs`, `is_first`, `is_last`, `is_terminal`, `reward`) and the action
/// the policy chose after seeing it, together with [`VERSION`], [`UPDATE`], [`DETER`] and [`STOCH`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// Which stream the steps belong to.
    pub stream: StreamId,
    /// Index within the stream of the first step here; chunks of a stream follow each other without gaps.
    pub first_step: u64,
    /// Columns by key.
    pub columns: BTreeMap<String, Array>,
}

impl Chunk {
    /// Number of steps, T.
    pub fn len(&self) -> usize {
        self.columns.values().next().map_or(0, |c| c.shape[0])
    }

    /// Whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Column and step, counted within its stream, of the first number that is not finite.
    pub fn first_non_finite(&self) -> Option<(&str, u64)> {
        self.columns.iter().find_map(|(key, column)| {
            let at = column.first_non_finite()?;
            let width = column.elements() / self.len().max(1);
            Some((key.as_str(), self.first_step + (at / width.max(1)) as u64))
        })
    }

    /// Bytes of all columns.
    pub fn bytes(&self) -> usize {
        self.columns.values().map(|c| c.bytes.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hot_samples_come_back_from_their_classes() {
        let samples = Array::f32(&[2, 2, 3], &[0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        let classes = classes_of(&samples);
        assert_eq!((classes.shape.as_slice(), classes.values::<u16>()), ([2, 2].as_slice(), vec![1, 0, 2, NONE]));
        assert_eq!(one_hot_of(&classes, 3), samples);
    }
}
