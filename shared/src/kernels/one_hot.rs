//! Sampling of the categorical latents: unimix, Gumbel argmax, straight-through gradient.

use candle_core::{Result, Tensor};

use super::math::softmax;
use super::record::{read, record};

/// Probabilities of one group of logits, mixed with `mix` of the uniform distribution, into `probs`.
#[inline]
pub fn unimix(logits: &[f32], mix: f32, probs: &mut [f32]) {
    softmax(logits, probs);
    let uniform = mix / logits.len() as f32;
    probs.iter_mut().for_each(|p| *p = (1.0 - mix) * *p + uniform);
}

/// Like [`unimix`], with logarithms into `logs`: finite even where a probability is too small for a float.
#[inline]
pub fn log_unimix(logits: &[f32], mix: f32, probs: &mut [f32], logs: &mut [f32]) {
    if mix == 0.0 {
        let log_sum = softmax(logits, probs);
        logs.iter_mut().zip(logits).for_each(|(log, l)| *log = l - log_sum);
    } else {
        unimix(logits, mix, probs);
        logs.iter_mut().zip(probs.iter()).for_each(|(log, p)| *log = p.ln());
    }
}

/// One-hot samples of logits [.., C] by argmax of log-probability + Gumbel `noise` (as many numbers as logits). The gradient is
/// that of the mixed probabilities (straight through).
pub fn one_hot_sample(logits: &Tensor, mix: f32, noise: &[f32]) -> Result<Tensor> {
    let classes = *logits.dims().last().unwrap_or(&1);
    if noise.len() != logits.elem_count() {
        candle_core::bail!("one_hot_sample: {} noise values for logits {:?}", noise.len(), logits.dims());
    }
    let mut sample = vec![0.0; noise.len()];
    read(logits, |logits| {
        let (mut probs, mut logs) = (vec![0.0; classes], vec![0.0; classes]);
        let groups =
            logits.chunks_exact(classes).zip(noise.chunks_exact(classes)).zip(sample.chunks_exact_mut(classes));
        for ((logits, noise), sample) in groups {
            log_unimix(logits, mix, &mut probs, &mut logs);
            sample[argmax(logs.iter().zip(noise).map(|(l, n)| l + n))] = 1.0;
        }
    })?;
    let input = logits.clone();
    let backward = move |dy: &[f32]| {
        let mut dx = vec![0.0; dy.len()];
        read(&input, |logits| {
            let groups = logits.chunks_exact(classes).zip(dy.chunks_exact(classes)).zip(dx.chunks_exact_mut(classes));
            for ((logits, dy), dx) in groups {
                softmax(logits, dx);
                let dot: f32 = dx.iter().zip(dy).map(|(p, d)| p * d).sum();
                dx.iter_mut().zip(dy).for_each(|(p, d)| *p *= (1.0 - mix) * (d - dot));
            }
        })?;
        Ok(vec![Some(dx)])
    };
    record(&[Some(logits.clone())], sample, logits.dims(), Box::new(backward))
}

/// Index of the first largest value.
pub(crate) fn argmax(values: impl Iterator<Item = f32>) -> usize {
    values.enumerate().fold((0, f32::NEG_INFINITY), |best, (i, v)| if v > best.1 { (i, v) } else { best }).0
}
