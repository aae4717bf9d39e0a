//! Any norm with any activation; the pair that the official configs use has a faster kernel, `rms_silu`.

use std::f32::consts::FRAC_2_PI;

use candle_core::{Result, Tensor};

use super::math::{sigmoid, softplus, tanh};
use super::plain::{self, plain};
use super::precision::Precision;
use super::record::{leaf, read, record, with_weight};
use crate::params::Weight;

/// Activation after a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Act {
    Identity,
    Silu,
    /// In its approximation by tanh.
    Gelu,
    Relu,
    /// Square of the rectified value.
    Relu2,
    Mish,
    Elu,
    Tanh,
    Sigmoid,
    Softplus,
}

impl Act {
    /// Value and slope at x.
    pub fn at(self, x: f32) -> (f32, f32) {
        match self {
            Act::Identity => (x, 1.0),
            Act::Silu => {
                let s = sigmoid(x);
                (x * s, s * (1.0 + x * (1.0 - s)))
            }
            Act::Gelu => {
                let (a, b) = (FRAC_2_PI.sqrt(), 0.044_715);
                let t = tanh(a * (x + b * x * x * x));
                (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * a * (1.0 + 3.0 * b * x * x))
            }
            Act::Relu => (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }),
            Act::Relu2 => (x.max(0.0) * x.max(0.0), 2.0 * x.max(0.0)),
            Act::Mish => {
                let t = tanh(softplus(x));
                (x * t, t + x * (1.0 - t * t) * sigmoid(x))
            }
            Act::Elu => (if x > 0.0 { x } else { x.exp_m1() }, if x > 0.0 { 1.0 } else { x.exp() }),
            Act::Tanh => {
                let t = tanh(x);
                (t, 1.0 - t * t)
            }
            Act::Sigmoid => {
                let s = sigmoid(x);
                (s, s * (1.0 - s))
            }
            Act::Softplus => (softplus(x), sigmoid(x)),
        }
    }
}

/// Normalisation over the last axis; `eps` is added to the mean square or variance.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum NormKind {
    None,
    /// x / rms(x) * scale.
    Rms {
        eps: f32,
    },
    /// (x - mean(x)) / deviation(x) * scale + shift.
    Layer {
        eps: f32,
    },
}

impl NormKind {
    /// What is subtracted from a row and what it is divided by.
    fn of(self, x: &[f32]) -> (f32, f32) {
        let count = x.len() as f32;
        let square = x.iter().map(|v| v * v).sum::<f32>() / count;
        match self {
            NormKind::None => (0.0, 1.0),
            NormKind::Rms { eps } => (0.0, 1.0 / (square + eps).sqrt()),
            NormKind::Layer { eps } => {
                let mean = x.iter().sum::<f32>() / count;
                (mean, 1.0 / ((square - mean * mean).max(0.0) + eps).sqrt())
            }
        }
    }
}

/// act(norm(x)) over the last axis: x [.., C], `scale` and `shift` [C], absent ones being 1 and 0.
pub fn norm_act(
    x: &Tensor,
    kind: NormKind,
    scale: Option<&Weight>,
    shift: Option<&Weight>,
    act: Act,
    precision: Precision,
) -> Result<Tensor> {
    let channels = x.dims().last().copied().unwrap_or(1);
    for weight in scale.iter().chain(&shift) {
        if weight.shape() != [channels] {
            candle_core::bail!("norm: input {:?} does not end in the width of {:?}", x.dims(), weight.shape());
        }
    }
    if plain(x) {
        return plain::norm_act(x, kind, scale, shift, act);
    }
    let load = |weight: Option<&Weight>, default: f32| match weight {
        Some(weight) => with_weight(weight, <[f32]>::to_vec),
        None => Ok(vec![default; channels]),
    };
    let (s, b) = (load(scale, 1.0)?, load(shift, 0.0)?);
    let mut y = vec![0.0; x.elem_count()];
    read(x, |x| {
        for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
            let (mean, r) = kind.of(x);
            (0..channels).for_each(|i| y[i] = act.at((x[i] - mean) * (r * s[i]) + b[i]).0);
        }
    })?;
    precision.round(&mut y);
    let input = x.clone();
    let backward = move |dy: &[f32]| {
        let (mut dx, mut ds, mut db) = (vec![0.0; dy.len()], vec![0.0; channels], vec![0.0; channels]);
        read(&input, |x| {
            let rows = x.chunks_exact(channels).zip(dy.chunks_exact(channels)).zip(dx.chunks_exact_mut(channels));
            rows.for_each(|((x, dy), dx)| backward_row(kind, act, [x, &s, &b, dy], [dx, &mut ds, &mut db]));
        })?;
        Ok(vec![Some(dx), Some(ds), Some(db)])
    };
    record(&[Some(x.clone()), scale.and_then(leaf), shift.and_then(leaf)], y, x.dims(), Box::new(backward))
}

fn backward_row(kind: NormKind, act: Act, [x, s, b, dy]: [&[f32]; 4], [dx, ds, db]: [&mut [f32]; 3]) {
    let (mean, r) = kind.of(x);
    let count = x.len() as f32;
    let (mut sum, mut dot) = (0.0, 0.0);
    for i in 0..x.len() {
        let normed = (x[i] - mean) * r;
        let dh = dy[i] * act.at(normed * s[i] + b[i]).1;
        ds[i] += dh * normed;
        db[i] += dh;
        // Gradient of the normed value.
        dx[i] = dh * s[i];
        sum += dx[i];
        dot += dx[i] * normed;
    }
    let (sum, dot) = match kind {
        NormKind::None => (0.0, 0.0),
        NormKind::Rms { .. } => (0.0, dot / count),
        NormKind::Layer { .. } => (sum / count, dot / count),
    };
    for i in 0..x.len() {
        dx[i] = r * (dx[i] - sum - (x[i] - mean) * r * dot);
    }
}
