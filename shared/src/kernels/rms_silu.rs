//! RMS norm and SiLU in one pass: what the official configs use everywhere.

use candle_core::{Result, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;

use super::linear::sum_of;
use super::math::{sigmoid, silu, sum, sum2};
use super::norm_act::{Act, NormKind};
use super::plain::{self, plain};
use super::precision::Precision;
use super::record::{leaf, read, record, with_weight};
use crate::params::Weight;

/// Rows of at least this many elements in all are spread over threads.
const PARALLEL: usize = 1 << 16;

/// silu(x * rsqrt(mean(x^2) + eps) * scale) over the last axis: x [.., C], `scale` [C]. No shift, no mean subtraction.
pub fn rms_silu(x: &Tensor, scale: &Weight, eps: f32, precision: Precision) -> Result<Tensor> {
    let channels = scale.shape()[0];
    if x.dims().last() != Some(&channels) {
        candle_core::bail!("norm: input {:?} does not end in {channels}, the scale's width", x.dims());
    }
    if plain(x) {
        return plain::norm_act(x, NormKind::Rms { eps }, Some(scale), None, Act::Silu);
    }
    let mut y = read(x, <[f32]>::to_vec)?;
    with_weight(scale, |s| match y.len() < PARALLEL {
        true => rms_silu_rows(&mut y, s, eps),
        false => y.par_chunks_mut(PARALLEL / channels * channels).for_each(|y| rms_silu_rows(y, s, eps)),
    })?;
    precision.round(&mut y);
    let (input, weight) = (x.clone(), scale.clone());
    let backward = move |dy: &[f32]| {
        let mut dx = dy.to_vec();
        let ds = read(&input, |x| with_weight(&weight, |s| backward(x, s, eps, &mut dx)))??;
        Ok(vec![Some(dx), Some(ds)])
    };
    record(&[Some(x.clone()), leaf(scale)], y, x.dims(), Box::new(backward))
}

#[inline(always)]
fn rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum(x, |v| v * v) / x.len() as f32 + eps).sqrt()
}

/// [`rms_silu`] of every row of `x` [N, C], in place.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn rms_silu_rows(x: &mut [f32], scale: &[f32], eps: f32) {
    for row in x.chunks_exact_mut(scale.len()) {
        let r = rms(row, eps);
        row.iter_mut().zip(scale).for_each(|(x, s)| *x = silu(*x * (r * s)));
    }
}

/// [`rms_silu`] of every row of `x` [N, C], into rows of `out` that are `stride` apart.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn rms_silu_to(x: &[f32], scale: &[f32], eps: f32, out: &mut [f32], stride: usize) {
    for (x, out) in x.chunks_exact(scale.len()).zip(out.chunks_mut(stride)) {
        let r = rms(x, eps);
        out.iter_mut().zip(x).zip(scale).for_each(|((out, x), s)| *out = silu(*x * (r * s)));
    }
}

/// From the gradient of the result to that of `x`, in place; returns the gradient of the scale.
fn backward(x: &[f32], scale: &[f32], eps: f32, d: &mut [f32]) -> Vec<f32> {
    let channels = scale.len();
    let rows = (PARALLEL / channels).max(1) * channels;
    let part = |(x, d): (&[f32], &mut [f32])| {
        let mut ds = vec![0.0; channels];
        rms_silu_rows_backward(x, scale, eps, d, &mut ds);
        ds
    };
    let sums: Vec<Vec<f32>> = x.par_chunks(rows).zip(d.par_chunks_mut(rows)).map(part).collect();
    sum_of(sums)
}

/// For every row of `x` [N, C]: `d`, the gradient of the result, becomes that of `x`; adds to the gradient of the scale.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn rms_silu_rows_backward(x: &[f32], scale: &[f32], eps: f32, d: &mut [f32], ds: &mut [f32]) {
    for (x, d) in x.chunks_exact(scale.len()).zip(d.chunks_exact_mut(scale.len())) {
        let r = rms(x, eps);
        // `d` is first the gradient of the normed, scaled value.
        d.iter_mut().zip(x).zip(scale).for_each(|((d, x), s)| {
            let h = x * (r * s);
            let sig = sigmoid(h);
            *d = *d * sig * (1.0 + h * (1.0 - sig));
        });
        ds.iter_mut().zip(d.iter()).zip(x).for_each(|((ds, dh), x)| *ds += dh * x * r);
        d.iter_mut().zip(scale).for_each(|(d, s)| *d *= s);
        let shift = sum2(d, x, |dh, x| dh * x) * r * r * r / x.len() as f32;
        d.iter_mut().zip(x).for_each(|(d, x)| *d = *d * r - x * shift);
    }
}
