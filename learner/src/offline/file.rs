//! One file of steps, read and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use shared::array::Array;
use shared::env::{FLAGS, Space, Spaces};
use zip::ZipArchive;
use zip::result::ZipError;

use super::OfflineError;
use super::entry::{Fault, convert};
use super::folder::Source;
use super::npy::Npy;

/// Largest number that an action has where it is scaled as the agent's; what explores goes beyond it by a little.
const SCALED: f32 = 1.0;

/// Steps of a file, T of them.
pub struct Steps {
    /// Where they are from.
    pub path: PathBuf,
    /// `is_first`, `is_last` and `is_terminal`, [T] each.
    pub flags: [Vec<u8>; 3],
    /// All other entries, `reward` and actions among them, [T, …].
    pub columns: BTreeMap<String, Array>,
}

/// What people should know about what was read.
#[derive(Debug, Default, PartialEq)]
pub struct Notes {
    /// Arrays that the run has no use for.
    pub ignored: BTreeSet<String>,
    /// Streams whose first step is amid an episode.
    pub amid: usize,
    /// Episodes that another one follows without an end.
    pub abandoned: usize,
    /// Files whose actions stand at the step after.
    pub shifted: usize,
    /// Actions with numbers that go beyond the agent's.
    pub beyond: BTreeSet<String>,
}

/// What a run's environment shows and takes.
pub struct Wanted<'a> {
    /// Observations, with flags and reward.
    pub obs: &'a Spaces,
    /// Actions.
    pub act: &'a Spaces,
}

struct Npz {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

impl Npz {
    fn open(path: &Path) -> Result<Self, OfflineError> {
        let file = File::open(path).map_err(|error| OfflineError::file(path, error))?;
        let archive = ZipArchive::new(BufReader::new(file));
        let archive =
            archive.map_err(|error| OfflineError::file(path, format!("it is no whole .npz file: {error}")))?;
        Ok(Self { path: path.to_path_buf(), archive })
    }

    fn keys(&self) -> Vec<String> {
        let text = |name: &[u8]| String::from_utf8_lossy(name).trim_end_matches(".npy").to_string();
        self.archive.file_names_raw().map(text).collect()
    }

    fn read(&mut self, key: &str) -> Result<Npy, OfflineError> {
        let entry = |what| OfflineError::Entry { path: self.path.clone(), key: key.into(), step: None, what };
        match self.archive.by_name(&format!("{key}.npy")) {
            Ok(member) => Npy::read(member).map_err(entry),
            Err(ZipError::FileNotFound) => Err(entry("is missing".into())),
            Err(error) => Err(entry(format!("cannot be read: {error}"))),
        }
    }
}

/// Read a file and hold every entry against its space.
pub fn read(source: &Source, wanted: &Wanted, notes: &mut Notes) -> Result<Steps, OfflineError> {
    let mut npz = Npz::open(&source.path)?;
    let known = |key: &String| wanted.obs.contains_key(key) || wanted.act.contains_key(key);
    // What the official code records beside steps.
    let usual = |key: &String| key == "stepid" || key == "consec" || key.starts_with("log/") || key.starts_with("dyn/");
    notes.ignored.extend(npz.keys().into_iter().filter(|key| !known(key) && !usual(key)));
    let entry =
        |key: &str, (step, what): Fault| OfflineError::Entry { path: source.path.clone(), key: key.into(), step, what };
    let first = npz.read(FLAGS[0])?;
    let steps = first.shape.first().copied().unwrap_or(0);
    if steps == 0 || source.length.is_some_and(|length| length != steps) {
        let named = source.length.map_or(String::new(), |length| format!(", its name says {length}"));
        return Err(OfflineError::file(&source.path, format!("it holds {steps} steps{named}")));
    }
    let mut flags: [Vec<u8>; 3] = Default::default();
    for (flag, key) in flags.iter_mut().zip(FLAGS) {
        let npy = npz.read(key)?;
        *flag = convert(&npy, &Space::flag(), steps, false, &[]).map_err(|fault| entry(key, fault))?.bytes;
    }
    let mut columns = BTreeMap::new();
    for (key, space) in wanted.obs.iter().filter(|(key, _)| !FLAGS[..3].contains(&key.as_str())) {
        let npy = npz.read(key)?;
        columns.insert(key.clone(), convert(&npy, space, steps, true, &[]).map_err(|fault| entry(key, fault))?);
    }
    let mut shifted = false;
    for (key, space) in wanted.act {
        let mut npy = npz.read(key)?;
        if source.length.is_none() && stands_after(&npy, steps, &flags) {
            shift(&mut npy, steps);
            shifted = true;
        }
        let array = convert(&npy, space, steps, false, &flags[1]).map_err(|fault| entry(key, fault))?;
        if !space.is_discrete() && array.to_f32().iter().any(|x| x.abs() > SCALED) {
            notes.beyond.insert(key.clone());
        }
        columns.insert(key.clone(), array);
    }
    notes.shifted += usize::from(shifted);
    Ok(Steps { path: source.path.clone(), flags, columns })
}

/// Whether each action stands at the step that it led to, as versions before DreamerV3 wrote episodes: nothing at an episode's first step,
/// and something at its last one.
fn stands_after(npy: &Npy, steps: usize, [is_first, is_last, _]: &[Vec<u8>; 3]) -> bool {
    let width = npy.bytes.len() / steps;
    let zero = |step: usize| npy.bytes[step * width..(step + 1) * width].iter().all(|byte| *byte == 0);
    npy.is_float()
        && npy.shape.first() == Some(&steps)
        && is_first[0] != 0
        && is_last[steps - 1] != 0
        && zero(0)
        && !zero(steps - 1)
}

/// Each step gets the action of the one that follows, the last one none.
fn shift(npy: &mut Npy, steps: usize) {
    let width = npy.bytes.len() / steps;
    npy.bytes.drain(..width);
    npy.bytes.resize(steps * width, 0);
}
