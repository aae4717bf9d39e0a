//! Sampling of the categorical latents: unimix, Gumbel argmax, straight-through gradient.

use candle_core::{Result, Tensor};
use multiversion::multiversion;

use super::math::{exp, ln, softmax};
use super::plain::{self, plain};
use super::record::{read, record};

/// Probabilities of groups of `classes` logits, each group mixed with `mix` of the uniform distribution, and their
/// logarithms: finite even where a probability without a mix is too small for a float.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn log_unimix(logits: &[f32], classes: usize, mix: f32, probs: &mut [f32], logs: &mut [f32]) {
    // `logs` first holds logits less the largest of their group.
    match classes {
        4 => shift::<4>(logits, logs),
        16 => shift::<16>(logits, logs),
        32 => shift::<32>(logits, logs),
        _ => logits.chunks_exact(classes).zip(logs.chunks_exact_mut(classes)).for_each(|(x, y)| {
            let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x - top);
        }),
    }
    probs.iter_mut().zip(logs.iter()).for_each(|(p, x)| *p = exp(*x));
    let uniform = mix / classes as f32;
    for (probs, logs) in probs.chunks_exact_mut(classes).zip(logs.chunks_exact_mut(classes)) {
        let all: f32 = probs.iter().sum();
        let scale = (1.0 - mix) / all;
        probs.iter_mut().for_each(|p| *p = *p * scale + uniform);
        if mix == 0.0 {
            let log_sum = ln(all);
            logs.iter_mut().for_each(|x| *x -= log_sum);
        }
    }
    if mix != 0.0 {
        logs.iter_mut().zip(probs.iter()).for_each(|(x, p)| *x = ln(*p));
    }
}

/// Logits less the largest of their group of C.
#[inline(always)]
fn shift<const C: usize>(logits: &[f32], shifted: &mut [f32]) {
    for (x, y) in logits.as_chunks::<C>().0.iter().zip(shifted.as_chunks_mut::<C>().0) {
        let top = x.iter().copied().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
        (0..C).for_each(|i| y[i] = x[i] - top);
    }
}

/// One-hot samples of logits [.., C] by argmax of log-probability + Gumbel `noise` (as many numbers as logits). The gradient is
/// that of the mixed probabilities (straight through).
pub fn one_hot_sample(logits: &Tensor, mix: f32, noise: &[f32]) -> Result<Tensor> {
    let classes = *logits.dims().last().unwrap_or(&1);
    if noise.len() != logits.elem_count() {
        candle_core::bail!("one_hot_sample: {} noise values for logits {:?}", noise.len(), logits.dims());
    }
    if plain(logits) {
        return plain::one_hot_sample(logits, mix, noise);
    }
    let mut sample = vec![0.0; noise.len()];
    let width = noise.len();
    read(logits, |logits| {
        one_hot_rows((logits, width), classes, mix, noise, (&mut sample, width), &mut Default::default())
    })?;
    let input = logits.clone();
    let backward = move |dy: &[f32]| {
        let mut dx = vec![0.0; dy.len()];
        read(&input, |logits| one_hot_backward(logits, classes, mix, dy, &mut dx))?;
        Ok(vec![Some(dx)])
    };
    record(&[Some(logits.clone())], sample, logits.dims(), Box::new(backward))
}

/// [`one_hot_sample`] of `width` logits a row, into rows of `out` that are `stride` apart. `scratch` is to be used again.
pub(crate) fn one_hot_rows(
    (logits, width): (&[f32], usize),
    classes: usize,
    mix: f32,
    noise: &[f32],
    (out, stride): (&mut [f32], usize),
    (probs, logs): &mut (Vec<f32>, Vec<f32>),
) {
    probs.resize(logits.len(), 0.0);
    logs.resize(logits.len(), 0.0);
    log_unimix(logits, classes, mix, probs, logs);
    let rows = logs.chunks_exact(width).zip(noise.chunks_exact(width)).zip(out.chunks_mut(stride));
    for ((logs, noise), out) in rows {
        let groups = out.chunks_exact_mut(classes).zip(logs.chunks_exact(classes).zip(noise.chunks_exact(classes)));
        for (group, (logs, noise)) in groups {
            group.fill(0.0);
            group[argmax(logs.iter().zip(noise).map(|(l, n)| l + n))] = 1.0;
        }
    }
}

/// Adds the gradient of the logits to `dx`, from that of the samples.
pub(crate) fn one_hot_backward(logits: &[f32], classes: usize, mix: f32, dy: &[f32], dx: &mut [f32]) {
    let mut probs = vec![0.0; classes];
    let groups = logits.chunks_exact(classes).zip(dy.chunks_exact(classes)).zip(dx.chunks_exact_mut(classes));
    for ((logits, dy), dx) in groups {
        softmax(logits, &mut probs);
        let dot: f32 = probs.iter().zip(dy).map(|(p, d)| p * d).sum();
        dx.iter_mut().zip(probs.iter().zip(dy)).for_each(|(dx, (p, d))| *dx += p * (1.0 - mix) * (d - dot));
    }
}

/// Index of the first largest value.
pub(crate) fn argmax(values: impl Iterator<Item = f32>) -> usize {
    values.enumerate().fold((0, f32::NEG_INFINITY), |best, (i, v)| if v > best.1 { (i, v) } else { best }).0
}
