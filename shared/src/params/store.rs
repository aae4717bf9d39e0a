//! The store itself and what every phase can do: look up, find, count.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::RwLock;

use super::layout::{DTYPE, dtype_name};
use super::select::{nearest, select};
use super::trace::Recorder;
use super::{ParamError, Phase, Tree, Weight, fingerprint, tree};
use crate::array::Array;

/// Parameters by path, in the phase `P`.
pub struct Params<P: Phase> {
    pub(super) entries: RwLock<BTreeMap<String, Entry>>,
    pub(super) recorder: Recorder,
    pub(super) phase: P,
}

/// One parameter.
pub(super) struct Entry {
    pub weight: Weight,
    pub frozen: bool,
    pub origin: Origin,
}

/// Where a parameter's values came from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Origin {
    /// An initialiser.
    Init,
    /// A tree, a loader or a region, by the name its owner gave.
    Given(String),
    /// A checkpoint.
    Restored,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Init => f.write_str("initialised"),
            Origin::Given(source) => f.write_str(source),
            Origin::Restored => f.write_str("checkpoint"),
        }
    }
}

/// Numbers (not tensors) of one module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Numbers the optimizer may change.
    pub trainable: usize,
    /// Numbers that stay as they were loaded.
    pub frozen: usize,
}

impl<P: Phase> Params<P> {
    pub(super) fn with_phase(entries: BTreeMap<String, Entry>, phase: P) -> Self {
        Self { entries: RwLock::new(entries), recorder: Recorder::default(), phase }
    }

    /// All paths, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.entries.read().keys().cloned().collect()
    }

    /// Paths and handles selected by any of the patterns, sorted, each once.
    pub fn subset<S: AsRef<str>>(&self, patterns: &[S]) -> Result<Vec<(String, Weight)>, ParamError> {
        let entries = self.entries.read();
        let mut found = BTreeMap::new();
        for pattern in patterns {
            for path in select(&entries, pattern.as_ref(), P::NAME)?.paths {
                self.recorder.read(&path);
                let weight = entries[&path].weight.clone();
                found.insert(path, weight);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Copies of the values a pattern selects. A prefix gives the tree as it was put there, with keys relative to it; a
    /// regex gives full paths.
    ///
    /// ```
    /// # use shared::{array::Array, params::{Create, ParamError, Params, Tree}};
    /// # fn main() -> Result<(), ParamError> {
    /// let params = Params::<Create>::new(0);
    /// let vit: Tree = [("cls".to_string(), Array::f32(&[2], &[1.0, 2.0]))].into();
    /// params.put(vit.clone(), "enc/vit")?;
    /// assert_eq!(params.find("enc/vit")?, vit);
    /// assert_eq!(params.find(".*/cls$")?["enc/vit/cls"], vit["cls"]);
    /// assert!(params.find("enc/vti/cls").is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn find(&self, pattern: &str) -> Result<Tree, ParamError> {
        let entries = self.entries.read();
        let selection = select(&entries, pattern, P::NAME).map_err(|error| match error {
            // What reads like a path is answered with its neighbours.
            ParamError::NoMatch { .. } => missing::<P>(&entries, pattern),
            other => other,
        })?;
        let copy = |path: &String| {
            self.recorder.read(path);
            Ok((selection.key(path).to_string(), tree::to_array(&entries[path].weight)?))
        };
        selection.paths.iter().map(copy).collect()
    }

    /// Numbers per top-level module.
    pub fn counts(&self) -> BTreeMap<String, Count> {
        let mut counts: BTreeMap<String, Count> = BTreeMap::new();
        for (path, entry) in self.entries.read().iter() {
            let module = path.split('/').next().unwrap_or(path);
            let count = counts.entry(module.to_string()).or_default();
            let numbers = entry.weight.shape().iter().product::<usize>();
            *(if entry.frozen { &mut count.frozen } else { &mut count.trainable }) += numbers;
        }
        counts
    }

    /// Layout fingerprint of what the patterns select.
    pub fn fingerprint<S: AsRef<str>>(&self, patterns: &[S]) -> Result<u64, ParamError> {
        Ok(fingerprint(&self.subset(patterns)?))
    }

    /// The parameter at a path, whatever its shape.
    pub fn lookup(&self, path: &str) -> Result<Weight, ParamError> {
        let entries = self.entries.read();
        let entry = entries.get(path).ok_or_else(|| missing::<P>(&entries, path))?;
        self.recorder.read(path);
        Ok(entry.weight.clone())
    }

    /// The parameter at a path, which must have this shape.
    pub(super) fn lookup_shaped(&self, path: &str, shape: &[usize]) -> Result<Weight, ParamError> {
        let weight = self.lookup(path)?;
        check_shape::<P>(&self.entries.read(), path, weight.shape(), shape)?;
        Ok(weight)
    }
}

/// The error for a path that is not there.
pub(super) fn missing<P: Phase>(entries: &BTreeMap<String, Entry>, path: &str) -> ParamError {
    ParamError::Missing { path: path.to_string(), phase: P::NAME, nearest: nearest(entries.keys(), path) }
}

/// Shapes must agree; else the error names paths nearby that have the wanted shape.
pub(super) fn check_shape<P: Phase>(
    entries: &BTreeMap<String, Entry>,
    path: &str,
    found: &[usize],
    wanted: &[usize],
) -> Result<(), ParamError> {
    if found == wanted {
        return Ok(());
    }
    let alike = entries.iter().filter(|(_, e)| e.weight.shape() == wanted).map(|(p, _)| p);
    Err(ParamError::Shape {
        path: path.to_string(),
        phase: P::NAME,
        found: found.to_vec(),
        wanted: wanted.to_vec(),
        nearest: nearest(alike, path),
    })
}

/// Parameters are float32; nothing is cast behind the caller's back.
pub(super) fn check_dtype<P: Phase>(path: &str, value: &Array) -> Result<(), ParamError> {
    match value.dtype == DTYPE {
        true => Ok(()),
        false => Err(ParamError::Dtype {
            path: path.to_string(),
            phase: P::NAME,
            found: dtype_name(value.dtype).to_string(),
            wanted: dtype_name(DTYPE).to_string(),
        }),
    }
}
