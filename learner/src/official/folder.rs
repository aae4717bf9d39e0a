//! The files of a checkpoint: `latest` names a folder, which holds `agent.pkl`, `step.pkl`, `replay.pkl` and, once complete,
//! `done` (`elements.Checkpoint`, and `embodied/run/train.py` and `parallel.py` of the official code).

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use shared::params::Tree;

use super::{OfficialError, content};
use crate::durable::{self, FileError};
use crate::pickle::{Item, Pickle, Value, write as write_pickle};

const AGENT: &str = "agent.pkl";
const STEP: &str = "step.pkl";
const REPLAY: &str = "replay.pkl";
const DONE: &str = "done";
const LATEST: &str = "latest";
/// Several paths may share one array of the file, which is copied for each: all copies together are at most this many times the
/// file's size.
const SHARING: usize = 8;

/// What Lucid takes from a checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// Everything that the agent saves, by path: parameters, slow value, optimizer state, normalisers.
    pub values: Tree,
    /// Environment steps.
    pub step: u64,
}

/// Read the checkpoint in `dir`: a logdir, its `ckpt` folder (the newest counts), or one checkpoint's folder.
pub fn read(dir: &Path) -> Result<Checkpoint, OfficialError> {
    let path = locate(dir)?;
    if !path.join(DONE).exists() {
        return Err(OfficialError::Unfinished { path });
    }
    let values = read_pickle(&path.join(AGENT), arrays)?;
    let step = read_pickle(&step_file(&path)?, |file, value, _| {
        let step = value.integer().and_then(|step| u64::try_from(step).ok());
        step.ok_or_else(|| content(file, "no count of environment steps"))
    })?;
    Ok(Checkpoint { path, values, step })
}

fn locate(dir: &Path) -> Result<PathBuf, OfficialError> {
    for base in [dir.to_path_buf(), dir.join("ckpt"), dir.join("ckpt/agent"), dir.join("agent")] {
        if base.join(AGENT).exists() {
            return Ok(base);
        }
        if let Some(path) = latest(&base)?.filter(|path| path.join(AGENT).exists()) {
            return Ok(path);
        }
    }
    Err(OfficialError::Absent { path: dir.to_path_buf() })
}

/// The folder that `latest` names, if there is such a file.
fn latest(base: &Path) -> Result<Option<PathBuf>, OfficialError> {
    let file = base.join(LATEST);
    if !file.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&file).map_err(FileError::io("read", &file))?;
    let name = text.trim();
    match Path::new(name).file_name() == Some(OsStr::new(name)) {
        true => Ok(Some(base.join(name))),
        false => Err(content(&file, format!("`{name}` is no name of a folder beside it"))),
    }
}

/// Beside the agent, or, where the official code ran as several processes, with its logger.
fn step_file(path: &Path) -> Result<PathBuf, OfficialError> {
    let beside = path.join(STEP);
    let logger = path.join("../../logger");
    Ok(match latest(&logger)? {
        Some(logger) if !beside.exists() => logger.join(STEP),
        _ => beside,
    })
}

/// Read a file and take what is needed from its content; told the file's size, too.
fn read_pickle<T>(
    file: &Path,
    take: impl FnOnce(&Path, Value, usize) -> Result<T, OfficialError>,
) -> Result<T, OfficialError> {
    let bytes = fs::read(file).map_err(FileError::io("read", file))?;
    let pickle = Pickle::read(&bytes);
    let pickle = pickle.map_err(|source| OfficialError::Pickle { path: file.to_path_buf(), source })?;
    take(file, pickle.value(), bytes.len())
}

/// The arrays in `params`, by path.
fn arrays(file: &Path, value: Value, size: usize) -> Result<Tree, OfficialError> {
    let agent = value.entries().unwrap_or_default();
    let params = agent.get("params").and_then(|params| params.entries());
    let params = params.ok_or_else(|| content(file, "no dict `params` by path"))?;
    let mut left = size.saturating_mul(SHARING);
    let array = |(key, value): (&str, Value)| {
        let stored = value.array().ok_or_else(|| content(file, format!("`{key}` is no array")))?;
        left = left.checked_sub(stored.size()).ok_or_else(|| content(file, "one array stands for too many"))?;
        let array = stored.to_array();
        let array = array.ok_or_else(|| content(file, format!("`{key}` has the unknown type {}", stored.element())))?;
        Ok((key.to_string(), array))
    };
    params.into_iter().map(array).collect()
}

/// Write a checkpoint into `out`, which is then what the official code's `ckpt` folder is; returns the checkpoint's own folder.
pub fn write(out: &Path, values: &Tree, step: u64, updates: u64) -> Result<PathBuf, OfficialError> {
    // The official code keeps the folder that sorts last, and names its own by date: this one sorts before them.
    let name = format!("{step:012}");
    let dir = out.join(&name);
    if let Some(path) = [out.join(LATEST), dir.clone()].into_iter().find(|path| path.exists()) {
        return Err(OfficialError::Exists { path });
    }
    fs::create_dir_all(&dir).map_err(FileError::io("create", &dir))?;
    let params = values.iter().map(|(key, array)| (key.as_str(), Item::Array(array))).collect();
    let count = |count: u64| Item::Integer(count as i64);
    let counters = vec![("updates", count(updates)), ("batches", count(updates)), ("actions", count(step))];
    let agent = Item::Dict(vec![("params", Item::Dict(params)), ("counters", Item::Dict(counters))]);
    for (file, item) in [(AGENT, agent), (STEP, count(step)), (REPLAY, Item::Nothing)] {
        durable::write(&dir.join(file), &write_pickle(&item))?;
    }
    durable::write(&dir.join(DONE), b"")?;
    durable::sync_dir(&dir)?;
    durable::write(&out.join(LATEST), name.as_bytes())?;
    durable::sync_dir(out)?;
    Ok(dir)
}
