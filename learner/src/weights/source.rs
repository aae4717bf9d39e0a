//! The files that tensors lie in, mapped into memory: only the pages that are looked at are read.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::error::{Problem, WeightsError};

/// A file or bytes in memory.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    bytes: Arc<Bytes>,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Memory(Vec<u8>),
}

impl Source {
    /// Map a file.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        // Asked before it is opened: opening a pipe would wait for its writer.
        let found = fs::metadata(path).map_err(WeightsError::io("find", path))?;
        if !found.is_file() {
            return Err(Problem::refused("this is no file", "name a file of weights").of(path));
        }
        let file = File::open(path).map_err(WeightsError::io("open", path))?;
        let bytes = match found.len() {
            // An empty file cannot be mapped.
            0 => Bytes::Memory(vec![]),
            // SAFETY: the map is only read, and never as anything but bytes, of which every value is valid. Whoever shortens
            // the file meanwhile ends this process with a bus error, as for every program that maps files.
            _ => Bytes::Mapped(unsafe { Mmap::map(&file) }.map_err(WeightsError::io("map", path))?),
        };
        Ok(Self { path: path.to_path_buf(), bytes: Arc::new(bytes) })
    }

    /// Bytes that are in memory already.
    pub fn memory(bytes: Vec<u8>) -> Self {
        Self { path: "<bytes in memory>".into(), bytes: Arc::new(Bytes::Memory(bytes)) }
    }
}

impl Deref for Source {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Memory(bytes) => bytes,
        }
    }
}

/// The file beside another that has this name; a name with a folder in it is refused.
pub(super) fn beside(folder: &Path, name: &str) -> Result<PathBuf, Problem> {
    match Path::new(name).file_name() == Some(name.as_ref()) {
        true => Ok(folder.join(name)),
        false => Err(Problem::refused(
            format!("it refers to `{name}`, which is no plain name of a file beside it"),
            "put all files of the weights into one folder",
        )),
    }
}
