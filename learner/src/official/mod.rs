//! Checkpoints of the official DreamerV3 code: read into a run, and written from one.

mod folder;
mod layout;

use std::path::{Path, PathBuf};

use shared::params::Tree;

use crate::agent::AgentError;
use crate::durable::FileError;
use crate::pickle::PickleError;

pub use folder::{Checkpoint, read, write};
pub use layout::{from_official, to_official};

/// Arrays by the paths of [`crate::agent::Agent::save`].
pub type Saved = Tree;

/// Why a checkpoint of the official code was not read, not taken over, or not written.
#[derive(Debug, thiserror::Error)]
pub enum OfficialError {
    /// A file that could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The agent cannot be saved or made.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// A folder without a checkpoint.
    #[error(
        "{} holds no checkpoint of the official code: neither agent.pkl nor latest is there, in ckpt/, or in ckpt/agent/; \
         name the logdir, its ckpt folder, or one folder in it", path.display()
    )]
    Absent {
        /// The folder.
        path: PathBuf,
    },
    /// A checkpoint that was not written to its end.
    #[error("{} is not complete: it has no file `done`; name an older checkpoint beside it", path.display())]
    Unfinished {
        /// Its folder.
        path: PathBuf,
    },
    /// A file that is no pickle of arrays and plain containers.
    #[error("{}: {source}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PickleError,
    },
    /// A file that holds something else than the official code writes.
    #[error("{}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was expected.
        message: String,
    },
    /// Parameters that are not those of the config.
    #[error("the checkpoint does not fit the config: {}; {hint}", list(problems))]
    Misfit {
        /// What is missing, unexpected, or of another shape or type, by path.
        problems: Vec<String>,
        /// What to change.
        hint: String,
    },
    /// The optimizer's counters disagree.
    #[error(
        "the optimizer's counters differ ({counters}): the checkpoint was put together from two, and Lucid has one counter"
    )]
    Counters {
        /// Each with its value.
        counters: String,
    },
    /// A frozen ViT, which the official code does not have.
    #[error("the config has a frozen ViT (vit.weights = {weights:?}), which the official code lacks: {remedy}")]
    Vit {
        /// The option.
        weights: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A file or folder that would be overwritten.
    #[error("{} is there already; name another one", path.display())]
    Exists {
        /// The file or folder.
        path: PathBuf,
    },
}

/// Problems that are listed.
const LISTED: usize = 5;

fn list(problems: &[String]) -> String {
    let rest = problems.len().saturating_sub(LISTED);
    let shown = problems[..problems.len() - rest].join("; ");
    if rest > 0 { format!("{shown}; and {rest} more") } else { shown }
}

fn content(path: &Path, message: impl Into<String>) -> OfficialError {
    OfficialError::Content { path: path.to_path_buf(), message: message.into() }
}
