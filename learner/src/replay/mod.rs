//! Replay: recent steps of all streams in memory or on disk, drawn in batches, with latents written back.
//!
//! Every start position with a whole item behind it is one item; items leave first in, first out. A block of steps is
//! freed with the last item that needs it. Threads share a [`Replay`]; its lock is held to copy steps in or out, never over
//! a file operation.

mod disk;
mod error;
mod latents;
mod layout;
mod load;
mod manifest;
mod memory;
mod priority;
mod sample_tree;
mod sampled;
mod save;
mod store;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use shared::array::Array;
use shared::config::ReplayConfig;
use shared::experience::{Chunk, StreamId};

pub use error::ReplayError;
pub use layout::{Column, LATENT_UPDATE};
pub use load::Damaged;
pub use manifest::{BlockRecord, Manifest, PartRecord, Run, StreamRecord};
pub use memory::Forecast;
pub use priority::PriorityRecord;
pub use sampled::{CONSEC, Sampled, StepId};
pub use save::{PendingSave, sweep};

/// In the place of an actor's index: streams that were recorded elsewhere.
pub const IMPORTED: u32 = u32::MAX;

/// Recent experience of all streams.
pub struct Replay {
    store: Mutex<store::Store>,
    dir: PathBuf,
}

/// What an insert added; nothing for a chunk that was stored already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// New steps.
    pub steps: usize,
    /// New items.
    pub items: usize,
}

/// How full replay is.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// Items to sample from.
    pub items: usize,
    /// Steps in memory.
    pub steps: usize,
    /// Streams with steps in memory.
    pub streams: usize,
    /// Memory of these steps. While a save is written, what training overwrites meanwhile is in memory twice.
    pub bytes: usize,
    /// Bytes of them that are on disk only.
    pub disk_bytes: usize,
    /// Share of the cap that comes first, 0 to 1.
    pub fill: f64,
    /// Steps ever inserted.
    pub inserted: u64,
    /// Steps ever freed.
    pub evicted: u64,
}

impl Replay {
    /// Empty. `length`: steps of one item, `consec * T + context`; `context`: steps before the first trained one;
    /// `dir`: folder of its files, created by the first save.
    pub fn new(
        config: &ReplayConfig,
        length: usize,
        context: usize,
        seed: u64,
        dir: &Path,
    ) -> Result<Self, ReplayError> {
        let store = store::Store::new(config, length, context, seed)?;
        Ok(Self { store: Mutex::new(store), dir: dir.to_path_buf() })
    }

    /// Append a chunk to its stream. Steps that are stored already are dropped, so a chunk may be sent again. A chunk that
    /// does not continue its stream, whose columns differ from the first chunk's, or which holds a number that is not finite, is refused
    /// and changes nothing.
    pub fn insert(&self, chunk: &Chunk) -> Result<Inserted, ReplayError> {
        if let Some((key, step)) = chunk.first_non_finite() {
            let message = format!("has a value that is not finite at step {step}");
            return Err(ReplayError::Column { stream: chunk.stream, key: key.into(), message });
        }
        self.store.lock().insert(chunk)
    }

    /// The step that a stream goes on with; 0 for one that is not there.
    pub fn next(&self, stream: StreamId) -> u64 {
        self.store.lock().streams.get(&stream).map_or(0, |stream| stream.next)
    }

    /// Nothing more comes of a stream: its steps go with the last item that needs them.
    pub fn close(&self, stream: StreamId) {
        self.store.lock().close(stream);
    }

    /// Draw a batch of `rows` items: those of the online queue first, then over all as `replay.fracs` says, with replacement.
    pub fn sample(&self, rows: usize) -> Result<Sampled, ReplayError> {
        let drawn = self.store.lock().sample(rows)?;
        drawn.finish()
    }

    /// The first `steps` steps of `rows` items, drawn uniformly with random numbers of `seed`. What training draws, and whether it
    /// has seen what is new, stays as it was.
    pub fn look(&self, rows: usize, steps: usize, seed: u64) -> Result<Sampled, ReplayError> {
        let drawn = self.store.lock().look(rows, steps, seed)?;
        drawn.finish()
    }

    /// Whether chunks are to have the column [`LATENT_UPDATE`]. Replay of older checkpoints has none.
    pub fn dates_latents(&self) -> bool {
        self.store.lock().dates_latents()
    }

    /// Overwrite the latents of trained steps: `deter` [B, T, …] and `stoch` [B, T, …] from the steps in `ids` [B] on, as they are
    /// at this update. Steps that were evicted meanwhile are skipped.
    pub fn write_latents(&self, ids: &[StepId], deter: &Array, stoch: &Array, update: u64) -> Result<(), ReplayError> {
        self.store.lock().write_latents(ids, deter, stoch, update)
    }

    /// How full it is.
    pub fn stats(&self) -> Stats {
        self.store.lock().stats()
    }
}
