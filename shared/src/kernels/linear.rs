//! y = x W + b.

use candle_core::{Result, Tensor};

use super::math::{Strides, matmul};
use super::plain::{self, plain};
use super::precision::Precision;
use super::record::{leaf, read, record};
use crate::params::Weight;

/// Linear map of the last axis: x [.., in], `kernel` [in, out], `bias` [out] -> [.., out].
pub fn linear(x: &Tensor, kernel: &Weight, bias: &Weight, precision: Precision) -> Result<Tensor> {
    let (inputs, outputs) = (kernel.shape()[0], kernel.shape()[1]);
    let mut shape = x.dims().to_vec();
    if shape.pop() != Some(inputs) {
        candle_core::bail!("linear: input {:?} does not end in {inputs}, the kernel's rows", x.dims());
    }
    shape.push(outputs);
    if plain(x) {
        return plain::linear(x, kernel, bias, shape);
    }
    let rows = x.elem_count() / inputs;
    let mut y = precision.with_weight(bias, |b| b.repeat(rows))?;
    read(x, |x| {
        precision.with_weight(kernel, |w| {
            let (sx, sw, sy) = (Strides::row_major(inputs), Strides::row_major(outputs), Strides::row_major(outputs));
            matmul([rows, inputs, outputs], (x, sx), (w, sw), (&mut y, sy), true);
        })
    })??;
    precision.round(&mut y);
    let (input, weight) = (x.clone(), kernel.clone());
    let backward = move |dy: &[f32]| {
        let (sx, sw, sy) = (Strides::row_major(inputs), Strides::row_major(outputs), Strides::row_major(outputs));
        let dx = match input.track_op() {
            false => None,
            true => {
                let mut dx = vec![0.0; rows * inputs];
                precision.with_weight(&weight, |w| {
                    matmul([rows, outputs, inputs], (dy, sy), (w, sw.transposed()), (&mut dx, sx), false)
                })?;
                Some(dx)
            }
        };
        let mut dw = vec![0.0; inputs * outputs];
        read(&input, |x| matmul([inputs, rows, outputs], (x, sx.transposed()), (dy, sy), (&mut dw, sw), false))?;
        Ok(vec![dx, Some(dw), Some(column_sums(dy, outputs))])
    };
    record(&[Some(x.clone()), leaf(kernel), leaf(bias)], y, shape, Box::new(backward))
}

/// Sum over rows of a row-major matrix with this many columns.
pub(super) fn column_sums(values: &[f32], columns: usize) -> Vec<f32> {
    let mut sums = vec![0.0; columns];
    add_columns(values, &mut sums);
    sums
}

/// Adds all rows of a row-major matrix with as many columns as there are sums.
pub(crate) fn add_columns(values: &[f32], sums: &mut [f32]) {
    for row in values.chunks_exact(sums.len()) {
        sums.iter_mut().zip(row).for_each(|(s, v)| *s += v);
    }
}

/// Sum of slices of one length, in their order.
pub(crate) fn sum_of(parts: Vec<Vec<f32>>) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_default();
    parts.for_each(|part| add_columns(&part, &mut total));
    total
}
