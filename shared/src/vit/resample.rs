//! Resizing images and grids of position embeddings, as PyTorch's `interpolate` does.

use serde::{Deserialize, Serialize};

/// How values between pixels are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// Cubic convolution with a = -0.75; pixels beyond the edge repeat it.
    Bicubic,
    /// The same with the corners of both grids on each other.
    BicubicCorners,
    /// Cubic convolution with a = -0.5, widened when shrinking; weights beyond the edge are dropped.
    BicubicAntialias,
    /// Triangle, widened when shrinking; weights beyond the edge are dropped.
    BilinearAntialias,
}

/// For each output position: the first input position and the weights from there on.
type Taps = Vec<(usize, Vec<f32>)>;

/// `values` [from.0, from.1, channels] resized to [to.0, to.1, channels].
pub fn resize(values: &[f32], from: (usize, usize), to: (usize, usize), channels: usize, filter: Filter) -> Vec<f32> {
    if from == to {
        return values.to_vec();
    }
    let columns = taps(from.1, to.1, filter);
    let rows = taps(from.0, to.0, filter);
    let mut wide = Vec::with_capacity(from.0 * to.1 * channels);
    for row in values.chunks_exact(from.1 * channels) {
        wide.extend(along(row, &columns, channels));
    }
    along(&wide, &rows, to.1 * channels)
}

/// Weighted sums of whole items of `len` numbers.
fn along(items: &[f32], taps: &Taps, len: usize) -> Vec<f32> {
    let mut out = vec![0.0; taps.len() * len];
    for (out, (first, weights)) in out.chunks_exact_mut(len).zip(taps) {
        for (item, &weight) in items[first * len..].chunks_exact(len).zip(weights) {
            out.iter_mut().zip(item).for_each(|(o, &x)| *o += weight * x);
        }
    }
    out
}

fn taps(from: usize, to: usize, filter: Filter) -> Taps {
    let ratio = from as f64 / to as f64;
    let center = |i: usize| (i as f64 + 0.5) * ratio;
    match filter {
        Filter::Bicubic => (0..to).map(|i| clamped(center(i) - 0.5, from)).collect(),
        Filter::BicubicCorners => {
            let step = (from - 1) as f64 / (to - 1).max(1) as f64;
            (0..to).map(|i| clamped(i as f64 * step, from)).collect()
        }
        Filter::BicubicAntialias => (0..to).map(|i| widened(center(i), ratio, from, 2.0, |x| cubic(x, -0.5))).collect(),
        Filter::BilinearAntialias => {
            (0..to).map(|i| widened(center(i), ratio, from, 1.0, |x| 1.0 - x.min(1.0))).collect()
        }
    }
}

/// Four taps, those beyond the edge added to the edge's weight.
fn clamped(position: f64, len: usize) -> (usize, Vec<f32>) {
    let base = position.floor();
    let index = |k: i64| (base as i64 + k).clamp(0, len as i64 - 1) as usize;
    let (first, last) = (index(-1), index(2));
    let mut weights = vec![0.0; last - first + 1];
    for k in -1..=2 {
        weights[index(k) - first] += cubic((position - base - k as f64).abs(), -0.75) as f32;
    }
    (first, weights)
}

fn widened(center: f64, ratio: f64, len: usize, support: f64, filter: impl Fn(f64) -> f64) -> (usize, Vec<f32>) {
    let scale = ratio.max(1.0);
    let first = (center - support * scale + 0.5).max(0.0) as usize;
    let end = ((center + support * scale + 0.5) as usize).min(len);
    let weights: Vec<f64> = (first..end).map(|j| filter(((j as f64 + 0.5 - center) / scale).abs())).collect();
    let total: f64 = weights.iter().sum();
    (first, weights.into_iter().map(|w| (w / total) as f32).collect())
}

/// Cubic convolution kernel at a distance >= 0.
fn cubic(x: f64, a: f64) -> f64 {
    match x {
        x if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        x if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
        _ => 0.0,
    }
}
