//! What a checkpoint keeps of replay: which files hold which steps, and everything that decides the next sample.

use std::path::{Component, Path};

use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use shared::array::DType;
use shared::experience::StreamId;

use super::layout::{Column, LATENT_UPDATE};
use super::priority::PriorityRecord;

/// Most bytes of one step.
const STEP: usize = 1 << 30;
/// Most steps that are missing between blocks of streams, all together: replay never held more than what a lost file leaves out.
const GAPS: u64 = 1 << 24;

/// Replay at one instant. The steps themselves are in the files it names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Steps of one item.
    pub length: usize,
    /// Replay context within them.
    pub context: usize,
    /// Columns of a step; empty before the first chunk.
    pub columns: Vec<Column>,
    /// Streams with their blocks.
    pub streams: Vec<StreamRecord>,
    /// Items, oldest first.
    pub items: Vec<Run>,
    /// Items not yet trained on, oldest first.
    pub online: Vec<Run>,
    /// What drawing by priority goes by, where some items are drawn so.
    #[serde(default)]
    pub priority: Option<PriorityRecord>,
    /// The generator that draws items.
    pub rng: Xoshiro256PlusPlus,
    /// Saves so far; part of file names, so that a file is never written again.
    pub saves: u64,
    /// Steps ever inserted.
    pub inserted: u64,
    /// Steps ever freed.
    pub evicted: u64,
}

impl Manifest {
    /// Names of the files it refers to, relative to the replay folder.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let blocks = self.streams.iter().flat_map(|s| &s.blocks);
        blocks.flat_map(|b| &b.parts).filter(|p| is_plain(&p.file)).map(|p| p.file.as_str())
    }

    /// Whether its numbers can be those of a replay with items of `length` steps, whoever wrote them: nothing overflows, and nothing is
    /// larger than what its blocks hold. What is wrong comes back.
    pub(super) fn check(&self, length: u64) -> Result<(), String> {
        let width = |column: &Column| column.shape.iter().try_fold(column.dtype.size(), |n, &axis| n.checked_mul(axis));
        let step = self.columns.iter().try_fold(0usize, |sum, column| sum.checked_add(width(column)?));
        if step.is_none_or(|bytes| bytes > STEP) {
            return Err(format!("a step has {step:?} bytes"));
        }
        let counted = |key: &str| self.columns.iter().find(|column| column.key == key);
        if counted(LATENT_UPDATE).is_some_and(|column| column.dtype != DType::U64 || !column.shape.is_empty()) {
            return Err(format!("column `{LATENT_UPDATE}` does not count updates"));
        }
        let (mut stored, mut gaps) = (0u64, 0u64);
        for stream in &self.streams {
            let [steps, missing] = stream.check(length)?;
            (stored, gaps) = (stored.saturating_add(steps), gaps.saturating_add(missing));
        }
        if gaps > GAPS {
            return Err(format!("{gaps} steps are missing between blocks"));
        }
        if self.inserted.checked_sub(self.evicted) != Some(stored) {
            return Err(format!("its counters and its {stored} stored steps contradict each other"));
        }
        for items in [&self.items, &self.online] {
            if items.iter().fold(0u64, |sum, run| sum.saturating_add(run.count)) > stored {
                return Err("it has more items than steps".into());
            }
        }
        let mut draws = self.rng.clone();
        if (0..4).all(|_| draws.next_u64() == 0) {
            return Err("its generator draws nothing but zeros".into());
        }
        Ok(())
    }
}

/// Whether a name leads to a file of the replay folder itself.
fn is_plain(file: &str) -> bool {
    let mut parts = Path::new(file).components();
    matches!(parts.next(), Some(Component::Normal(name)) if name == file) && parts.next().is_none()
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Which one.
    pub id: StreamId,
    /// Step that its next chunk starts with.
    pub next: u64,
    /// Start of its next item.
    pub next_item: u64,
    /// Whether its process was replaced.
    pub closed: bool,
    /// Its blocks, oldest first.
    pub blocks: Vec<BlockRecord>,
}

impl StreamRecord {
    /// Steps stored, and steps missing between blocks.
    fn check(&self, length: u64) -> Result<[u64; 2], String> {
        let wrong = |what: &str| Err(format!("stream {:?}: {what}", self.id));
        let (mut stored, mut missing) = (0, 0);
        let mut end = self.blocks.first().map_or(0, |block| block.first);
        for block in &self.blocks {
            let Some(next) = block.first.checked_add(block.len as u64).filter(|next| *next > block.first) else {
                return wrong("a block has no steps, or too many");
            };
            let Some(gap) = block.first.checked_sub(end) else { return wrong("its blocks overlap") };
            if block.parts.iter().any(|part| !part.file.is_empty() && !is_plain(&part.file)) {
                return wrong("a file is not in the folder of replay");
            }
            (stored, missing, end) = (stored + block.len as u64, missing + gap, next);
        }
        let begun = self.next >= end && self.next_item <= self.next;
        if !begun || self.next.checked_add(length).is_none() {
            return wrong("what it goes on with contradicts its blocks");
        }
        Ok([stored, missing])
    }
}

/// Consecutive steps of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockRecord {
    /// Index of the first step within the stream.
    pub first: u64,
    /// Number of steps.
    pub len: usize,
    /// What never changes, and the latents.
    pub parts: Vec<PartRecord>,
}

/// One file of a block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartRecord {
    /// Name within the replay folder; empty if the part has no columns.
    pub file: String,
    /// BLAKE3 of the whole file, in hexadecimal.
    pub digest: String,
}

/// Items of one stream with consecutive starts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Index into [`Manifest::streams`].
    pub stream: usize,
    /// Start of the first item.
    pub start: u64,
    /// Number of items.
    pub count: u64,
}
