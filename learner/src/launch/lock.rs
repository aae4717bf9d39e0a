//! A run folder belongs to one launcher, and its files to one learner.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::RunError;
use crate::error::io;

/// A lock that ends with the process that holds it, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Take the lock `name` of a run folder, waiting for its holder up to `patience`; an error names the holder.
    pub fn take(dir: &Path, name: &str, patience: Duration) -> Result<Self, RunError> {
        let path = dir.join(name);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(io("open", &path))?;
        let deadline = Instant::now() + patience;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= deadline {
                return Err(in_use(dir, &mut file));
            }
            thread::sleep(Duration::from_millis(20));
        }
        let write = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        write.map_err(io("write", &path))?;
        Ok(Self { _file: file })
    }

    /// The process that holds the lock `name` of a run folder; none if nobody does.
    pub fn holder(dir: &Path, name: &str) -> Option<u32> {
        let mut file = File::open(dir.join(name)).ok()?;
        let held = flock(&file, FlockOperation::NonBlockingLockShared).is_err();
        let mut pid = String::new();
        file.read_to_string(&mut pid).ok().filter(|_| held)?;
        pid.trim().parse().ok()
    }
}

fn in_use(dir: &Path, file: &mut File) -> RunError {
    let mut pid = String::new();
    // Unreadable: then the message goes without the number.
    let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut pid));
    RunError::Folder {
        path: dir.to_path_buf(),
        message: format!("in use by process {}", if pid.is_empty() { "?" } else { pid.trim() }),
        help: "wait for that run to end, stop it with Ctrl-C, or choose another folder with --run".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_names_its_process_and_is_free_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let held = RunLock::take(dir.path(), "lock", Duration::ZERO).unwrap();
        let error = RunLock::take(dir.path(), "lock", Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert_eq!(RunLock::holder(dir.path(), "lock"), Some(std::process::id()));
        drop(held);
        assert_eq!(RunLock::holder(dir.path(), "lock"), None);
        RunLock::take(dir.path(), "lock", Duration::ZERO).unwrap();
    }
}
