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
/// Posterior sample after the step was observed, one-hot (F32, [T, stoch, classes]).
pub const STOCH: &str = "dyn/stoch";

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

    /// Bytes of all columns.
    pub fn bytes(&self) -> usize {
        self.columns.values().map(|c| c.bytes.len()).sum()
    }
}
