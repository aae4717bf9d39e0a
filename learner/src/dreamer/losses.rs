//! The losses of one training step (official `agent.py`, loss, imag_loss, repl_loss).

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use shared::config::AgentConfig;
use shared::dist::Draws;
use shared::dist::categorical::{self, Side};
use shared::dist::normal::Bounded;
use shared::dreamer::State;
use shared::dreamer::inputs::{self, Columns, column};
use shared::env::{Space, Spaces};
use shared::kernels::{read, row_loss};

use super::imagine::{Rollout, imagine};
use super::returns::{Episode, lambda_return};
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
    /// Each with its official name.
    pub fn named(&mut self) -> [(&'static str, &mut Normalize); 3] {
        [("retnorm", &mut self.returns), ("valnorm", &mut self.values), ("advnorm", &mut self.advantages)]
    }
}

/// A loss to descend, and what came with it.
pub struct Loss {
    /// Scaled sum of all losses.
    pub total: Tensor,
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

/// The posterior along time, with gradient.
struct Observed {
    /// [B, T, …].
    posterior: State,
    logits: Tensor,
    last: State,
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
        let prepared = acting.encoder.inputs(&context.obs, b * t)?;
        let tokens = acting.encoder.forward(&prepared)?.reshape((b, t, ()))?;
        let observed = self.observe(context, &tokens, draws)?;
        let (deter, stoch) = (observed.posterior.deter.flatten(0, 1)?, observed.posterior.stoch.flatten(0, 1)?);
        let features = Tensor::cat(&[&deter, &stoch.flatten_from(1)?], 1)?;
        let (mut losses, mut metrics) = self.latent_losses(&observed, &deter)?;
        let recon = self.model.decoder.forward(&deter, &stoch.flatten_from(1)?)?;
        losses.extend(self.model.decoder.losses(&recon, &context.obs, &prepared)?);
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
        let imagined = self.imagination_losses(&rollout, norms)?;
        losses.insert("policy".into(), imagined.policy);
        losses.insert("value".into(), imagined.value);
        metrics.extend(imagined.metrics);
        if self.config.repval_loss {
            let features = last_steps(&features.reshape((b, t, ()))?, k)?;
            let loss = self.replay_value_loss(&features, context, k, &imagined.first_return, norms)?;
            losses.insert("repval".into(), loss);
        }
        let total = self.total(&losses, &mut metrics)?;
        let losses = shaped(losses, b)?;
        let Observed { posterior, logits, last } = observed;
        let outputs = Outputs {
            tokens: tokens.detach(),
            posterior: posterior.detach(),
            logits: logits.detach(),
            recon: recon.into_iter().map(|(k, r)| (k, r.detach())).collect(),
            last: last.detach(),
        };
        Ok(Loss { total, losses, metrics, outputs })
    }

    /// Imagination starts per row of the batch.
    fn starts(&self, t: usize) -> usize {
        if self.config.imag_last == 0 { t } else { self.config.imag_last.min(t) }
    }

    fn observe(&self, context: &Context, tokens: &Tensor, draws: &mut dyn Draws) -> Result<Observed> {
        let (b, t) = context.shape;
        let keep = inputs::flag(&context.obs, "is_first", true)?;
        let actions = inputs::actions(self.act, &context.prev_actions, b * t)?.broadcast_mul(&keep)?;
        let (keep, actions) = (keep.reshape((b, t, 1))?, actions.reshape((b, t, ()))?);
        let mut last = context.state.clone();
        let (mut deters, mut stochs, mut logits) = (vec![], vec![], vec![]);
        for i in 0..t {
            let at = |x: &Tensor| x.narrow(1, i, 1)?.squeeze(1);
            let (next, logit) =
                self.model.acting.rssm.observe(&last, &at(&actions)?, &at(tokens)?, &at(&keep)?, draws)?;
            deters.push(next.deter.clone());
            stochs.push(next.stoch.clone());
            logits.push(logit);
            last = next;
        }
        let posterior = State { deter: Tensor::stack(&deters, 1)?, stoch: Tensor::stack(&stochs, 1)? };
        Ok(Observed { posterior, logits: Tensor::stack(&logits, 1)?, last })
    }

    /// KL losses with free nats, and the entropies of prior and posterior.
    fn latent_losses(&self, observed: &Observed, deter: &Tensor) -> Result<(BTreeMap<String, Tensor>, Metrics)> {
        let rssm = &self.config.dynamics.rssm;
        let (classes, mix, free) = (rssm.classes, rssm.unimix as f32, rssm.free_nats as f32);
        let width = rssm.stoch * classes;
        let prior = self.model.acting.rssm.prior(deter)?.flatten_from(1)?;
        let post = observed.logits.flatten(0, 1)?.flatten_from(1)?;
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
        Ok(([("dyn".to_string(), dyn_loss), ("rep".to_string(), rep_loss)].into(), metrics))
    }

    fn prediction_losses(&self, features: &Tensor, obs: &Columns) -> Result<BTreeMap<String, Tensor>> {
        let seen = if self.config.reward_grad { features.clone() } else { features.detach() };
        let reward = column(obs, "reward")?.to_f32();
        let discount = if self.config.contdisc { 1.0 - 1.0 / self.config.horizon as f32 } else { 1.0 };
        let cont: Vec<f32> = column(obs, "is_terminal")?.to_f32().into_iter().map(|t| (1.0 - t) * discount).collect();
        let rew = self.model.reward.loss(&self.model.reward.logits(&seen)?, |n| [(reward[n], 1.0)])?;
        let con = self.model.cont.loss(&self.model.cont.logits(features)?, &cont)?;
        Ok([("rew".to_string(), rew), ("con".to_string(), con)].into())
    }

    fn imagination_losses(&self, rollout: &Rollout, norms: &mut Normalizers) -> Result<Imagined> {
        let c = self.config;
        let length = c.imag_length + 1;
        let x = &rollout.features;
        let reward = self.model.reward.evaluate(x)?;
        let cont = self.model.cont.evaluate(x)?;
        let logits = self.model.value.logits(x)?;
        let (offset, scale) = norms.values.offset_scale();
        let raw_slow = self.slow.evaluate(x)?;
        let value: Vec<f32> = self.model.value.means(&logits)?.iter().map(|v| v * scale + offset).collect();
        let slow: Vec<f32> = raw_slow.iter().map(|v| v * scale + offset).collect();
        let target = if c.imag_loss.slowtar { &slow } else { &value };
        let discount = if c.contdisc { 1.0 } else { 1.0 - 1.0 / c.horizon as f32 };
        let weight = cumulative(&cont, length, discount);
        let term: Vec<f32> = cont.iter().map(|c| 1.0 - c).collect();
        let never = vec![0.0; term.len()];
        let episode = Episode { last: &never, term: &term, reward: &reward, boot: target };
        let returns = lambda_return(&episode, length, discount, c.imag_loss.lam as f32);

        let (ret_offset, ret_scale) = norms.returns.update(&returns);
        let at = |n: usize| (n / length, n % length);
        let advantages: Vec<f32> = (0..returns.len())
            .map(|i| (returns[i] - target[i / (length - 1) * length + i % (length - 1)]) / ret_scale)
            .collect();
        let (adv_offset, adv_scale) = norms.advantages.update(&advantages);
        let (val_offset, val_scale) = norms.values.update(&returns);
        let (policy, entropies) = self.policy_loss(rollout, |n| {
            let (row, h) = at(n);
            let advantage = advantages.get(row * (length - 1) + h).filter(|_| h < length - 1);
            advantage.map_or((0.0, 0.0), |a| (weight[n], (a - adv_offset) / adv_scale))
        })?;
        let slowreg = c.imag_loss.slowreg as f32;
        let value_loss = self.model.value.loss(&logits, |n| {
            let (row, h) = at(n);
            match h < length - 1 {
                true => [
                    ((returns[row * (length - 1) + h] - val_offset) / val_scale, weight[n]),
                    (raw_slow[n], weight[n] * slowreg),
                ],
                false => [(0.0, 0.0); 2],
            }
        })?;

        let normed: Vec<f32> = returns.iter().map(|r| (r - ret_offset) / ret_scale).collect();
        let mut metrics = Metrics::new();
        let mut put = |name: &str, value: f32| metrics.insert(name.to_string(), value);
        put("adv", average(&advantages));
        put("adv_std", deviation(&advantages));
        put("adv_mag", mean(advantages.iter().map(|a| a.abs())));
        put("rew", average(&reward));
        put("con", average(&cont));
        put("ret", average(&normed));
        put("val", average(&value));
        put("tar", mean(returns.iter().map(|r| (r - val_offset) / val_scale)));
        put("weight", average(&weight));
        put("slowval", average(&slow));
        put("ret_min", normed.iter().copied().fold(f32::INFINITY, f32::min));
        put("ret_max", normed.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        put("ret_rate", mean(normed.iter().map(|r| (r.abs() >= 1.0) as u8 as f32)));
        metrics.extend(entropies);
        // Losses are means over the H acting steps; the state after the last action has weight 0.
        let per_start = |loss: Tensor| loss.reshape(((), length))?.sum(1)? / (length - 1) as f64;
        Ok(Imagined {
            policy: per_start(policy)?,
            value: per_start(value_loss)?,
            first_return: returns.iter().step_by(length - 1).copied().collect(),
            metrics,
        })
    }

    /// REINFORCE with entropy bonus; `weights(n)` gives weight and advantage of row n. [N * (H + 1)].
    fn policy_loss(
        &self,
        rollout: &Rollout,
        weights: impl Fn(usize) -> (f32, f32) + Sync,
    ) -> Result<(Tensor, Metrics)> {
        let policy = &self.model.acting.policy;
        let bonus = self.config.imag_loss.actent as f32;
        let raw = policy.forward(&rollout.features)?;
        let length = self.config.imag_length + 1;
        let mut metrics = Metrics::new();
        let mut total: Option<Tensor> = None;
        for (key, space) in self.act {
            let actions = rollout.actions[key].to_f32();
            let elements = space.elements();
            let evaluate = |n: usize, row: &[f32], to: (f32, f32), grad: &mut [f32]| {
                logp_entropy(space, policy.bounds, row, &actions[n * elements..][..elements], to, grad)
            };
            let columns = raw[key].dim(1)?;
            let loss = row_loss(&raw[key], columns, |n, row, grad| {
                let (weight, advantage) = weights(n);
                let (logp, entropy) = evaluate(n, row, (-weight * advantage, -weight * bonus), grad);
                -weight * (logp * advantage + bonus * entropy)
            })?;
            let mut scratch = vec![0.0; columns];
            let entropy = read(&raw[key], |raw| {
                let rows = raw.chunks_exact(columns).enumerate().filter(|(n, _)| n % length != length - 1);
                mean(rows.map(|(n, row)| evaluate(n, row, (0.0, 0.0), &mut scratch).1))
            })?;
            metrics.insert(format!("ent/{key}"), entropy);
            if let Some((low, high)) = entropy_range(space, policy.bounds) {
                metrics.insert(format!("rand/{key}"), (entropy - low) / (high - low));
            }
            total = Some(match total {
                Some(sum) => (sum + loss)?,
                None => loss,
            });
        }
        let total = total.ok_or_else(|| candle_core::Error::Msg("the environment has no action".into()))?;
        Ok((total, metrics))
    }

    /// Value loss on replayed steps, with imagined returns as bootstrap. `features` [B * K, F]; [B, K - 1] flat.
    fn replay_value_loss(
        &self,
        features: &Tensor,
        context: &Context,
        k: usize,
        boot: &[f32],
        norms: &mut Normalizers,
    ) -> Result<Tensor> {
        let c = self.config;
        let (_, t) = context.shape;
        let features = if c.repval_grad { features.clone() } else { features.detach() };
        let tail = |key: &str| -> Result<Vec<f32>> {
            let values = column(&context.obs, key)?.to_f32();
            Ok(values.chunks_exact(t).flat_map(|row| &row[t - k..]).copied().collect())
        };
        let (last, term, reward) = (tail("is_last")?, tail("is_terminal")?, tail("reward")?);
        let logits = self.model.value.logits(&features)?;
        let slow = self.slow.evaluate(&features)?;
        let discount = 1.0 - 1.0 / c.horizon as f32;
        let episode = Episode { last: &last, term: &term, reward: &reward, boot };
        let returns = lambda_return(&episode, k, discount, c.repl_loss.lam as f32);
        let (offset, scale) = norms.values.update(&returns);
        let slowreg = c.repl_loss.slowreg as f32;
        let loss = self.model.value.loss(&logits, |n| {
            let (row, i) = (n / k, n % k);
            match i < k - 1 {
                true => {
                    let weight = 1.0 - last[n];
                    [((returns[row * (k - 1) + i] - offset) / scale, weight), (slow[n], weight * slowreg)]
                }
                false => [(0.0, 0.0); 2],
            }
        })?;
        loss.reshape(((), k))?.narrow(1, 0, k - 1)?.contiguous()?.flatten_all()
    }

    fn total(&self, losses: &BTreeMap<String, Tensor>, metrics: &mut Metrics) -> Result<Tensor> {
        let mut total = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        for (name, loss) in losses {
            let known = self.config.loss_scales.get(name);
            let scale = known.or(self.config.loss_scales.get("rec")).copied().unwrap_or(1.0);
            metrics.insert(format!("loss/{name}"), average(&values(loss)?));
            total = (total + (loss.mean_all()? * scale)?)?;
        }
        Ok(total)
    }
}

struct Imagined {
    /// [N].
    policy: Tensor,
    /// [N].
    value: Tensor,
    /// Return of each start, [N].
    first_return: Vec<f32>,
    metrics: Metrics,
}

fn logp_entropy(
    space: &Space,
    bounds: Bounded,
    row: &[f32],
    action: &[f32],
    (to_logp, to_entropy): (f32, f32),
    grad: &mut [f32],
) -> (f32, f32) {
    let Some(classes) = space.classes else {
        return bounds.logp_entropy(row, action, to_logp, to_entropy, grad);
    };
    let elements = row.chunks_exact(classes).zip(grad.chunks_exact_mut(classes)).zip(action);
    elements.fold((0.0, 0.0), |(logp, entropy), ((row, grad), &a)| {
        let (l, e) = categorical::logp_entropy(row, a as usize, to_logp, to_entropy, grad);
        (logp + l, entropy + e)
    })
}

/// Smallest and largest entropy of a scalar action; the official code reports none for others.
fn entropy_range(space: &Space, bounds: Bounded) -> Option<(f32, f32)> {
    if !space.shape.is_empty() {
        return None;
    }
    let normal = |std: f32| 0.5 * (2.0 * std::f32::consts::PI * std * std).ln() + 0.5;
    Some(space.classes.map_or((normal(bounds.min), normal(bounds.max)), |classes| (0.0, (classes as f32).ln())))
}

/// Running product of discount * continue along each row of `length`, divided by the discount.
fn cumulative(cont: &[f32], length: usize, discount: f32) -> Vec<f32> {
    let row = |row: &[f32]| -> Vec<f32> {
        let product = row.iter().scan(1.0f32, |acc, c| {
            *acc *= discount * c;
            Some(*acc / discount)
        });
        product.collect()
    };
    cont.chunks_exact(length).flat_map(row).collect()
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

fn shaped(losses: BTreeMap<String, Tensor>, rows: usize) -> Result<BTreeMap<String, Tensor>> {
    losses.into_iter().map(|(name, loss)| Ok((name, loss.detach().reshape((rows, ()))?))).collect()
}

fn values(x: &Tensor) -> Result<Vec<f32>> {
    read(x, <[f32]>::to_vec)
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values.fold((0.0f64, 0usize), |(sum, count), x| (sum + f64::from(x), count + 1));
    (sum / count.max(1) as f64) as f32
}

fn average(values: &[f32]) -> f32 {
    mean(values.iter().copied())
}

fn deviation(values: &[f32]) -> f32 {
    let centre = average(values);
    mean(values.iter().map(|x| (x - centre) * (x - centre))).sqrt()
}
