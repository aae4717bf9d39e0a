//! The losses of one training step (official `agent.py`, loss, imag_loss, repl_loss).

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use shared::config::AgentConfig;
use shared::dist::Draws;
use shared::dist::categorical::{self, Side};
use shared::dreamer::inputs::{self, Columns, column};
use shared::dreamer::{Observations, Observed, State};
use shared::env::Spaces;
use shared::kernels::{RowLoss, plain, read, row_loss};

use super::imagine::imagine;
use super::{Context, Model, Normalize, Recon, Value};

/// Named numbers of a training step.
pub type Metrics = BTreeMap<String, f32>;

/// Running normalisers.
#[derive(Clone)]
pub struct Normalizers {
    /// Of imagined returns.
    pub returns: Normalize,
    /// Of values.
    pub values: Normalize,
    /// Of advantages.
    pub advantages: Normalize,
}

impl Normalizers {
    /// Copies that stay as these are now.
    pub fn held(&self) -> Self {
        let [returns, values, advantages] = [&self.returns, &self.values, &self.advantages].map(Normalize::held);
        Self { returns, values, advantages }
    }
}

/// A loss to descend, and what came with it.
pub struct Loss {
    /// Scaled sum of all losses.
    pub total: Tensor,
    /// Mean of each loss by name, unscaled, with its gradient.
    pub means: BTreeMap<String, Tensor>,
    /// Unreduced, unscaled losses by name, [B, T] (policy, value: [B, K]; repval: [B, K - 1]).
    pub losses: BTreeMap<String, Tensor>,
    /// Metrics by their official names.
    pub metrics: Metrics,
    /// Intermediate values.
    pub outputs: Outputs,
}

/// Intermediate values of a training step, without gradient.
pub struct Outputs {
    /// Encoder output, [B, T, W].
    pub tokens: Tensor,
    /// Posterior states, [B, T, …].
    pub posterior: State,
    /// Raw posterior logits, [B, T, stoch, classes].
    pub logits: Tensor,
    /// Raw decoder predictions, [B * T, …].
    pub recon: Recon,
    /// State after the last step, [B, …].
    pub last: State,
}

/// One loss: a number per step or start, and their mean with its gradient.
pub(super) struct Term {
    pub values: Vec<f32>,
    pub mean: Tensor,
}

impl Term {
    /// `sum` is that of the values, with its gradient.
    pub fn new(values: Vec<f32>, sum: Tensor) -> Result<Self> {
        let mean = (sum / values.len() as f64)?;
        Ok(Self { values, mean })
    }
}

impl TryFrom<RowLoss> for Term {
    type Error = candle_core::Error;

    fn try_from(loss: RowLoss) -> Result<Self> {
        Self::new(loss.values, loss.sum)
    }
}

/// Everything that losses are computed from.
pub struct Step<'a> {
    /// Options.
    pub config: &'a AgentConfig,
    /// Action spaces.
    pub act: &'a Spaces,
    /// Networks.
    pub model: &'a Model,
    /// Slow copy of the value head.
    pub slow: &'a Value,
}

impl Step<'_> {
    /// All losses of a batch.
    pub fn loss(&self, context: &Context, norms: &mut Normalizers, draws: &mut dyn Draws) -> Result<Loss> {
        let (b, t) = context.shape;
        let acting = &self.model.acting;
        let prepared = acting.encoder.inputs(&context.obs, b * t)?.to_device(context.state.deter.device())?;
        let tokens = acting.encoder.forward(&prepared)?.reshape((b, t, ()))?;
        let observed = self.observe(context, &tokens, draws)?;
        let (deter, stoch) = (observed.posterior.deter.flatten(0, 1)?, observed.posterior.stoch.flatten(0, 1)?);
        let features = Tensor::cat(&[&deter, &stoch.flatten_from(1)?], 1)?;
        let (mut losses, mut metrics) = self.latent_losses(&observed, &deter)?;
        let recon = self.model.decoder.forward(&deter, &stoch.flatten_from(1)?)?;
        for (key, loss) in self.model.decoder.losses(&recon, &context.obs, &prepared)? {
            losses.insert(key, loss.try_into()?);
        }
        losses.extend(self.prediction_losses(&features, &context.obs)?);

        let k = self.starts(t);
        let starts = State {
            deter: last_steps(&observed.posterior.deter, k)?,
            stoch: last_steps(&observed.posterior.stoch, k)?,
        };
        let mut rollout = imagine(acting, self.act, &starts, self.config.imag_length, draws)?;
        if self.config.ac_grads {
            // The first state of each rollout is the posterior's; the later ones have no gradient in any case.
            rollout.features = with_first(&starts.features()?, &rollout.features, self.config.imag_length + 1)?;
        }
        let imagined = self.imagination_losses(rollout, norms)?;
        losses.insert("policy".into(), imagined.policy);
        losses.insert("value".into(), imagined.value);
        metrics.extend(imagined.metrics);
        if self.config.repval_loss {
            let features = last_steps(&features.reshape((b, t, ()))?, k)?;
            let loss = self.replay_value_loss(&features, context, k, &imagined.first_return, norms)?;
            losses.insert("repval".into(), loss);
        }
        let total = self.total(&losses, tokens.device(), &mut metrics)?;
        let means = losses.iter().map(|(name, loss)| (name.clone(), loss.mean.clone())).collect();
        let losses = shaped(losses, b)?;
        let Observed { posterior, logits, last } = observed;
        let outputs = Outputs {
            tokens: tokens.detach(),
            posterior: posterior.detach(),
            logits: logits.detach(),
            recon: recon.into_iter().map(|(k, r)| (k, r.detach())).collect(),
            last: last.detach(),
        };
        Ok(Loss { total, means, losses, metrics, outputs })
    }

    /// Imagination starts per row of the batch.
    fn starts(&self, t: usize) -> usize {
        if self.config.imag_last == 0 { t } else { self.config.imag_last.min(t) }
    }

    /// The posterior along the steps of a context, from tokens [B, T, W].
    pub(super) fn observe(&self, context: &Context, tokens: &Tensor, draws: &mut dyn Draws) -> Result<Observed> {
        let (b, t) = context.shape;
        let keep = inputs::flag(&context.obs, "is_first", true)?;
        let actions = inputs::actions(self.act, &context.prev_actions, b * t)?.broadcast_mul(&keep)?;
        let device = tokens.device();
        let keep = keep.reshape((b, t, 1))?.to_device(device)?;
        let actions = actions.reshape((b, t, ()))?.to_device(device)?;
        let seen = Observations { state: &context.state, tokens, actions: &actions, keep: &keep };
        self.model.acting.rssm.observe_all(&seen, draws)
    }

    /// KL losses with free nats, and the entropies of prior and posterior.
    fn latent_losses(&self, observed: &Observed, deter: &Tensor) -> Result<(BTreeMap<String, Term>, Metrics)> {
        let rssm = &self.config.dynamics.rssm;
        let (classes, mix, free) = (rssm.classes, rssm.unimix as f32, rssm.free_nats as f32);
        let width = rssm.stoch * classes;
        let (prior, post) = (self.model.acting.rssm.prior(deter)?, observed.logits.flatten(0, 1)?);
        if plain(deter) {
            return plain_latent_losses(&prior, &post, mix, free);
        }
        let (prior, post) = (prior.flatten_from(1)?, post.flatten_from(1)?);
        let (p, q) = (values(&post)?, values(&prior)?);
        let free_nats = |kl: f32, grad: &mut [f32]| {
            if free > 0.0 && kl < free {
                grad.fill(0.0);
            }
            if free > 0.0 { kl.max(free) } else { kl }
        };
        let dyn_loss = row_loss(&prior, width, |n, row, grad| {
            free_nats(categorical::kl(&p[n * width..][..width], row, classes, mix, Side::Prior, grad), grad)
        })?;
        let rep_loss = row_loss(&post, width, |n, row, grad| {
            free_nats(categorical::kl(row, &q[n * width..][..width], classes, mix, Side::Post, grad), grad)
        })?;
        let entropy = |x: &[f32]| mean(x.chunks_exact(width).map(|row| categorical::entropy(row, classes, mix)));
        let metrics = [("dyn_ent".to_string(), entropy(&q)), ("rep_ent".to_string(), entropy(&p))].into();
        Ok(([("dyn".to_string(), dyn_loss.try_into()?), ("rep".to_string(), rep_loss.try_into()?)].into(), metrics))
    }

    fn prediction_losses(&self, features: &Tensor, obs: &Columns) -> Result<BTreeMap<String, Term>> {
        let seen = if self.config.reward_grad { features.clone() } else { features.detach() };
        let reward = column(obs, "reward")?.to_f32();
        let discount = if self.config.contdisc { 1.0 - 1.0 / self.config.horizon as f32 } else { 1.0 };
        let cont: Vec<f32> = column(obs, "is_terminal")?.to_f32().into_iter().map(|t| (1.0 - t) * discount).collect();
        let rew = self.model.reward.loss(&self.model.reward.logits(&seen)?, |n| [(reward[n], 1.0)])?;
        let con = self.model.cont.loss(&self.model.cont.logits(features)?, &cont)?;
        Ok([("rew".to_string(), rew.try_into()?), ("con".to_string(), con.try_into()?)].into())
    }

    fn total(&self, losses: &BTreeMap<String, Term>, device: &Device, metrics: &mut Metrics) -> Result<Tensor> {
        let mut total = Tensor::zeros((), DType::F32, device)?;
        for (name, loss) in losses {
            metrics.insert(format!("loss/{name}"), average(&loss.values));
            total = (total + (loss.mean.affine(self.scale(name), 0.0))?)?;
        }
        Ok(total)
    }

    /// What a loss is multiplied by.
    pub(crate) fn scale(&self, name: &str) -> f64 {
        let decoded = if name.starts_with("vit/") { "features" } else { "rec" };
        let scales = &self.config.loss_scales;
        scales.get(name).or(scales.get(decoded)).copied().unwrap_or(1.0)
    }
}

/// Losses and entropies of [`Step::latent_losses`] from logits [N, stoch, classes] by tensor operations.
fn plain_latent_losses(
    prior: &Tensor,
    post: &Tensor,
    mix: f32,
    free: f32,
) -> Result<(BTreeMap<String, Term>, Metrics)> {
    let loss = |post: &Tensor, prior: &Tensor| {
        let kl = categorical::kls(post, prior, mix)?;
        RowLoss::of(&if free > 0.0 { kl.maximum(free)? } else { kl })?.try_into()
    };
    let entropy = |logits: &Tensor| categorical::entropies(&logits.detach(), mix)?.mean_all()?.to_scalar();
    let losses = [("dyn", loss(&post.detach(), prior)?), ("rep", loss(post, &prior.detach())?)];
    let metrics = [("dyn_ent", entropy(prior)?), ("rep_ent", entropy(post)?)];
    Ok((losses.map(|(name, loss)| (name.into(), loss)).into(), metrics.map(|(name, x)| (name.into(), x)).into()))
}

/// The last `k` steps of [B, T, …] as [B * k, …].
fn last_steps(x: &Tensor, k: usize) -> Result<Tensor> {
    let t = x.dim(1)?;
    x.narrow(1, t - k, k)?.contiguous()?.flatten(0, 1)
}

/// Rollouts [N * length, F] with `first` [N, F] as their first rows.
fn with_first(first: &Tensor, rollouts: &Tensor, length: usize) -> Result<Tensor> {
    let (rows, width) = first.dims2()?;
    let rest = rollouts.reshape((rows, length, width))?.narrow(1, 1, length - 1)?;
    Tensor::cat(&[&first.unsqueeze(1)?, &rest], 1)?.flatten(0, 1)
}

fn shaped(losses: BTreeMap<String, Term>, rows: usize) -> Result<BTreeMap<String, Tensor>> {
    let shaped = |(name, loss): (String, Term)| {
        let columns = loss.values.len() / rows;
        Ok((name, Tensor::from_vec(loss.values, (rows, columns), &Device::Cpu)?))
    };
    losses.into_iter().map(shaped).collect()
}

fn values(x: &Tensor) -> Result<Vec<f32>> {
    read(x, <[f32]>::to_vec)
}

pub(super) fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values.fold((0.0f64, 0usize), |(sum, count), x| (sum + f64::from(x), count + 1));
    (sum / count.max(1) as f64) as f32
}

pub(super) fn average(values: &[f32]) -> f32 {
    mean(values.iter().copied())
}

pub(super) fn deviation(values: &[f32]) -> f32 {
    let centre = average(values);
    mean(values.iter().map(|x| (x - centre) * (x - centre))).sqrt()
}
