//! Scalar heads: two-hot reward and value, binary continue (official `heads.py`, `outs.py`).

use candle_core::{Result, Tensor};
use shared::config::HeadConfig;
use shared::dist::TwoHot;
use shared::kernels::math::{sigmoid, softplus};
use shared::kernels::{Precision, RowLoss, no_grad, plain, read};
use shared::nn::{Linear, Mlp, Outputs, Style};
use shared::params::{ParamError, Scope};

/// A scalar as a categorical over symexp-spaced bins: reward and value.
pub struct Value {
    mlp: Mlp,
    head: Linear,
    bins: TwoHot,
}

impl Value {
    /// Modules below `scope` (`rew`, `val`, `slowval`).
    pub fn new(
        scope: &Scope,
        config: &HeadConfig,
        precision: Precision,
        inputs: usize,
    ) -> std::result::Result<Self, ParamError> {
        let bins = TwoHot::new(config.bins.unwrap_or(255));
        let style = Style::new(&config.act, &config.norm, &config.winit)?.at(precision);
        let mlp = Mlp::head(&scope.sub("mlp"), &style, inputs, config.units, config.layers)?;
        let head = Linear::new(&scope.sub("head").sub("logits"), &style, mlp.width(), bins.count(), config.outscale)?;
        Ok(Self { mlp, head, bins })
    }

    /// Logits [N, bins] of features [N, F].
    pub fn logits(&self, features: &Tensor) -> Result<Outputs> {
        Outputs::of(&self.mlp, &self.head, features)
    }

    /// Means [N] of features [N, F], without gradient.
    pub fn evaluate(&self, features: &Tensor) -> Result<Vec<f32>> {
        if plain(features) {
            return no_grad(|| self.means(&self.logits(&features.detach())?));
        }
        Outputs::evaluate(&self.mlp, &self.head, features, |logits| self.bins.mean(logits))
    }

    /// Means [N] of logits.
    pub fn means(&self, logits: &Outputs) -> Result<Vec<f32>> {
        match logits.plain() {
            Some(logits) => read(&self.bins.means(logits)?, <[f32]>::to_vec),
            None => logits.map_rows(|_, row| self.bins.mean(row)),
        }
    }

    /// Weighted sum of cross-entropies to several targets per row: `targets(n)` gives (target, weight) pairs. [N].
    pub fn loss<const K: usize>(
        &self,
        logits: &Outputs,
        targets: impl Fn(usize) -> [(f32, f32); K] + Sync,
    ) -> Result<RowLoss> {
        match logits.plain() {
            Some(logits) => RowLoss::of(&self.bins.losses(logits, targets)?),
            None => logits.loss(|n, row, grad| self.bins.loss(row, targets(n), grad)),
        }
    }
}

/// A probability: whether the episode continues.
pub struct Binary {
    mlp: Mlp,
    head: Linear,
}

impl Binary {
    /// Modules below `scope` (`con`).
    pub fn new(
        scope: &Scope,
        config: &HeadConfig,
        precision: Precision,
        inputs: usize,
    ) -> std::result::Result<Self, ParamError> {
        let style = Style::new(&config.act, &config.norm, &config.winit)?.at(precision);
        let mlp = Mlp::head(&scope.sub("mlp"), &style, inputs, config.units, config.layers)?;
        let head = Linear::new(&scope.sub("head").sub("logit"), &style, mlp.width(), 1, config.outscale)?;
        Ok(Self { mlp, head })
    }

    /// Logits [N, 1] of features [N, F].
    pub fn logits(&self, features: &Tensor) -> Result<Outputs> {
        Outputs::of(&self.mlp, &self.head, features)
    }

    /// Probabilities [N] of features [N, F], without gradient.
    pub fn evaluate(&self, features: &Tensor) -> Result<Vec<f32>> {
        Outputs::evaluate(&self.mlp, &self.head, features, |logit| sigmoid(logit[0]))
    }

    /// Cross-entropy to soft targets [N].
    pub fn loss(&self, logits: &Outputs, targets: &[f32]) -> Result<RowLoss> {
        if let Some(logits) = logits.plain() {
            let (logits, targets) = (logits.squeeze(1)?, Tensor::new(targets, logits.device())?);
            return RowLoss::of(&(plain::softplus(&logits)? - (targets * &logits)?)?);
        }
        logits.loss(|n, row, grad| {
            grad[0] = sigmoid(row[0]) - targets[n];
            softplus(row[0]) - targets[n] * row[0]
        })
    }
}
