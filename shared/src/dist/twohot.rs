//! Two-hot encoding of scalars over exponentially spaced bins (official `outs.py`, `heads.py`).

use candle_core::{Result, Tensor};
use multiversion::multiversion;

use crate::kernels::math::{LANES, max, scaled_softmax, symexp, total, weight};
use crate::kernels::plain::log_softmax;

/// A categorical over symexp-spaced bins, symmetric around 0, that stands for its mean.
#[derive(Clone, Debug)]
pub struct TwoHot {
    bins: Vec<f32>,
}

impl TwoHot {
    /// `count` bins, from symexp(-20) to symexp(20); an even number of them has 0 twice in its middle.
    pub fn new(count: usize) -> Self {
        let (half, steps) = (count / 2, (count - 1) / 2);
        let negative = |i: usize| symexp((-20.0 + 20.0 * i as f64 / steps as f64) as f32);
        let mut bins: Vec<f32> = (0..count - half).map(negative).collect();
        (0..half).rev().for_each(|i| bins.push(-negative(i)));
        Self { bins }
    }

    /// Number of bins.
    pub fn count(&self) -> usize {
        self.bins.len()
    }

    /// Mean of one row of logits. Summed in pairs outward from the centre, so that symmetric probabilities give exactly 0.
    pub fn mean(&self, logits: &[f32]) -> f32 {
        mean(logits, &self.bins)
    }

    /// [`TwoHot::mean`] of each row of logits [N, bins] by tensor operations, [N].
    pub fn means(&self, logits: &Tensor) -> Result<Tensor> {
        let (half, probs) = (self.count() / 2, log_softmax(logits)?.exp()?);
        let upper = probs.narrow(1, self.count() - half, half)?;
        let lower = probs.narrow(1, 0, half)?.contiguous()?.flip(&[1])?;
        let values = Tensor::new(&self.bins[self.count() - half..], logits.device())?;
        (upper - lower)?.broadcast_mul(&values)?.sum(1)
    }

    /// [`TwoHot::loss`] of each row of logits [N, bins] by tensor operations, [N].
    pub fn losses<const K: usize>(
        &self,
        logits: &Tensor,
        targets: impl Fn(usize) -> [(f32, f32); K],
    ) -> Result<Tensor> {
        let rows = logits.dim(0)?;
        let (mut bins, mut shares) = (Vec::with_capacity(2 * K * rows), Vec::with_capacity(2 * K * rows));
        for (y, weight) in (0..rows).flat_map(targets) {
            let (below, above, share) = self.neighbours(y);
            bins.extend([below as u32, above as u32]);
            shares.extend([weight * share, weight * (1.0 - share)]);
        }
        let bins = Tensor::from_vec(bins, (rows, 2 * K), logits.device())?;
        let shares = Tensor::from_vec(shares, (rows, 2 * K), logits.device())?;
        (log_softmax(logits)?.gather(&bins, 1)? * shares)?.sum(1)?.neg()
    }

    /// Weighted sum of the cross-entropies of two-hot targets, (target, weight) each, to one row of logits; fills its gradient.
    pub fn loss<const K: usize>(&self, logits: &[f32], targets: [(f32, f32); K], grad: &mut [f32]) -> f32 {
        let weights: f32 = targets.iter().map(|(_, weight)| weight).sum();
        if targets.iter().all(|(_, weight)| *weight == 0.0) {
            grad.fill(0.0);
            return 0.0;
        }
        let log_sum = scaled_softmax(logits, weights, grad);
        let one = |(y, weight)| {
            let (below, above, share) = self.neighbours(y);
            grad[below] -= weight * share;
            grad[above] -= weight * (1.0 - share);
            weight * (log_sum - share * logits[below] - (1.0 - share) * logits[above])
        };
        targets.into_iter().map(one).sum()
    }

    /// The bins around y and the share of the lower one.
    fn neighbours(&self, y: f32) -> (usize, usize, f32) {
        let last = self.count() - 1;
        let at_most = self.bins.partition_point(|&b| b <= y);
        let (below, above) = (at_most.saturating_sub(1).min(last), at_most.min(last));
        if below == above {
            return (below, above, 0.5);
        }
        let (to_below, to_above) = ((self.bins[below] - y).abs(), (self.bins[above] - y).abs());
        (below, above, to_above / (to_below + to_above))
    }
}

/// Mean of `bins` under the softmax of `logits`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn mean(logits: &[f32], bins: &[f32]) -> f32 {
    let half = bins.len() / 2;
    let (lower, rest) = logits.split_at(half);
    let (centre, upper) = rest.split_at(bins.len() % 2);
    let (values, top) = (&bins[bins.len() - half..], max(logits));
    let (mut sums, mut means) = ([0.0; LANES], [0.0; LANES]);
    for first in (0..half).step_by(LANES) {
        let count = LANES.min(half - first);
        // What lies outside has no weight.
        let [mut below, mut above, mut value] = [[f32::NEG_INFINITY; LANES], [f32::NEG_INFINITY; LANES], [0.0; LANES]];
        above[..count].copy_from_slice(&upper[first..first + count]);
        value[..count].copy_from_slice(&values[first..first + count]);
        (0..count).for_each(|i| below[i] = lower[half - 1 - first - i]);
        for i in 0..LANES {
            let (below, above) = (weight(below[i] - top), weight(above[i] - top));
            sums[i] += below + above;
            // The lower bin is the upper one's negative.
            means[i] += above * value[i] - below * value[i];
        }
    }
    // The bin in the middle is 0.
    total(means) / (total(sums) + centre.iter().map(|x| weight(x - top)).sum::<f32>())
}
