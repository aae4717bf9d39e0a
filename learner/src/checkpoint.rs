//! Checkpoints: everything a run resumes from, as one cut in one folder.
//!
//! A folder is written aside under `<name>.tmp`, each file synced, the list of checksums last, then renamed. So a folder with a
//! final name is complete unless its disk failed, and a crash leaves at most a `.tmp`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use shared::array::Array;
use shared::params::FrozenRecord;

use crate::durable::{self, FileError};
use crate::journal;
use crate::limiter::LimiterState;
use crate::replay::{self, Manifest, Sampled, StepId};

const AGENT: &str = "agent.safetensors";
const STATE: &str = "state.json";
const REPLAY: &str = "replay.json";
/// Written last: the other files and their checksums.
const COMPLETE: &str = "complete.json";

/// Why a checkpoint could not be written or found.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file that could not be written, read or trusted.
    #[error(transparent)]
    File(#[from] FileError),
    /// There are checkpoints, but none can be trusted.
    #[error(
        "none of the {} checkpoints in {} can be used, newest: {}; restore the folder from a copy, \
         or start a new run in another one", damage.len(), dir.display(),
        damage.first().map_or(String::new(), ToString::to_string)
    )]
    NoneUsable {
        /// Folder of the checkpoints.
        dir: PathBuf,
        /// What is wrong with each, newest first.
        damage: Vec<FileError>,
    },
}

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Environment steps inserted in replay, over all resumes.
    pub env_steps: u64,
    /// Updates applied.
    pub updates: u64,
    /// Version of the newest published snapshot.
    pub version: u64,
    /// Episodes ended.
    pub episodes: u64,
    /// Seconds of training, over all resumes.
    pub elapsed: f64,
    /// Newest generation of each actor, by its index; a resumed run starts the next ones.
    pub generations: BTreeMap<u32, u32>,
}

/// A frozen subtree: not stored, but checked and loaded again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    /// BLAKE3 of its tensors, in hexadecimal.
    pub digest: String,
    /// Where its weights came from.
    pub source: String,
    /// BLAKE3 of each tensor by path; empty in checkpoints of before they were kept.
    #[serde(default)]
    pub tensors: BTreeMap<String, String>,
}

impl From<FrozenRecord> for Frozen {
    fn from(record: FrozenRecord) -> Self {
        Self { digest: record.digest, source: record.source, tensors: record.tensors }
    }
}

impl Frozen {
    /// The record of a prefix, as a store compares it.
    pub fn record(&self, prefix: &str) -> FrozenRecord {
        let Self { digest, source, tensors } = self.clone();
        FrozenRecord { prefix: prefix.into(), digest, source, bytes: 0, tensors }
    }
}

/// Everything a run resumes from, taken at one instant between two updates.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// [`crate::agent::Agent::save`].
    pub agent: BTreeMap<String, Array>,
    /// Where the run stands.
    pub counters: Counters,
    /// The train ratio's account.
    pub limiter: LimiterState,
    /// Replay; the steps are in the files it names.
    pub replay: Manifest,
    /// Batches drawn but not trained on yet, oldest first. Prefetching has already used replay's random state for them, so the
    /// next update after a resume is the same only if it trains on these first.
    pub pending: Vec<Sampled>,
    /// Frozen subtrees by path prefix.
    pub frozen: BTreeMap<String, Frozen>,
    /// Fingerprint of the resolved configuration.
    pub config: String,
    /// Fingerprint of the parameter layout.
    pub layout: String,
    /// Number of the journal's file that begins with it.
    pub journal: u64,
}

/// The part of a cut that is small.
#[derive(Serialize, Deserialize)]
struct State {
    counters: Counters,
    limiter: LimiterState,
    frozen: BTreeMap<String, Frozen>,
    config: String,
    layout: String,
    /// 0 in checkpoints of before there was a journal.
    #[serde(default)]
    journal: u64,
    /// Steps and online rows of each pending batch.
    pending: Vec<(Vec<StepId>, usize)>,
}

/// A checkpoint that was read whole.
#[derive(Debug)]
pub struct Loaded {
    /// Its content.
    pub cut: Cut,
    /// Its folder.
    pub path: PathBuf,
    /// Newer ones that were passed over, each to be shown as a warning, newest first.
    pub damaged: Vec<FileError>,
}

/// The checkpoints of one run folder.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    replay: PathBuf,
    keep: usize,
}

/// Update and, where one was saved at the same update before, a serial number.
type Name = (u64, u32);

impl Checkpoints {
    /// Those in `<run>/checkpoints`, with replay's files in `<run>/replay`; `keep` complete ones are kept, at least one.
    pub fn new(run: &Path, keep: usize) -> Self {
        Self { dir: run.join("checkpoints"), replay: run.join("replay"), keep: keep.max(1) }
    }

    /// Folder of replay's files.
    pub fn replay_dir(&self) -> &Path {
        &self.replay
    }

    /// Write a cut, then delete checkpoints beyond `keep`, and the replay files and journals that only those needed.
    /// Cuts are to be saved in the order in which their replay manifests were made.
    pub fn save(&self, cut: &Cut) -> Result<PathBuf, CheckpointError> {
        fs::create_dir_all(&self.dir).map_err(FileError::io("create", &self.dir))?;
        let update = cut.counters.updates;
        let serial = self.names()?.iter().filter(|(u, _)| *u == update).map(|(_, serial)| serial + 1).max();
        let path = self.dir.join(folder((update, serial.unwrap_or(0))));
        let aside = path.with_extension("tmp");
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(FileError::io("delete", &aside))?;
        }
        write_folder(&aside, cut)?;
        fs::rename(&aside, &path).map_err(FileError::io("rename to", &path))?;
        durable::sync_dir(&self.dir)?;
        self.prune()?;
        Ok(path)
    }

    /// The newest complete checkpoint, or none if the run has none. Changes nothing, so it may be asked of a live run.
    pub fn latest(&self) -> Result<Option<Loaded>, CheckpointError> {
        let mut damaged = Vec::new();
        for name in self.names()?.into_iter().rev() {
            let path = self.dir.join(folder(name));
            match read_folder(&path) {
                Ok(cut) => return Ok(Some(Loaded { cut, path, damaged })),
                Err(error) => damaged.push(error),
            }
        }
        match damaged.is_empty() {
            true => Ok(None),
            false => Err(CheckpointError::NoneUsable { dir: self.dir.clone(), damage: damaged }),
        }
    }

    /// For the learner that owns the run, before it resumes: set aside what a crash left unfinished, as `<name>.incomplete`.
    /// Returns the new paths.
    pub fn set_incomplete_aside(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let unfinished = |path: &PathBuf| path.extension().is_some_and(|e| e == "tmp");
        let mut moved = Vec::new();
        for path in self.entries()?.into_iter().filter(unfinished) {
            moved.push(set_aside(&path)?);
        }
        self.forget_aside()?;
        Ok(moved)
    }

    /// Of what was set aside, only the newest is kept to be looked at: a run of weeks may see many.
    fn forget_aside(&self) -> Result<(), CheckpointError> {
        let mut aside = self.entries()?;
        aside.retain(|path| path.extension().is_some_and(|e| e == "incomplete"));
        aside.sort();
        aside.pop();
        aside.iter().try_for_each(|path| fs::remove_dir_all(path).map_err(FileError::io("delete", path)))?;
        Ok(())
    }

    /// For the learner that owns the run, once it has resumed from `loaded`: set the damaged newer checkpoints aside, so that they
    /// are not counted among those kept, and delete replay files that are of no use.
    pub fn resumed_from(&self, loaded: &Loaded) -> Result<Vec<PathBuf>, CheckpointError> {
        let mut moved = Vec::new();
        let newer = |name: &Name| Some(self.dir.join(folder(*name))).filter(|path| *path > loaded.path);
        for path in self.names()?.iter().filter_map(newer) {
            moved.push(set_aside(&path)?);
        }
        self.forget_aside()?;
        if let Ok(needed) = self.replay_files(&self.names()?) {
            replay::sweep(&self.replay, &needed)?;
        }
        Ok(moved)
    }

    /// Delete checkpoints beyond `keep`, then the replay files that only they named. Files of a save under way are not touched.
    fn prune(&self) -> Result<(), CheckpointError> {
        let names = self.names()?;
        let (old, kept) = names.split_at(names.len().saturating_sub(self.keep));
        let needed = self.replay_files(kept);
        let mut dropped = BTreeSet::new();
        for name in old {
            dropped.extend(self.replay_files(std::slice::from_ref(name)).unwrap_or_default());
            let path = self.dir.join(folder(*name));
            fs::remove_dir_all(&path).map_err(FileError::io("delete", &path))?;
        }
        // Where a kept checkpoint cannot tell what it needs, nothing is deleted.
        let Ok(needed) = needed else { return Ok(()) };
        for path in dropped.difference(&needed).map(|file| self.replay.join(file)).filter(|path| path.exists()) {
            fs::remove_file(&path).map_err(FileError::io("delete", &path))?;
        }
        let first = |name: &Name| {
            let state: State = read_json(&self.dir.join(folder(*name)).join(STATE))?;
            Ok::<_, FileError>(state.journal)
        };
        let Ok(firsts) = kept.iter().map(first).collect::<Result<Vec<_>, _>>() else { return Ok(()) };
        Ok(firsts.into_iter().min().map_or(Ok(()), |first| journal::prune(&self.replay, first))?)
    }

    /// Names of the replay files that these checkpoints need.
    fn replay_files(&self, names: &[Name]) -> Result<BTreeSet<String>, FileError> {
        let mut files = BTreeSet::new();
        for name in names {
            let manifest: Manifest = read_json(&self.dir.join(folder(*name)).join(REPLAY))?;
            files.extend(manifest.files().map(String::from));
        }
        Ok(files)
    }

    /// Folders with a final name, oldest first.
    fn names(&self) -> Result<Vec<Name>, FileError> {
        let name = |path: PathBuf| parse(path.file_name()?.to_str()?);
        let mut names: Vec<Name> = self.entries()?.into_iter().filter_map(name).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn entries(&self) -> Result<Vec<PathBuf>, FileError> {
        if !self.dir.exists() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&self.dir).map_err(FileError::io("list", &self.dir))?;
        entries.map(|e| e.map(|e| e.path()).map_err(FileError::io("list", &self.dir))).collect()
    }
}

/// Names sort like their numbers.
fn folder((update, serial): Name) -> String {
    if serial == 0 { format!("{update:012}") } else { format!("{update:012}-{serial:04}") }
}

fn parse(name: &str) -> Option<Name> {
    let (update, serial) = name.split_once('-').unwrap_or((name, "0"));
    let parsed = (update.parse().ok()?, serial.parse().ok()?);
    (folder(parsed) == name).then_some(parsed)
}

fn set_aside(path: &Path) -> Result<PathBuf, FileError> {
    let target = path.with_extension("incomplete");
    if target.exists() {
        fs::remove_dir_all(&target).map_err(FileError::io("delete", &target))?;
    }
    fs::rename(path, &target).map_err(FileError::io("rename to", &target))?;
    Ok(target)
}

fn write_folder(dir: &Path, cut: &Cut) -> Result<(), FileError> {
    fs::create_dir(dir).map_err(FileError::io("create", dir))?;
    let mut digests = BTreeMap::new();
    let mut write = |name: &str, bytes: Vec<u8>| {
        digests.insert(name.to_string(), blake3::hash(&bytes).to_hex().to_string());
        durable::write(&dir.join(name), &bytes)
    };
    write(AGENT, durable::encode_arrays(&dir.join(AGENT), &cut.agent)?)?;
    for (index, sampled) in cut.pending.iter().enumerate() {
        let name = pending_file(index);
        write(&name, durable::encode_arrays(&dir.join(&name), &sampled.batch)?)?;
    }
    let state = State {
        counters: cut.counters.clone(),
        limiter: cut.limiter,
        frozen: cut.frozen.clone(),
        config: cut.config.clone(),
        layout: cut.layout.clone(),
        journal: cut.journal,
        pending: cut.pending.iter().map(|s| (s.ids.clone(), s.from_online)).collect(),
    };
    write(STATE, json(&dir.join(STATE), &state)?)?;
    write(REPLAY, json(&dir.join(REPLAY), &cut.replay)?)?;
    durable::write(&dir.join(COMPLETE), &json(&dir.join(COMPLETE), &digests)?)?;
    durable::sync_dir(dir)
}

fn read_folder(dir: &Path) -> Result<Cut, FileError> {
    let digests: BTreeMap<String, String> = read_json(&dir.join(COMPLETE))?;
    let read = |name: &str| {
        let path = dir.join(name);
        let digest =
            digests.get(name).ok_or_else(|| FileError::damaged(&path, format!("{COMPLETE} does not list it")))?;
        durable::read_checked(&path, digest).map(|bytes| (path, bytes))
    };
    let arrays = |name: &str| read(name).and_then(|(path, bytes)| durable::decode(&path, &bytes));
    let (path, bytes) = read(STATE)?;
    let State { counters, limiter, frozen, config, layout, journal, pending } = parse_json(&path, &bytes)?;
    let (path, bytes) = read(REPLAY)?;
    let pending = pending
        .into_iter()
        .enumerate()
        .map(|(index, (ids, from_online))| Ok(Sampled { batch: arrays(&pending_file(index))?, ids, from_online }));
    Ok(Cut {
        agent: arrays(AGENT)?,
        counters,
        limiter,
        replay: parse_json(&path, &bytes)?,
        pending: pending.collect::<Result<_, FileError>>()?,
        frozen,
        config,
        layout,
        journal,
    })
}

fn pending_file(index: usize) -> String {
    format!("pending-{index}.safetensors")
}

fn json(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, FileError> {
    serde_json::to_vec(value).map_err(|e| FileError::damaged(path, e))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    parse_json(path, &fs::read(path).map_err(FileError::io("read", path))?)
}

fn parse_json<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, FileError> {
    serde_json::from_slice(bytes).map_err(|e| FileError::damaged(path, e))
}

#[cfg(test)]
mod tests;
