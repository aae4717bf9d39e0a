//! The bounded normal of continuous actions: mean tanh(m), deviation between two bounds, samples unclipped.

use std::f32::consts::PI;

use candle_core::{Result, Tensor};

use crate::kernels::math::{sigmoid, tanh};
use crate::kernels::plain;

/// Bounds of the deviation.
#[derive(Clone, Copy, Debug)]
pub struct Bounded {
    /// Smallest deviation.
    pub min: f32,
    /// Largest deviation.
    pub max: f32,
}

impl Bounded {
    /// Mean and deviation from the two raw outputs of the head.
    pub fn mean_std(self, m: f32, s: f32) -> (f32, f32) {
        (tanh(m), (self.max - self.min) * sigmoid(s + 2.0) + self.min)
    }

    /// Log-probabilities of `actions` [N, dimensions] and entropies by tensor operations, summed over dimensions, [N] each; `raw` is
    /// [means | deviations] before squashing, [N, 2 * dimensions].
    pub fn logps_entropies(self, raw: &Tensor, actions: &[f32]) -> Result<(Tensor, Tensor)> {
        let (rows, dims) = (raw.dim(0)?, raw.dim(1)? / 2);
        let mean = raw.narrow(1, 0, dims)?.tanh()?;
        let spread = plain::sigmoid(&raw.narrow(1, dims, dims)?.affine(1.0, 2.0)?)?;
        let std = spread.affine(f64::from(self.max - self.min), f64::from(self.min))?;
        let z = ((Tensor::from_slice(actions, (rows, dims), raw.device())? - mean)? / &std)?;
        let (log_std, constant) = (std.log()?, f64::from(0.5 * (2.0 * PI).ln()));
        let logp = (z.sqr()?.affine(0.5, constant)? + &log_std)?.sum(1)?.neg()?;
        Ok((logp, log_std.affine(1.0, constant + 0.5)?.sum(1)?))
    }

    /// Log-probability of `action` and entropy, summed over dimensions; `raw` is [means | deviations] before squashing. Adds
    /// `to_logp` and `to_entropy` times their gradients to `grad`.
    pub fn logp_entropy(
        self,
        raw: &[f32],
        action: &[f32],
        to_logp: f32,
        to_entropy: f32,
        grad: &mut [f32],
    ) -> (f32, f32) {
        let dims = action.len();
        let (mut logp, mut entropy) = (0.0, 0.0);
        for i in 0..dims {
            let (mean, std) = self.mean_std(raw[i], raw[dims + i]);
            let z = (action[i] - mean) / std;
            logp -= 0.5 * z * z + std.ln() + 0.5 * (2.0 * PI).ln();
            entropy += 0.5 * (2.0 * PI * std * std).ln() + 0.5;
            let slope = (self.max - self.min) * sigmoid(raw[dims + i] + 2.0) * (1.0 - sigmoid(raw[dims + i] + 2.0));
            grad[i] += to_logp * z / std * (1.0 - mean * mean);
            grad[dims + i] += (to_logp * (z * z - 1.0) / std + to_entropy / std) * slope;
        }
        (logp, entropy)
    }
}
