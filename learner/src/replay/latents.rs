//! Latents of full blocks in one file that nobody else sees: training overwrites them, and memory would not hold them all.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::layout::Layout;
use super::stream::Columns;
use crate::durable::FileError;

/// A file of slots, each of which holds the latents of one block. It has no name, and goes with the process.
#[derive(Debug)]
pub(super) struct LatentFile {
    file: File,
    /// What it was called, for errors.
    path: PathBuf,
    /// Bytes of each column of a block.
    columns: Vec<usize>,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    count: u64,
    free: Vec<u64>,
}

/// The place of one block.
#[derive(Debug)]
pub(super) struct Slot {
    file: Arc<LatentFile>,
    index: u64,
}

impl LatentFile {
    /// In this folder, for blocks of `chunksize` steps.
    pub fn new(dir: &Path, layout: &Layout, chunksize: usize) -> Result<Arc<Self>, FileError> {
        fs::create_dir_all(dir).map_err(FileError::io("create", dir))?;
        let path = dir.join("latents.tmp");
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(FileError::io("create", &path))?;
        fs::remove_file(&path).map_err(FileError::io("delete", &path))?;
        let columns = layout.part(1).map(|column| column.width() * chunksize).collect();
        Ok(Arc::new(Self { file, path, columns, slots: Mutex::default() }))
    }
}

impl Slot {
    /// A free slot with these columns of a full block.
    pub fn new(file: &Arc<LatentFile>, columns: &Columns) -> Result<Self, FileError> {
        let index = {
            let mut slots = file.slots.lock();
            slots.free.pop().unwrap_or_else(|| {
                slots.count += 1;
                slots.count - 1
            })
        };
        let slot = Self { file: file.clone(), index };
        for (column, bytes) in columns.iter().enumerate() {
            slot.write(column, 0, bytes)?;
        }
        Ok(slot)
    }

    /// All columns.
    pub fn columns(&self) -> Result<Columns, FileError> {
        let read = |(column, bytes): (usize, &usize)| {
            let mut out = vec![0; *bytes];
            self.read(column, 0, &mut out).map(|()| out)
        };
        Ok(Arc::new(self.file.columns.iter().enumerate().map(read).collect::<Result<_, _>>()?))
    }

    /// Bytes of a column from `start` on.
    pub fn read(&self, column: usize, start: usize, out: &mut [u8]) -> Result<(), FileError> {
        let file = &self.file;
        file.file.read_exact_at(out, self.at(column, start)).map_err(FileError::io("read", &file.path))
    }

    /// Overwrite a column from `start` on.
    pub fn write(&self, column: usize, start: usize, bytes: &[u8]) -> Result<(), FileError> {
        let file = &self.file;
        file.file.write_all_at(bytes, self.at(column, start)).map_err(FileError::io("write", &file.path))
    }

    fn at(&self, column: usize, start: usize) -> u64 {
        let columns = &self.file.columns;
        let slot: usize = columns.iter().sum();
        self.index * slot as u64 + (columns[..column].iter().sum::<usize>() + start) as u64
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.file.slots.lock().free.push(self.index);
    }
}

/// Latents as they are at a cut, until they are saved: copied if they are overwritten before that.
#[derive(Debug)]
pub(super) struct Frozen {
    slot: Arc<Slot>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    InSlot,
    Copied(Columns),
    Taken,
}

impl Frozen {
    /// Of this instant; whoever overwrites the slot must call [`Frozen::keep`] before.
    pub fn new(slot: &Arc<Slot>) -> Self {
        Self { slot: slot.clone(), state: Mutex::new(State::InSlot) }
    }

    /// Copy what is still in the slot.
    pub fn keep(&self) -> Result<(), FileError> {
        let mut state = self.state.lock();
        if matches!(*state, State::InSlot) {
            *state = State::Copied(self.slot.columns()?);
        }
        Ok(())
    }

    /// The columns, once: they are not kept any longer.
    pub fn take(&self) -> Result<Columns, FileError> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Copied(columns) => Ok(columns),
            // Read under the lock: an overwrite waits.
            _ => self.slot.columns(),
        }
    }

    /// Whether nobody needs them any more.
    pub fn is_taken(&self) -> bool {
        matches!(*self.state.lock(), State::Taken)
    }
}
