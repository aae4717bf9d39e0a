//! Behaviour of the store that people rely on.

mod create;
mod files;
mod freezing;
mod properties;
mod run;
mod snapshots;

use super::*;
use crate::array::Array;

/// An array of one axis.
fn array(values: &[f32]) -> Array {
    Array::f32(&[values.len()], values)
}

/// A tree of arrays of one axis.
fn tree(items: &[(&str, &[f32])]) -> Tree {
    items.iter().map(|(key, values)| (key.to_string(), array(values))).collect()
}

/// A sealed store that holds this tree.
fn sealed(items: &[(&str, &[f32])]) -> Params<Run> {
    let params = Params::<Create>::new(0);
    params.put(tree(items), "").unwrap();
    params.seal().unwrap()
}
