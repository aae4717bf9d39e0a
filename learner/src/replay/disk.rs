//! Steps that are on disk only: those of full blocks, which never change, read when they are drawn.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use safetensors::SafeTensors;

use super::latents::Slot;
use super::layout::Layout;
use crate::durable::FileError;

/// The columns of one part of a block, in their file.
#[derive(Debug)]
pub(super) struct OnDisk {
    path: PathBuf,
    /// Where each column begins, bytes.
    starts: Vec<u64>,
    /// Whether a checkpoint names the file.
    named: AtomicBool,
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
        Ok(Self { path: path.to_path_buf(), starts, named: AtomicBool::new(false) })
    }

    /// From now on a checkpoint names the file, and the file lives as long as that.
    pub fn name(&self) {
        self.named.store(true, Ordering::Relaxed);
    }
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
