//! The hub's own cache on this machine, which its other clients fill.

use std::fs;
use std::path::{Path, PathBuf};

use super::models::Model;
use crate::durable::{FileError, aside};

/// Its folder.
pub(super) struct HubCache(pub PathBuf);

/// A model's files as of one commit, perhaps not all.
pub(super) struct Snapshot {
    pub commit: String,
    pub dir: PathBuf,
}

impl HubCache {
    fn model(&self, id: &str) -> PathBuf {
        self.0.join(format!("models--{}", id.replace('/', "--")))
    }

    /// A large file by its digest.
    pub fn blob(&self, id: &str, sha256: &str) -> PathBuf {
        self.model(id).join("blobs").join(sha256)
    }

    /// What lies there of a model.
    pub fn snapshot(&self, model: &Model) -> Option<Snapshot> {
        let folder = self.model(&model.id);
        let named = fs::read_to_string(folder.join("refs").join(&model.revision)).ok();
        let commit = named.map_or_else(|| model.revision.clone(), |commit| commit.trim().to_string());
        let dir = folder.join("snapshots").join(&commit);
        dir.is_dir().then_some(Snapshot { commit, dir })
    }
}

/// Put a file of that cache elsewhere too: as a second name of it, or as a copy where there can be none.
pub(super) fn take(from: &Path, to: &Path) -> Result<(), FileError> {
    let from = from.canonicalize().map_err(FileError::io("find", from))?;
    let copy = aside(to, "copy");
    let _ = fs::remove_file(&copy);
    fs::hard_link(&from, &copy)
        .or_else(|_| fs::copy(&from, &copy).and_then(|_| fs::File::open(&copy)?.sync_all()))
        .map_err(FileError::io("copy", &from))?;
    fs::rename(&copy, to).map_err(FileError::io("rename to", to))
}
