//! What a checkpoint keeps of replay: which files hold which steps, and everything that decides the next sample.

use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use shared::experience::StreamId;

use super::layout::Column;
use super::priority::PriorityRecord;

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
        blocks.flat_map(|b| &b.parts).filter(|p| !p.file.is_empty()).map(|p| p.file.as_str())
    }
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
