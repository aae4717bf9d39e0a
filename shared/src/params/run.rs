//! Training and acting on the learner: nothing is created, and only trainable parameters are written.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use super::store::{Entry, check_dtype, check_shape, missing};
use super::{Init, ParamError, Params, Phase, Run, Source, Tree, Weight, frozen, tree};
use crate::array::Array;

impl Params<Run> {
    pub(super) fn sealed(entries: BTreeMap<String, Entry>, mut patterns: Vec<String>) -> Result<Self, ParamError> {
        patterns.sort();
        patterns.dedup();
        let frozen =
            patterns.iter().map(|pattern| frozen::record(&entries, pattern, Run::NAME)).collect::<Result<_, _>>()?;
        Ok(Self::with_phase(entries, Run { frozen }))
    }

    /// Handles for the optimizer, sorted by path: trainable parameters only. There is no way from here to a frozen one.
    pub fn trainable(&self) -> Vec<(String, Var)> {
        let entries = self.entries.read();
        let handle = |(path, entry): (&String, &Entry)| match &entry.weight {
            Weight::Var(var) if !entry.frozen => Some((path.clone(), var.clone())),
            _ => None,
        };
        entries.iter().filter_map(handle).collect()
    }

    /// Copies of all trainable values by full path: what a checkpoint stores.
    pub fn trainable_tree(&self) -> Result<Tree, ParamError> {
        let copy = |(path, var): (String, Var)| Ok((path, tree::to_array(&Weight::Var(var))?));
        self.trainable().into_iter().map(copy).collect()
    }

    /// Write one parameter; shape and type must be the parameter's, and it must be trainable.
    pub fn set(&self, path: &str, value: &Array) -> Result<(), ParamError> {
        self.write([(path, value)].into_iter())
    }

    /// Write many parameters by full path: all of them, or none if any is missing, frozen, or of another shape or type.
    pub fn set_all(&self, tree: &Tree) -> Result<(), ParamError> {
        self.write(tree.iter().map(|(path, value)| (path.as_str(), value)))
    }

    /// Write every trainable parameter from a checkpoint: like [`Params::set_all`], and the keys must be exactly the
    /// trainable paths.
    pub fn restore(&self, tree: &Tree) -> Result<(), ParamError> {
        let own: BTreeMap<String, ()> = self.trainable().into_iter().map(|(path, _)| (path, ())).collect();
        tree::check_same_keys("checkpoint", &own, tree)?;
        self.set_all(tree)
    }

    fn write<'a>(&self, writes: impl Iterator<Item = (&'a str, &'a Array)>) -> Result<(), ParamError> {
        // The write lock makes concurrent multi-key writes whole as well.
        let entries = self.entries.write();
        let checked = |(path, value)| checked(&entries, path, value).map(|(var, tensor)| (path, var, tensor));
        let checked = writes.map(checked).collect::<Result<Vec<_>, _>>()?;
        for (path, var, tensor) in checked {
            var.set(&tensor)?;
            self.recorder.modified(path);
        }
        Ok(())
    }
}

/// The variable at a path and the tensor to write into it.
fn checked(entries: &BTreeMap<String, Entry>, path: &str, value: &Array) -> Result<(Var, Tensor), ParamError> {
    let entry = entries.get(path).ok_or_else(|| missing::<Run>(entries, path))?;
    let Weight::Var(var) = &entry.weight else { return Err(ParamError::Frozen { path: path.to_string() }) };
    if entry.frozen {
        return Err(ParamError::Frozen { path: path.to_string() });
    }
    check_dtype::<Run>(path, value)?;
    check_shape::<Run>(entries, path, var.dims(), &value.shape)?;
    Ok((var.clone(), value.to_tensor()?.to_device(var.device())?))
}

impl Source for Params<Run> {
    fn weight(&self, path: &str, shape: &[usize], _: Init) -> Result<Weight, ParamError> {
        self.lookup_shaped(path, shape)
    }
}
