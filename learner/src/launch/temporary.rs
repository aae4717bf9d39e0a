//! The folder where processes of a run find each other: a door is a socket in it. A killed process leaves its doors there; they go with
//! the folder.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, getuid, test_kill_process};

/// The launcher's folder; removed when dropped.
pub struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// A new one for this process, whose doors are there from now on. Those of launchers that were killed are removed.
    pub fn open() -> std::io::Result<Self> {
        let base = std::env::temp_dir();
        sweep(&base);
        let path = base.join(name(std::process::id()));
        DirBuilder::new().mode(0o700).create(&path)?;
        enter(&path);
        Ok(Self { path })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// In a child: its doors are in the launcher's folder from now on.
pub fn join(launcher: u32) {
    let path = std::env::temp_dir().join(name(launcher));
    if path.is_dir() {
        enter(&path);
    }
}

/// In a child that outlives its launcher.
pub fn remove_of(launcher: u32) {
    remove(&std::env::temp_dir().join(name(launcher)));
}

fn name(launcher: u32) -> String {
    format!("lucid-{launcher}")
}

fn enter(path: &Path) {
    // Fails only in a process that has entered one before: a test that plays several.
    let _ = tempfile::env::override_temp_dir(path);
}

/// What cannot be removed is tried again by the next launcher.
fn remove(path: &Path) {
    let _ = fs::remove_dir_all(path);
}

fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let launcher = file.to_str().and_then(|file| file.strip_prefix("lucid-")?.parse::<u32>().ok());
        let Some(launcher) = launcher.filter(|launcher| is_gone(*launcher)) else { continue };
        let own = entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == getuid().as_raw());
        if own && file.to_str() == Some(&name(launcher)) {
            remove(&entry.path());
        }
    }
}

/// Whether a process of this number, other than this one, runs.
fn is_gone(process: u32) -> bool {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    process == std::process::id() || pid.is_none_or(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_launchers_that_are_gone_are_swept() {
        let base = tempfile::tempdir().unwrap();
        let parent = std::os::unix::process::parent_id();
        let [gone, runs, other, file] = [name(u32::MAX), name(parent), "lucid-x".into(), name(u32::MAX - 1)];
        for folder in [&gone, &runs, &other] {
            fs::create_dir(base.path().join(folder)).unwrap();
        }
        fs::write(base.path().join(gone).join("socket"), "").unwrap();
        fs::write(base.path().join(&file), "").unwrap();
        sweep(base.path());
        let mut left: Vec<_> = fs::read_dir(base.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        let mut expected = [runs, other, file];
        expected.sort();
        assert_eq!(left, expected.map(std::ffi::OsString::from));
    }
}
