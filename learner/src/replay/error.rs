//! What replay refuses, and why.

use shared::experience::StreamId;

use crate::durable::FileError;

/// Why replay refused a chunk, a sample, a write-back or a restore.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Settings that cannot work.
    #[error("replay settings: {message}")]
    Settings {
        /// What is wrong and what to set instead.
        message: String,
    },
    /// A chunk that is malformed, or unlike the first chunk of the run.
    #[error("chunk of {stream:?}, column {key:?}: {message}; the chunk was refused")]
    Column {
        /// The stream.
        stream: StreamId,
        /// The column.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// A chunk that does not continue its stream.
    #[error(
        "chunk of {stream:?} starts at step {got}, but the stream continues at {expected}: steps are missing; \
         the chunk was refused, the actor must open a new stream"
    )]
    Gap {
        /// The stream.
        stream: StreamId,
        /// The next step of the stream.
        expected: u64,
        /// First step of the chunk.
        got: u64,
    },
    /// A chunk of an actor process that a newer process has replaced.
    #[error("chunk of {stream:?} came after generation {newest} of this actor had started; the chunk was refused")]
    Ended {
        /// The stream.
        stream: StreamId,
        /// The generation that is recording now.
        newest: u32,
    },
    /// The byte cap does not even hold the blocks that streams are writing.
    #[error(
        "replay.gib = {cap:.3} GiB cannot hold {streams} streams with blocks of {chunksize} steps of {step_bytes} bytes: \
         raise replay.gib or lower replay.chunksize"
    )]
    CapTooSmall {
        /// The cap, in GiB.
        cap: f64,
        /// Streams in replay.
        streams: usize,
        /// Steps per block.
        chunksize: usize,
        /// Bytes of one step.
        step_bytes: usize,
    },
    /// Nothing to sample from yet.
    #[error("replay holds no item yet: {steps} steps are stored, one stream needs {length} in a row")]
    Empty {
        /// Steps stored.
        steps: usize,
        /// Steps of one item.
        length: usize,
    },
    /// Latents that do not fit the stored ones.
    #[error("latents for write-back, {key:?}: {message}")]
    Latents {
        /// `dyn/deter` or `dyn/stoch`.
        key: &'static str,
        /// What does not fit.
        message: String,
    },
    /// A manifest that does not belong to this configuration.
    #[error("saved replay does not fit: {message}")]
    Manifest {
        /// What differs, and the remedy.
        message: String,
    },
    /// Files of the manifest that are missing, cut short or changed.
    #[error(
        "{} replay file(s) are damaged, first: {}; resume with --drop-damaged-replay to go on without the steps in them",
        damage.len(), damage.first().map_or(String::new(), ToString::to_string)
    )]
    Damaged {
        /// One entry per file, naming it.
        damage: Vec<FileError>,
    },
    /// A file that could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}
