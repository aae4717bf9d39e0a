//! The gates of the block GRU.

use candle_core::{Result, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;

use super::math::{sigmoid, tanh};
use super::plain::{self, plain};
use super::precision::Precision;
use super::record::{read, record};

/// gates [N, 3D], each of `blocks` blocks laid out as [reset | cand | update], and deter [N, D] -> the next deter [N, D]:
/// u * tanh(sigmoid(reset) * cand) + (1 - u) * deter with u = sigmoid(update - 1).
pub fn gru(gates: &Tensor, deter: &Tensor, blocks: usize, precision: Precision) -> Result<Tensor> {
    let (rows, width) = deter.dims2()?;
    if gates.dims() != [rows, 3 * width] || width % blocks != 0 {
        candle_core::bail!("gru: gates {:?} do not fit deter {:?} in {blocks} blocks", gates.dims(), deter.dims());
    }
    if plain(deter) {
        return plain::gru(gates, deter, blocks);
    }
    let size = width / blocks;
    let mut next = vec![0.0; rows * width];
    read(gates, |gates| {
        read(deter, |deter| {
            let parts = next.par_chunks_exact_mut(width).zip(gates.par_chunks_exact(3 * width));
            let rows = parts.zip(deter.par_chunks_exact(width)).with_min_len(MIN_ROWS);
            rows.for_each(|((next, gates), deter)| forward(gates, deter, size, next));
        })
    })??;
    precision.round(&mut next);
    let (g, d) = (gates.clone(), deter.clone());
    let backward = move |dy: &[f32]| {
        let mut dgates = vec![0.0; 3 * dy.len()];
        let mut ddeter = vec![0.0; dy.len()];
        read(&g, |g| {
            read(&d, |d| {
                let inputs =
                    g.par_chunks_exact(3 * width).zip(d.par_chunks_exact(width)).zip(dy.par_chunks_exact(width));
                let outputs = dgates.par_chunks_exact_mut(3 * width).zip(ddeter.par_chunks_exact_mut(width));
                let rows = inputs.zip(outputs).with_min_len(MIN_ROWS);
                rows.for_each(|(((g, d), dy), (dg, dd))| backward(g, d, dy, size, dg, dd));
            })
        })??;
        Ok(vec![Some(dgates), Some(ddeter)])
    };
    record(&[Some(gates.clone()), Some(deter.clone())], next, (rows, width), Box::new(backward))
}

/// [`gru`] of one row without gradient, in blocks of `size`: gates [3D], deter [D] -> next [D].
pub fn gru_step(gates: &[f32], deter: &[f32], size: usize, next: &mut [f32]) {
    forward(gates, deter, size, next);
}

/// Backward pass of [`gru_step`]: from the gradient `dy` [D] of next to those of gates [3D] and deter [D].
pub(crate) fn gru_backward(
    gates: &[f32],
    deter: &[f32],
    dy: &[f32],
    size: usize,
    dgates: &mut [f32],
    ddeter: &mut [f32],
) {
    backward(gates, deter, dy, size, dgates, ddeter);
}

/// Fewer rows than this stay on one thread.
const MIN_ROWS: usize = 64;

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn forward(gates: &[f32], deter: &[f32], size: usize, next: &mut [f32]) {
    for ((next, gates), deter) in
        next.chunks_exact_mut(size).zip(gates.chunks_exact(3 * size)).zip(deter.chunks_exact(size))
    {
        let (reset, rest) = gates.split_at(size);
        let (cand, update) = rest.split_at(size);
        for ((((next, r), c), u), d) in next.iter_mut().zip(reset).zip(cand).zip(update).zip(deter) {
            let u = sigmoid(u - 1.0);
            *next = u * tanh(sigmoid(*r) * c) + (1.0 - u) * d;
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn backward(gates: &[f32], deter: &[f32], dy: &[f32], size: usize, dgates: &mut [f32], ddeter: &mut [f32]) {
    for block in 0..dy.len() / size {
        let (reset, rest) = gates[3 * size * block..][..3 * size].split_at(size);
        let (cand, update) = rest.split_at(size);
        let (dreset, rest) = dgates[3 * size * block..][..3 * size].split_at_mut(size);
        let (dcand, dupdate) = rest.split_at_mut(size);
        let span = size * block..size * (block + 1);
        let (deter, dy, ddeter) = (&deter[span.clone()], &dy[span.clone()], &mut ddeter[span]);
        for i in 0..size {
            let (u, r) = (sigmoid(update[i] - 1.0), sigmoid(reset[i]));
            let c = tanh(r * cand[i]);
            let dinner = dy[i] * u * (1.0 - c * c);
            ddeter[i] = dy[i] * (1.0 - u);
            dupdate[i] = dy[i] * (c - deter[i]) * u * (1.0 - u);
            dcand[i] = dinner * r;
            dreset[i] = dinner * cand[i] * r * (1.0 - r);
        }
    }
}
