//! Pictures in a run's folder `media`, as the page shows them.
//!
//! `{kind}-{name}-{step}.gif` or `.png`: what is shown, of which observation or environment, and the environment step in 12 digits.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;

/// The folder in a run folder.
const FOLDER: &str = "media";
/// Most pictures listed: the newest.
const MOST: usize = 5000;
/// Most bytes of one that is shown.
const LARGEST: u64 = 64 << 20;

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Picture {
    /// What is shown: `openloop` or `eval`.
    pub kind: String,
    /// Key of an observation, or number of an environment.
    pub name: String,
    /// Environment steps when it was made.
    pub step: u64,
    /// Name of its file.
    pub file: String,
}

impl Picture {
    /// From the name of its file; none for any other name, so that no name leads elsewhere.
    fn of(file: &str) -> Option<Self> {
        let mut parts = file.strip_suffix(".gif").or_else(|| file.strip_suffix(".png"))?.split('-');
        let (kind, name, digits) = (parts.next()?, parts.next()?, parts.next()?);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let known = ["openloop", "eval"].contains(&kind) && !name.is_empty() && name.chars().all(plain);
        let step: u64 = digits.parse().ok()?;
        let whole = known && parts.next().is_none() && digits == format!("{step:012}");
        whole.then(|| Self { kind: kind.into(), name: name.into(), step, file: file.into() })
    }

    /// Its type, as browsers are told.
    pub fn content_type(file: &str) -> &'static str {
        if file.ends_with(".gif") { "image/gif" } else { "image/png" }
    }
}

/// Pictures of a run by kind, name and step; none if it has no such folder.
pub fn list(run: &Path) -> Vec<Picture> {
    let folder = run.join(FOLDER);
    let is_folder = folder.symlink_metadata().is_ok_and(|folder| folder.is_dir());
    let entries = is_folder.then(|| folder.read_dir().ok()).flatten().into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let mut pictures: Vec<_> = files.filter_map(|entry| Picture::of(entry.file_name().to_str()?)).collect();
    pictures.sort_by_key(|picture| std::cmp::Reverse(picture.step));
    pictures.truncate(MOST);
    pictures.sort();
    pictures
}

/// The bytes of a picture; none for what is none, or is too large to show.
pub fn read(run: &Path, file: &str) -> std::io::Result<Option<Vec<u8>>> {
    let (folder, path) = (run.join(FOLDER), run.join(FOLDER).join(file));
    let own = Picture::of(file).is_some()
        && folder.symlink_metadata().is_ok_and(|folder| folder.is_dir())
        && path.symlink_metadata().is_ok_and(|file| file.is_file());
    if !own {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= LARGEST).then_some(bytes))
}
