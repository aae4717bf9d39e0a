//! RMS norm and SiLU in one pass: what the official configs use everywhere.

use candle_core::{Result, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;

use super::math::{sigmoid, silu, sum, sum2};
use super::record::{leaf, read, record, with_weight};
use crate::params::Weight;

/// Rows of at least this many elements in all are spread over threads.
const PARALLEL: usize = 1 << 16;

/// silu(x * rsqrt(mean(x^2) + eps) * scale) over the last axis: x [.., C], `scale` [C]. No shift, no mean subtraction.
pub fn rms_silu(x: &Tensor, scale: &Weight, eps: f32) -> Result<Tensor> {
    let channels = scale.shape()[0];
    if x.dims().last() != Some(&channels) {
        candle_core::bail!("norm: input {:?} does not end in {channels}, the scale's width", x.dims());
    }
    let mut y = vec![0.0; x.elem_count()];
    read(x, |x| {
        with_weight(scale, |s| {
            let row = |(y, x): (&mut [f32], &[f32])| forward(x, s, eps, y);
            match x.len() < PARALLEL {
                true => y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)).for_each(row),
                false => y.par_chunks_exact_mut(channels).zip(x.par_chunks_exact(channels)).for_each(row),
            }
        })
    })??;
    let (input, weight) = (x.clone(), scale.clone());
    let backward = move |dy: &[f32]| {
        let mut dx = vec![0.0; dy.len()];
        let ds = read(&input, |x| with_weight(&weight, |s| backward(x, s, eps, dy, &mut dx)))??;
        Ok(vec![Some(dx), Some(ds)])
    };
    record(&[Some(x.clone()), leaf(scale)], y, x.dims(), Box::new(backward))
}

#[inline(always)]
fn rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum(x, |v| v * v) / x.len() as f32 + eps).sqrt()
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn forward(x: &[f32], scale: &[f32], eps: f32, y: &mut [f32]) {
    let r = rms(x, eps);
    let terms = y.iter_mut().zip(x).zip(scale);
    terms.for_each(|((y, x), s)| *y = silu(x * (r * s)));
}

/// The same for every row of `x` [N, C], in place.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn rms_silu_rows(x: &mut [f32], scale: &[f32], eps: f32) {
    for row in x.chunks_exact_mut(scale.len()) {
        let r = rms(row, eps);
        row.iter_mut().zip(scale).for_each(|(x, s)| *x = silu(*x * (r * s)));
    }
}

/// Fills `dx`, returns the gradient of the scale.
fn backward(x: &[f32], scale: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) -> Vec<f32> {
    let channels = scale.len();
    let rows = (PARALLEL / channels).max(1) * channels;
    let parts = x.par_chunks(rows).zip(dy.par_chunks(rows)).zip(dx.par_chunks_mut(rows));
    let sums: Vec<Vec<f32>> = parts
        .map(|((x, dy), dx)| {
            let mut ds = vec![0.0; channels];
            let rows = x.chunks_exact(channels).zip(dy.chunks_exact(channels)).zip(dx.chunks_exact_mut(channels));
            rows.for_each(|((x, dy), dx)| backward_row(x, scale, eps, dy, dx, &mut ds));
            ds
        })
        .collect();
    let mut total = vec![0.0; channels];
    sums.iter().for_each(|part| total.iter_mut().zip(part).for_each(|(t, p)| *t += p));
    total
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn backward_row(x: &[f32], scale: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], ds: &mut [f32]) {
    let r = rms(x, eps);
    // dx first holds the gradient of the normed, scaled value.
    dx.iter_mut().zip(x).zip(scale).zip(dy).for_each(|(((dx, x), s), dy)| {
        let h = x * (r * s);
        let sig = sigmoid(h);
        *dx = dy * sig * (1.0 + h * (1.0 - sig));
    });
    ds.iter_mut().zip(dx.iter()).zip(x).for_each(|((ds, dh), x)| *ds += dh * x * r);
    dx.iter_mut().zip(scale).for_each(|(dx, s)| *dx *= s);
    let shift = sum2(dx, x, |dh, x| dh * x) * r * r * r / x.len() as f32;
    dx.iter_mut().zip(x).for_each(|(dx, x)| *dx = *dx * r - x * shift);
}
