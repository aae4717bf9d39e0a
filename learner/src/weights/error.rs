//! Why a weights file was not read.

use std::io;
use std::path::{Path, PathBuf};

use crate::pickle::PickleError;

/// Why weights were not read. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file that does not hold what its own format asks for.
    #[error("{} is damaged or cut short: {what}; fetch or save it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// A file that may be whole but is not read.
    #[error("{}: {what}; {remedy}", path.display())]
    Refused {
        /// The file or folder.
        path: PathBuf,
        /// What it is.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A pickle that names code.
    #[error(
        "{}: the file wants to run `{object}`; only tensors are read, nothing was run: \
         save the tensors alone, with torch.save(model.state_dict(), path)", path.display()
    )]
    Code {
        /// The file.
        path: PathBuf,
        /// Module and name of the Python object.
        object: String,
    },
    /// A tensor that the file does not have.
    #[error("{} has no tensor `{tensor}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor of numbers that are no weights.
    #[error(
        "{}: tensor `{tensor}` has the element type {dtype}; floats of 64, 32 and 16 bits are read: \
         convert it to one of them and save it again", path.display()
    )]
    Element {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its element type, as the file calls it.
        dtype: String,
    },
}

impl WeightsError {
    /// For `map_err`: what was tried, on which path.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

/// Longest text about a file, in characters.
const LONGEST: usize = 1000;

/// What is wrong with the content of a file whose name the reader of that content does not know.
#[derive(Debug)]
pub(super) enum Problem {
    Damaged(String),
    Refused(String, &'static str),
    Code(String),
    /// In another file, which it names.
    Elsewhere(WeightsError),
}

impl Problem {
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    pub(super) fn refused(what: impl Into<String>, remedy: &'static str) -> Self {
        Self::Refused(what.into(), remedy)
    }

    /// The error, now that the file is known. What a hostile file has in place of a name may be of any length.
    pub(super) fn of(self, path: &Path) -> WeightsError {
        let path = path.to_path_buf();
        let cut = |text: String| format!("{text:.LONGEST$}");
        match self {
            Self::Damaged(what) => WeightsError::Damaged { path, what: cut(what) },
            Self::Refused(what, remedy) => WeightsError::Refused { path, what: cut(what), remedy },
            Self::Code(object) => WeightsError::Code { path, object: cut(object) },
            Self::Elsewhere(error) => error,
        }
    }
}

impl From<PickleError> for Problem {
    fn from(error: PickleError) -> Self {
        match error {
            PickleError::Object { name } => Self::Code(name),
            broken => Self::Damaged(format!("its pickle, {broken}")),
        }
    }
}

impl From<WeightsError> for Problem {
    fn from(error: WeightsError) -> Self {
        Self::Elsewhere(error)
    }
}
