//! Why experience is not imported.

use std::path::{Path, PathBuf};

/// What is wrong with a folder of experience. Nothing of it has been imported.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum OfflineError {
    /// The folder.
    #[error("nothing can be imported from {} (replay.import): {what}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file as a whole.
    #[error("{} cannot be imported: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// An array of a file.
    #[error("{} cannot be imported: `{key}`{} {what}", path.display(), step.map_or(String::new(), |step| format!(" at step {step}")))]
    #[diagnostic(help(
        "env.* and vit.* of the run must be those that the steps were recorded with; docs/offline_data.md says what is read"
    ))]
    Entry {
        /// Which file.
        path: PathBuf,
        /// Which array.
        key: String,
        /// At which step of the file, from 0.
        step: Option<usize>,
        /// What is wrong.
        what: String,
    },
}

impl OfflineError {
    pub(super) fn folder(path: &Path, what: impl ToString) -> Self {
        Self::Folder { path: path.to_path_buf(), what: what.to_string() }
    }

    pub(super) fn file(path: &Path, what: impl ToString) -> Self {
        Self::File { path: path.to_path_buf(), what: what.to_string() }
    }
}
