//! Files of a folder, and how they follow each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::OfflineError;

/// One file of steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// Steps that its name promises; none of a file with another name than the official code's.
    pub length: Option<usize>,
    /// Whether its first step begins an episode, whatever it says: what came before is not there.
    pub begins: bool,
}

/// What the official code puts in the name of a chunk: `TIME-UUID-SUCCESSOR-LENGTH.npz`.
struct Name {
    uuid: String,
    successor: String,
    length: usize,
}

impl Name {
    fn of(path: &Path) -> Option<Self> {
        let stem = path.file_stem()?.to_str()?;
        let parts: Vec<&str> = stem.split('-').collect();
        let [_, uuid, successor, length] = parts[..] else { return None };
        Some(Self { uuid: uuid.into(), successor: successor.into(), length: length.parse().ok()? })
    }
}

/// Streams of a folder: chunks in the order in which each names its successor, and all other files, one after the other by their names,
/// as one.
pub fn streams(folder: &Path) -> Result<Vec<Vec<Source>>, OfflineError> {
    let read = |error| OfflineError::folder(folder, error);
    let entries = fs::read_dir(folder).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
    let is_npz = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "npz");
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_npz).collect();
    paths.sort();
    if paths.is_empty() {
        let inner = folder.join("replay");
        let hint = if inner.is_dir() { format!("; did you mean {}?", inner.display()) } else { String::new() };
        return Err(OfflineError::folder(folder, format!("it has no .npz files{hint}")));
    }
    let (chunks, plain): (Vec<_>, Vec<_>) =
        paths.into_iter().map(|path| (Name::of(&path), path)).partition(|(name, _)| name.is_some());
    let mut streams = join(chunks.into_iter().filter_map(|(name, path)| Some((name?, path))).collect())?;
    let plain = plain.into_iter().map(|(_, path)| Source { path, length: None, begins: true }).collect::<Vec<_>>();
    streams.extend((!plain.is_empty()).then_some(plain));
    Ok(streams)
}

/// Chunks in streams, each with its successors.
fn join(chunks: Vec<(Name, PathBuf)>) -> Result<Vec<Vec<Source>>, OfflineError> {
    let mut at = BTreeMap::new();
    for (index, (name, path)) in chunks.iter().enumerate() {
        if at.insert(name.uuid.as_str(), index).is_some() {
            return Err(OfflineError::file(path, format!("another file is the chunk {} too", name.uuid)));
        }
    }
    let mut followers = BTreeSet::new();
    for (name, path) in &chunks {
        if at.contains_key(name.successor.as_str()) && !followers.insert(name.successor.as_str()) {
            return Err(OfflineError::file(path, format!("two chunks are followed by {}", name.successor)));
        }
    }
    let mut streams = Vec::new();
    for (name, _) in chunks.iter().filter(|(name, _)| !followers.contains(name.uuid.as_str())) {
        let mut stream: Vec<Source> = Vec::new();
        let mut next = Some(name);
        while let Some(index) = next.and_then(|name| at.get(name.uuid.as_str())) {
            let (name, path) = &chunks[*index];
            stream.push(Source { path: path.clone(), length: Some(name.length), begins: stream.is_empty() });
            next = at.get(name.successor.as_str()).map(|index| &chunks[*index].0);
        }
        streams.push(stream);
    }
    let joined: usize = streams.iter().map(Vec::len).sum();
    match chunks.iter().find(|_| joined < chunks.len()) {
        None => Ok(streams),
        Some((_, path)) => Err(OfflineError::file(path, "the successors of the folder's chunks go in a circle")),
    }
}
