//! Steps that are on disk only: those of full blocks, which never change, read when they are drawn.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use safetensors::SafeTensors;

use super::latents::Slot;
use super::layout::Layout;
use crate::durable::{self, FileError};

/// The columns of one part of a block, in their file.
#[derive(Debug)]
pub(super) struct OnDisk {
    path: PathBuf,
    /// Where each column begins, bytes.
    starts: Vec<u64>,
    /// Whether a checkpoint names the file.
    named: AtomicBool,
    /// BLAKE3 of a file that was found and not read yet, in hexadecimal.
    unread: Mutex<Option<String>>,
}

impl OnDisk {
    /// The columns of part `part` in the bytes of the file at `path`.
    pub fn new(path: &Path, layout: &Layout, part: usize, bytes: &[u8]) -> Result<Self, FileError> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| FileError::damaged(path, e))?;
        let start = |column: &super::Column| {
            let data = file.tensor(&column.key).map_err(|e| FileError::damaged(path, e))?;
            // The view is a slice of `bytes`.
            Ok((data.data().as_ptr() as usize - bytes.as_ptr() as usize) as u64)
        };
        let starts = layout.part(part).map(start).collect::<Result<_, FileError>>()?;
        Ok(Self { path: path.to_path_buf(), starts, named: AtomicBool::new(false), unread: Mutex::new(None) })
    }

    /// Of a file that has this digest, with `len` steps: looked at now, and compared when it is first read from.
    pub fn find(path: &Path, layout: &Layout, part: usize, len: usize, digest: &str) -> Result<Self, FileError> {
        let failed = |doing| FileError::io(doing, path);
        let mut file = File::open(path).map_err(failed("open"))?;
        let size = file.metadata().map_err(failed("read"))?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(failed("read"))?;
        let begin = u64::from_le_bytes(length).saturating_add(8);
        if begin > size {
            return Err(FileError::damaged(path, "its header is longer than the file"));
        }
        let mut header = vec![0; (begin - 8) as usize];
        file.read_exact(&mut header).map_err(failed("read"))?;
        let header: BTreeMap<String, Entry> =
            serde_json::from_slice(&header).map_err(|e| FileError::damaged(path, e))?;
        let start = |column: &super::Column| {
            let offsets = header.get(&column.key).map(|entry| entry.data_offsets);
            let whole = |[from, to]: &[u64; 2]| {
                to.checked_sub(*from) == Some((column.width() * len) as u64) && begin.saturating_add(*to) <= size
            };
            let [from, _] = offsets
                .filter(whole)
                .ok_or_else(|| FileError::damaged(path, format!("it does not hold {len} steps of {:?}", column.key)))?;
            Ok(begin + from)
        };
        let starts = layout.part(part).map(start).collect::<Result<_, FileError>>()?;
        let unread = Mutex::new(Some(digest.to_string()));
        Ok(Self { path: path.to_path_buf(), starts, named: AtomicBool::new(true), unread })
    }

    /// Before the first bytes of it are used.
    fn check(&self) -> Result<(), FileError> {
        let mut unread = self.unread.lock();
        if let Some(digest) = &*unread {
            durable::read_checked(&self.path, digest)?;
        }
        *unread = None;
        Ok(())
    }

    /// From now on a checkpoint names the file, and the file lives as long as that.
    pub fn name(&self) {
        self.named.store(true, Ordering::Relaxed);
    }
}

/// What a file's header says of a column.
#[derive(serde::Deserialize)]
struct Entry {
    data_offsets: [u64; 2],
}

impl Drop for OnDisk {
    /// A file that no checkpoint names goes with the steps in it. One that cannot be deleted is swept at the next start.
    fn drop(&mut self) {
        if !self.named.load(Ordering::Relaxed) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Bytes of a batch that are still in a file.
pub(super) struct Missing {
    source: Source,
    column: usize,
    /// Where they begin in the column.
    start: usize,
    /// Where they belong in the column of the batch.
    at: usize,
    len: usize,
}

enum Source {
    Steps(Arc<File>, Arc<OnDisk>),
    Latents(Arc<Slot>),
}

impl Missing {
    /// Latents: `len` bytes of column `column`, from byte `start` on, which belong at `at` of a column of the batch. They are read as
    /// they are by then.
    pub fn latents(slot: &Arc<Slot>, column: usize, [start, at, len]: [usize; 3]) -> Self {
        Self { source: Source::Latents(slot.clone()), column, start, at, len }
    }

    /// Read them.
    pub fn read(&self, column: &mut [u8]) -> Result<(), FileError> {
        let into = &mut column[self.at..self.at + self.len];
        match &self.source {
            Source::Latents(slot) => slot.read(self.column, self.start, into),
            Source::Steps(file, from) => {
                from.check()?;
                let start = from.starts[self.column] + self.start as u64;
                file.read_exact_at(into, start).map_err(FileError::io("read", &from.path))
            }
        }
    }
}

/// Files of one draw: each is opened once, so that it can be read to the end even if its block is freed meanwhile.
#[derive(Default)]
pub(super) struct Files {
    open: Vec<(Arc<OnDisk>, Arc<File>)>,
}

impl Files {
    /// Steps, as [`Missing::latents`].
    pub fn missing(
        &mut self,
        from: &Arc<OnDisk>,
        column: usize,
        [start, at, len]: [usize; 3],
    ) -> Result<Missing, FileError> {
        let known = self.open.iter().find(|(known, _)| Arc::ptr_eq(known, from)).map(|(_, file)| file.clone());
        let file = match known {
            Some(file) => file,
            None => {
                let file = Arc::new(File::open(&from.path).map_err(FileError::io("open", &from.path))?);
                self.open.push((from.clone(), file.clone()));
                file
            }
        };
        Ok(Missing { source: Source::Steps(file, from.clone()), column, start, at, len })
    }
}
