//! Two-hot encoding of scalars over exponentially spaced bins (official `outs.py`, `heads.py`).

use crate::kernels::math::{softmax, symexp};

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
        let mut probs = vec![0.0; self.count()];
        softmax(logits, &mut probs);
        let (half, odd) = (self.count() / 2, self.count() % 2 == 1);
        let upper = half + usize::from(odd);
        let pair = |i: usize| {
            let (below, above) = (half - 1 - i, upper + i);
            probs[below] * self.bins[below] + probs[above] * self.bins[above]
        };
        let centre = if odd { probs[half] * self.bins[half] } else { 0.0 };
        centre + (0..half).map(pair).sum::<f32>()
    }

    /// Adds `weight` * cross-entropy of the two-hot target `y` to the gradient of the logits, and returns it. `probs` and
    /// `log_sum` are softmax and log-sum-exp of the logits.
    pub fn loss(&self, logits: &[f32], (probs, log_sum): (&[f32], f32), y: f32, weight: f32, grad: &mut [f32]) -> f32 {
        let (below, above, share) = self.neighbours(y);
        for (g, p) in grad.iter_mut().zip(probs) {
            *g += weight * p;
        }
        grad[below] -= weight * share;
        grad[above] -= weight * (1.0 - share);
        weight * (log_sum - share * logits[below] - (1.0 - share) * logits[above])
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
