//! From recorded arrays to tensors: vectors, features, images, actions, flags.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};

use crate::array::{Array, DType};
use crate::env::{FLAGS, Space, Spaces};
use crate::kernels::math::symlog;

/// Columns by key, [rows, …].
pub type Columns = BTreeMap<String, Array>;

/// The column of a key, or an error that names it.
pub fn column<'a>(columns: &'a Columns, key: &str) -> Result<&'a Array> {
    columns
        .get(key)
        .ok_or_else(|| candle_core::Error::Msg(format!("no column `{key}`; there are {:?}", columns.keys())))
}

/// Spaces that the agent sees, without flags and reward, sorted by key.
pub fn observed(spaces: &Spaces) -> BTreeMap<&str, &Space> {
    spaces.iter().filter(|(k, _)| !FLAGS.contains(&k.as_str())).map(|(k, s)| (k.as_str(), s)).collect()
}

/// Whether a space holds features of the frozen encoder.
pub fn is_features(space: &Space) -> bool {
    space.dtype == DType::F16
}

/// Whether a space goes to the MLP as it is.
pub fn is_vector(space: &Space) -> bool {
    !is_features(space) && space.shape.len() <= 2
}

/// Entries side by side as one row of floats each, [rows, width], into `out`: discrete ones one-hot, continuous ones squashed by
/// `squish`, in the order of `spaces`. An entry that is all -inf (floats) or -1 (integers) is missing: zeros. Returns the width.
/// `column` is a buffer.
pub(super) fn flatten<'a>(
    spaces: impl Iterator<Item = (&'a str, &'a Space)> + Clone,
    columns: &Columns,
    rows: usize,
    squish: impl Fn(f32) -> f32,
    column: &mut Vec<f32>,
    out: &mut Vec<f32>,
) -> Result<usize> {
    let width = spaces.clone().map(|(_, space)| space.width()).sum();
    out.clear();
    out.resize(rows * width, 0.0);
    let mut first = 0;
    for (key, space) in spaces {
        self::column(columns, key)?.to_f32_in(column);
        let elements = space.elements();
        if column.len() != rows * elements {
            candle_core::bail!("column `{key}` holds {} numbers, not {rows} x {elements}", column.len());
        }
        for (entry, out) in column.chunks_exact(elements.max(1)).zip(out.chunks_exact_mut(width)) {
            fill(entry, space, &mut out[first..first + space.width()], &squish);
        }
        first += space.width();
    }
    Ok(width)
}

/// [`flatten`] as a tensor.
pub fn concat(
    spaces: &[(&str, &Space)],
    columns: &Columns,
    rows: usize,
    squish: impl Fn(f32) -> f32,
) -> Result<Tensor> {
    let mut out = vec![];
    let width = flatten(spaces.iter().copied(), columns, rows, squish, &mut vec![], &mut out)?;
    Tensor::from_vec(out, (rows, width), &Device::Cpu)
}

/// One entry as floats, into `out` [width of the space], which holds zeros.
fn fill(entry: &[f32], space: &Space, out: &mut [f32], squish: &impl Fn(f32) -> f32) {
    let Some(classes) = space.classes else {
        if !entry.iter().all(|&x| x == f32::NEG_INFINITY) {
            out.iter_mut().zip(entry).for_each(|(o, &x)| *o = squish(x));
        }
        return;
    };
    for (out, &x) in out.chunks_exact_mut(classes).zip(entry) {
        if x >= 0.0 && (x as usize) < classes {
            out[x as usize] = 1.0;
        }
    }
}

/// Vectors of the observation, symlog-squashed if asked.
pub fn vectors(spaces: &[(&str, &Space)], columns: &Columns, rows: usize, squash: bool) -> Result<Tensor> {
    concat(spaces, columns, rows, |x| if squash { symlog(x) } else { x })
}

/// Actions as the RSSM takes them: concatenated, elements with magnitude above 1 scaled to 1; [rows, width].
pub fn actions(spaces: &Spaces, columns: &Columns, rows: usize) -> Result<Tensor> {
    let mut sorted: Vec<(&str, &Space)> = spaces.iter().map(|(k, s)| (k.as_str(), s)).collect();
    sorted.sort_by_key(|(k, _)| *k);
    concat(&sorted, columns, rows, shrink)
}

/// Magnitudes above 1 to 1.
pub(super) fn shrink(x: f32) -> f32 {
    x / x.abs().max(1.0)
}

/// One action as the RSSM takes it, into `out` [width of the space], which holds zeros.
pub fn embed_action(action: &[f32], space: &Space, out: &mut [f32]) {
    fill(action, space, out, &shrink);
}

/// A flag column as floats, [rows, 1]; `invert` gives 1 where the flag is false.
pub fn flag(columns: &Columns, key: &str, invert: bool) -> Result<Tensor> {
    let values: Vec<f32> =
        column(columns, key)?.to_f32().into_iter().map(|x| if (x != 0.0) != invert { 1.0 } else { 0.0 }).collect();
    let rows = values.len();
    Tensor::from_vec(values, (rows, 1), &Device::Cpu)
}
