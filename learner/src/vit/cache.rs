//! The folder of fetched models, and the records of what lies there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::models::Model;
use super::{FetchError, Located, files};
use crate::durable::{FileError, sync_dir, write};

/// Written last: a folder without it is a fetch that was cut short.
const RECORD: &str = "fetched.json";
/// Held by the process that fetches.
const LOCK: &str = ".lock";

/// What is known of a fetched model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// As it was asked for: a short name or an id of the hub.
    pub name: String,
    /// The repository, or the package with its version.
    pub source: String,
    /// Commit of the repository; empty if not known.
    pub revision: String,
    /// What a user of these weights must know; often empty.
    pub note: String,
    /// Its files.
    pub files: BTreeMap<String, Stored>,
}

/// A fetched file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Size.
    pub bytes: u64,
    /// BLAKE3 digest, hexadecimal.
    pub blake3: String,
}

impl Record {
    /// Source and commit, in words.
    pub fn origin(&self) -> String {
        match self.revision.as_str() {
            "" => self.source.clone(),
            revision => format!("{} at {revision}", self.source),
        }
    }
}

/// Where a model's files come from.
#[derive(Debug)]
pub(super) struct Source {
    pub place: String,
    pub revision: String,
    pub note: &'static str,
    pub files: Vec<String>,
}

pub(super) struct Cache {
    pub dir: PathBuf,
}

impl Cache {
    pub fn of_user() -> Result<Self, FetchError> {
        Self::from_variables(super::variable)
    }

    fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, FetchError> {
        let below = |root: &str, rest: &str| get(root).map(|root| Path::new(&root).join(rest));
        let lucid = get("LUCID_CACHE").map(PathBuf::from);
        let dir = lucid.or_else(|| below("XDG_CACHE_HOME", "lucid")).or_else(|| below("HOME", ".cache/lucid"));
        Ok(Self { dir: dir.ok_or(FetchError::NoCache)? })
    }

    pub fn locate(&self, model: &Model) -> Located {
        let folder = self.dir.join(model.folder());
        if folder.join(RECORD).is_file() { Located::Cached(files::opened(&folder)) } else { Located::Missing }
    }

    /// A model's folder, for this process alone: `waiting` is called if another one is fetching into it.
    pub fn lock(&self, model: &Model, waiting: impl FnOnce()) -> Result<Folder, FetchError> {
        let path = self.dir.join(model.folder());
        fs::create_dir_all(&path).map_err(FileError::io("create", &path))?;
        let name = path.join(LOCK);
        let lock = File::create(&name).map_err(FileError::io("create", &name))?;
        match lock.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                waiting();
                lock.lock().map_err(FileError::io("lock", &name))?;
            }
            Err(TryLockError::Error(error)) => return Err(FileError::io("lock", &name)(error).into()),
        }
        Ok(Folder { path, _lock: lock })
    }
}

/// A model's folder while it is filled.
pub(super) struct Folder {
    pub path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Record what lies there now.
    pub fn record(&self, name: &str, source: Source) -> Result<(), FetchError> {
        let stored = |file: String| {
            let stored = stored(&self.path.join(&file))?;
            Ok((file, stored))
        };
        let files = source.files.into_iter().map(stored).collect::<Result<_, FileError>>()?;
        let (source, revision, note) = (source.place, source.revision, source.note.into());
        let record = Record { name: name.into(), source, revision, note, files };
        let path = self.path.join(RECORD);
        let text = serde_json::to_vec_pretty(&record).map_err(|e| FileError::damaged(&path, e))?;
        // Names of the files first: a record must never outlive them.
        sync_dir(&self.path)?;
        write(&path, &text)?;
        Ok(sync_dir(&self.path)?)
    }
}

fn stored(path: &Path) -> Result<Stored, FileError> {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).map_err(FileError::io("open", path))?;
    hasher.update_reader(file).map_err(FileError::io("read", path))?;
    Ok(Stored { bytes: hasher.count(), blake3: hasher.finalize().to_hex().to_string() })
}

/// Check the files of a model, of which one or the folder is given.
pub(super) fn verify(opened: &Path) -> Result<Record, FetchError> {
    let folder = if opened.is_dir() { opened } else { opened.parent().unwrap_or(opened) };
    let path = folder.join(RECORD);
    let text = fs::read(&path).map_err(FileError::io("read", &path))?;
    let record: Record = serde_json::from_slice(&text)
        .map_err(|e| FileError::damaged(&path, format!("{e}; delete it and fetch the model again")))?;
    for (file, wanted) in &record.files {
        let path = folder.join(file);
        if !path.is_file() || stored(&path)? != *wanted {
            return Err(FetchError::Corrupt { path, name: record.name });
        }
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vit_cache_is_where_the_variables_say() {
        let dir = |set: &[(&str, &str)]| {
            let get = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
            Cache::from_variables(get).map(|c| c.dir)
        };
        let all = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("LUCID_CACHE", "/l")];
        assert_eq!(dir(&all).unwrap(), Path::new("/l"));
        assert_eq!(dir(&all[..2]).unwrap(), Path::new("/x/lucid"));
        assert_eq!(dir(&all[..1]).unwrap(), Path::new("/h/.cache/lucid"));
        assert!(matches!(dir(&[]), Err(FetchError::NoCache)));
    }
}
