//! Files that survive a crash: written aside, synced, renamed; and named arrays as safetensors.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use shared::array::{Array, DType};

/// Why a file could not be written or trusted.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write", …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is there, but its content is not what was written.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
}

impl FileError {
    /// For `map_err`: adds what was tried, and on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// A file whose content is wrong.
    pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Self {
        Self::Damaged { path: path.to_path_buf(), reason: reason.to_string() }
    }
}

/// Write a file so that it is either whole or absent under its name. The folder is synced by [`sync_dir`], once for many files.
///
/// A pipe or device under that name (`--out /dev/null`) is written to: a rename would put a file in its place.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return fs::write(path, bytes).map_err(FileError::io("write", path));
    }
    let aside = aside(path, "tmp");
    let mut file = File::create(&aside).map_err(FileError::io("create", &aside))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(FileError::io("write", &aside))?;
    fs::rename(&aside, path).map_err(FileError::io("rename to", path))
}

/// The name of a file that is to become the one at this path.
pub(crate) fn aside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Make renames and new names in a folder survive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), FileError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(FileError::io("sync", dir))
}

/// Read a file and check its BLAKE3 digest, in hexadecimal.
pub(crate) fn read_checked(path: &Path, digest: &str) -> Result<Vec<u8>, FileError> {
    let bytes = fs::read(path).map_err(FileError::io("read", path))?;
    if blake3::hash(&bytes).to_hex().as_str() != digest {
        let reason = format!("its {} bytes do not match the recorded checksum (cut short or changed)", bytes.len());
        return Err(FileError::damaged(path, reason));
    }
    Ok(bytes)
}

/// One named array on its way into a file: key, element type, shape, little-endian bytes.
pub(crate) type View<'a> = (&'a str, DType, Vec<usize>, &'a [u8]);

/// Named arrays in safetensors format; `path` is only for the error.
pub(crate) fn encode<'a>(path: &Path, views: impl IntoIterator<Item = View<'a>>) -> Result<Vec<u8>, FileError> {
    let damaged = |e: safetensors::SafeTensorError| FileError::damaged(path, e);
    let tensors = views
        .into_iter()
        .map(|(key, dtype, shape, bytes)| Ok((key, TensorView::new(to_file(dtype), shape, bytes).map_err(damaged)?)))
        .collect::<Result<Vec<_>, FileError>>()?;
    safetensors::serialize(tensors, None).map_err(damaged)
}

/// [`encode`] for whole arrays.
pub(crate) fn encode_arrays(path: &Path, arrays: &BTreeMap<String, Array>) -> Result<Vec<u8>, FileError> {
    encode(path, arrays.iter().map(|(k, a)| (k.as_str(), a.dtype, a.shape.clone(), a.bytes.as_slice())))
}

/// Named arrays from safetensors bytes; `path` is only for the error.
pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Array>, FileError> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| FileError::damaged(path, e))?;
    let array = |(key, view): (String, TensorView)| {
        let dtype = from_file(view.dtype())
            .ok_or_else(|| FileError::damaged(path, format!("{key} has the unknown type {:?}", view.dtype())))?;
        Ok((key, Array { dtype, shape: view.shape().to_vec(), bytes: view.data().to_vec() }))
    };
    file.tensors().into_iter().map(array).collect()
}

fn to_file(dtype: DType) -> Dtype {
    match dtype {
        DType::U8 => Dtype::U8,
        DType::U16 => Dtype::U16,
        DType::I32 => Dtype::I32,
        DType::U64 => Dtype::U64,
        DType::F16 => Dtype::F16,
        DType::F32 => Dtype::F32,
    }
}

fn from_file(dtype: Dtype) -> Option<DType> {
    [DType::U8, DType::U16, DType::I32, DType::U64, DType::F16, DType::F32].into_iter().find(|d| to_file(*d) == dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileTypeExt;
    use std::thread;

    /// As root, a rename over `/dev/null` leaves every other program of the host with a plain file.
    #[test]
    fn a_pipe_is_written_to_and_stays_a_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        let reader = thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write(&pipe, b"frames").unwrap();
        assert_eq!(reader.join().unwrap(), b"frames");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
