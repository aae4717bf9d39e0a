//! Actor and critic losses on imagined rollouts, and the critic's on replayed steps (official `agent.py`, imag_loss, repl_loss).

use std::ops::Range;

use candle_core::{Result, Tensor};
use shared::dist::categorical;
use shared::dist::normal::Bounded;
use shared::dreamer::inputs::column;
use shared::dreamer::raw_width;
use shared::env::Space;
use shared::kernels::RowLoss;
use shared::kernels::stack::Pass;
use shared::nn::Outputs;

use super::Context;
use super::imagine::Rollout;
use super::losses::{Metrics, Normalizers, Step, Term, average, deviation, mean};
use super::returns::{Episode, lambda_return};

/// Losses of imagined rollouts, one number a start, [N].
pub(super) struct Imagined {
    pub policy: Term,
    pub value: Term,
    /// Return of each start, [N].
    pub first_return: Vec<f32>,
    pub metrics: Metrics,
}

impl Step<'_> {
    /// REINFORCE for the actor and two-hot regression for the critic, on lambda-returns of imagined rollouts.
    pub(super) fn imagination_losses(&self, rollout: Rollout, norms: &mut Normalizers) -> Result<Imagined> {
        let c = self.config;
        let length = c.imag_length + 1;
        let x = rollout.features.clone();
        let reward = self.model.reward.evaluate(&x)?;
        let cont = self.model.cont.evaluate(&x)?;
        let logits = self.model.value.logits(&x)?;
        let (offset, scale) = norms.values.offset_scale();
        let raw_slow = self.slow.evaluate(&x)?;
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
        let targets: Vec<f32> = returns.iter().map(|r| (r - val_offset) / val_scale).collect();
        let mut metrics = spread(&advantages, &normed);
        for (name, values) in [
            ("adv", &advantages),
            ("rew", &reward),
            ("con", &cont),
            ("ret", &normed),
            ("val", &value),
            ("tar", &targets),
            ("weight", &weight),
            ("slowval", &slow),
        ] {
            metrics.insert(name.into(), average(values));
        }
        metrics.extend(entropies);
        // Losses are means over the H acting steps; the state after the last action has weight 0.
        let per_start = |loss: RowLoss| {
            let steps = (length - 1) as f32;
            let values = loss.values.chunks_exact(length).map(|row| row.iter().sum::<f32>() / steps).collect();
            Term::new(values, (loss.sum / f64::from(steps))?)
        };
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
        rollout: Rollout,
        weights: impl Fn(usize) -> (f32, f32) + Sync,
    ) -> Result<(RowLoss, Metrics)> {
        let policy = &self.model.acting.policy;
        let bonus = self.config.imag_loss.actent as f32;
        let raw = match rollout.policy {
            Some((stack, saved)) => Outputs::Fused(Pass::new(stack, &rollout.features, saved)),
            None => {
                let by_key = policy.forward(&rollout.features)?;
                Outputs::Plain(Tensor::cat(&by_key.values().collect::<Vec<_>>(), 1)?)
            }
        };
        let mut keys = vec![];
        let mut column = 0;
        for (key, space) in policy.spaces() {
            let columns = column..column + raw_width(space);
            column = columns.end;
            keys.push(Key { space, bounds: policy.bounds, columns, actions: rollout.actions[key].to_f32() });
        }
        let loss = match raw.plain() {
            Some(raw) => plain_policy_loss(raw, &keys, weights, bonus)?,
            None => raw.loss(|n, row, grad| {
                let (weight, advantage) = weights(n);
                let to = (-weight * advantage, -weight * bonus);
                let key = |key: &Key| {
                    let (logp, entropy) = key.logp_entropy(n, row, to, grad);
                    -weight * (logp * advantage + bonus * entropy)
                };
                keys.iter().map(key).sum()
            })?,
        };
        let length = self.config.imag_length + 1;
        let mut metrics = Metrics::new();
        for ((name, _), key) in policy.spaces().zip(&keys) {
            let entropies = raw.map_rows(|n, row| key.logp_entropy(n, row, (0.0, 0.0), &mut vec![0.0; row.len()]).1)?;
            let acting = entropies.iter().enumerate().filter(|(n, _)| n % length != length - 1);
            let entropy = mean(acting.map(|(_, entropy)| *entropy));
            metrics.insert(format!("ent/{name}"), entropy);
            if let Some((low, high)) = entropy_range(key.space, policy.bounds) {
                metrics.insert(format!("rand/{name}"), (entropy - low) / (high - low));
            }
        }
        Ok((loss, metrics))
    }

    /// Value loss on replayed steps, with imagined returns as bootstrap. `features` [B * K, F]; [B, K - 1] flat.
    pub(super) fn replay_value_loss(
        &self,
        features: &Tensor,
        context: &Context,
        k: usize,
        boot: &[f32],
        norms: &mut Normalizers,
    ) -> Result<Term> {
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
        let values: Vec<f32> = loss.values.chunks_exact(k).flat_map(|row| &row[..k - 1]).copied().collect();
        Term::new(values, loss.sum)
    }
}

/// The policy's loss by tensor operations.
fn plain_policy_loss(raw: &Tensor, keys: &[Key], weights: impl Fn(usize) -> (f32, f32), bonus: f32) -> Result<RowLoss> {
    let (weight, advantage): (Vec<f32>, Vec<f32>) = (0..raw.dim(0)?).map(weights).unzip();
    let (weight, advantage) = (Tensor::new(weight, raw.device())?, Tensor::new(advantage, raw.device())?);
    let mut gain = weight.zeros_like()?;
    for key in keys {
        let (logp, entropy) = key.logps_entropies(raw)?;
        gain = ((gain + (logp * &advantage)?)? + entropy.affine(f64::from(bonus), 0.0)?)?;
    }
    RowLoss::of(&(weight * gain)?.neg()?)
}

/// How far advantages and normalised returns spread.
fn spread(advantages: &[f32], returns: &[f32]) -> Metrics {
    [
        ("adv_std", deviation(advantages)),
        ("adv_mag", mean(advantages.iter().map(|a| a.abs()))),
        ("ret_min", returns.iter().copied().fold(f32::INFINITY, f32::min)),
        ("ret_max", returns.iter().copied().fold(f32::NEG_INFINITY, f32::max)),
        ("ret_rate", mean(returns.iter().map(|r| (r.abs() >= 1.0) as u8 as f32))),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .into()
}

/// The policy's outputs for one action key, and the actions taken.
struct Key<'a> {
    space: &'a Space,
    bounds: Bounded,
    /// Columns of the outputs.
    columns: Range<usize>,
    /// Row by row.
    actions: Vec<f32>,
}

impl Key<'_> {
    /// Log-probability of the action and entropy of every row, by tensor operations, [N] each.
    fn logps_entropies(&self, raw: &Tensor) -> Result<(Tensor, Tensor)> {
        let raw = raw.narrow(1, self.columns.start, self.columns.len())?.contiguous()?;
        match self.space.classes {
            Some(classes) => {
                categorical::logps_entropies(&raw.reshape(((), self.space.elements(), classes))?, &self.actions)
            }
            None => self.bounds.logps_entropies(&raw, &self.actions),
        }
    }

    /// Log-probability of the action of row n, and entropy. Adds `to_logp` and `to_entropy` times their gradients to `grad`.
    fn logp_entropy(&self, n: usize, row: &[f32], to: (f32, f32), grad: &mut [f32]) -> (f32, f32) {
        let (row, grad) = (&row[self.columns.clone()], &mut grad[self.columns.clone()]);
        let elements = self.space.elements();
        let action = &self.actions[n * elements..][..elements];
        let Some(classes) = self.space.classes else {
            return self.bounds.logp_entropy(row, action, to.0, to.1, grad);
        };
        let elements = row.chunks_exact(classes).zip(grad.chunks_exact_mut(classes)).zip(action);
        elements.fold((0.0, 0.0), |(logp, entropy), ((row, grad), &a)| {
            let (l, e) = categorical::logp_entropy(row, a as usize, to.0, to.1, grad);
            (logp + l, entropy + e)
        })
    }
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
