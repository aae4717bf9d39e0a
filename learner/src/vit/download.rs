//! One file of the hub, whole and as the hub tells of it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::hub::{Hub, Listing, Remote};
use super::hub_cache::take;
use super::models::Model;
use super::{Event, FetchError};
use crate::durable::{FileError, aside};

const PIECE: usize = 1 << 17;

/// Downloads of a model's files into a folder.
pub(super) struct Download<'a> {
    pub hub: &'a Hub,
    pub model: &'a Model,
    pub listing: &'a Listing,
    pub folder: &'a Path,
}

impl Download<'_> {
    /// Bring a file into the folder, unless it lies there or in the hub's own cache. What an earlier try left is continued; a
    /// connection that breaks is made anew as long as each brings bytes.
    pub fn file(&self, name: &str, progress: &mut dyn FnMut(Event)) -> Result<(), FetchError> {
        let Some(remote) = self.listing.files.get(name) else {
            let reason = format!("its index names {name}, which the hub does not have");
            return Err(FetchError::NoWeights { model: self.model.id.clone(), reason });
        };
        let path = self.folder.join(name);
        if is(&path, remote)? {
            return Ok(());
        }
        if let Some(blob) = self.blob(remote)? {
            return Ok(take(&blob, &path)?);
        }
        progress(Event::File { name: name.into() });
        let mut reached = 0;
        loop {
            match self.attempt(name, remote, progress) {
                Err(FetchError::Cut { done, .. }) if done > reached => reached = done,
                end => return end,
            }
        }
    }

    fn blob(&self, remote: &Remote) -> Result<Option<PathBuf>, FetchError> {
        let (Some(cache), Some(sha256)) = (&self.hub.cache, &remote.sha256) else { return Ok(None) };
        let blob = cache.blob(&self.model.id, sha256);
        Ok(is(&blob, remote)?.then_some(blob))
    }

    fn attempt(&self, name: &str, remote: &Remote, progress: &mut dyn FnMut(Event)) -> Result<(), FetchError> {
        let path = self.folder.join(name);
        let unfinished = aside(&path, "part");
        let part = Part::open(&unfinished, remote)?;
        let file = self.receive(part, name, remote, progress)?;
        check(&unfinished, name, remote)?;
        file.sync_all().map_err(FileError::io("write", &unfinished))?;
        Ok(fs::rename(&unfinished, &path).map_err(FileError::io("rename to", &path))?)
    }

    /// The rest of a file.
    fn receive(
        &self,
        mut part: Part,
        name: &str,
        remote: &Remote,
        progress: &mut dyn FnMut(Event),
    ) -> Result<File, FetchError> {
        if part.done > 0 && Some(part.done) == remote.size {
            return Ok(part.file);
        }
        let response = self.hub.open(self.model, &self.listing.commit, name, part.done)?;
        // Not every server heeds a range: then all comes again.
        if response.status() != 206 {
            part.restart()?;
        }
        let length =
            response.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let total = remote.size.or(length.map(|length| part.done + length));
        let mut body = response.into_body().into_reader();
        let mut counter = Counter::new(part.done, total.unwrap_or(0), progress);
        let mut piece = vec![0; PIECE];
        let cut = |done, reason| FetchError::Cut { file: name.into(), done, reason };
        loop {
            match body.read(&mut piece).map_err(|e| cut(part.done, e.to_string()))? {
                0 => break,
                n => part.write(&piece[..n])?,
            }
            counter.at(part.done);
        }
        match total {
            Some(total) if part.done != total => Err(cut(part.done, format!("{total} were announced"))),
            _ => Ok(part.file),
        }
    }
}

/// A file on its way.
struct Part<'a> {
    path: &'a Path,
    file: File,
    done: u64,
}

impl<'a> Part<'a> {
    /// With what an earlier try left, if the end can tell whether it belongs to the same file.
    fn open(path: &'a Path, remote: &Remote) -> Result<Self, FileError> {
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(FileError::io("open", path))?;
        let done = file.metadata().map_err(FileError::io("open", path))?.len();
        let mut part = Self { path, file, done };
        if remote.sha256.is_none() || remote.size.is_none_or(|size| done > size) {
            part.restart()?;
        }
        Ok(part)
    }

    fn restart(&mut self) -> Result<(), FileError> {
        self.done = 0;
        self.file.set_len(0).map_err(FileError::io("write", self.path))
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), FileError> {
        self.done += piece.len() as u64;
        self.file.write_all(piece).map_err(FileError::io("write", self.path))
    }
}

/// Whether a file is there and certainly the one that the hub tells of.
fn is(path: &Path, remote: &Remote) -> Result<bool, FileError> {
    let Some(wanted) = &remote.sha256 else { return Ok(false) };
    let size = fs::metadata(path).map(|file| file.len()).ok();
    Ok(size.is_some() && (remote.size.is_none() || remote.size == size) && sha256(path)? == *wanted)
}

/// Refuse what is not the file that the hub tells of, and remove it.
fn check(path: &Path, name: &str, remote: &Remote) -> Result<(), FetchError> {
    let Some(wanted) = &remote.sha256 else { return Ok(()) };
    let found = sha256(path)?;
    if found == *wanted {
        return Ok(());
    }
    fs::remove_file(path).map_err(FileError::io("remove", path))?;
    Err(FetchError::Checksum { file: name.into(), found, wanted: wanted.clone() })
}

/// Hexadecimal.
pub(super) fn sha256(path: &Path) -> Result<String, FileError> {
    let mut file = File::open(path).map_err(FileError::io("open", path))?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).map_err(FileError::io("read", path))? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hasher.update(&piece[..n]),
        }
    }
}

/// Reports at each hundredth.
struct Counter<'a> {
    progress: &'a mut dyn FnMut(Event),
    done: u64,
    total: u64,
}

impl<'a> Counter<'a> {
    fn new(done: u64, total: u64, progress: &'a mut dyn FnMut(Event)) -> Self {
        progress(Event::Bytes { done, total });
        Self { progress, done, total }
    }

    fn at(&mut self, done: u64) {
        let percent = |done: u64| done * 100 / self.total.max(1);
        if percent(done) > percent(self.done) {
            (self.progress)(Event::Bytes { done, total: self.total });
        }
        self.done = done;
    }
}
