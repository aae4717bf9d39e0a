//! What a number that is not finite spoils: found before anything has changed, and named where it is first seen.

use std::fmt;

use candle_core::Tensor;
use shared::array::{Array, all_finite};
use shared::kernels::read;

use super::{Agent, AgentError, Batch};
use crate::dreamer::{Loss, Normalizers, Stats};
use crate::optim::Obstacle;

/// The first thing that is not finite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// A column of the batch.
    Column {
        /// Its key.
        key: String,
        /// Row, below B.
        row: usize,
        /// Step, below C + T.
        step: usize,
    },
    /// A parameter, by path.
    Parameter(String),
    /// State of the optimizer, by key.
    Moment(String),
    /// Running statistics, by name.
    Statistics(&'static str),
    /// A loss, by name.
    Loss(String),
    /// Another metric, by name.
    Metric(String),
    /// The posterior's recurrent state.
    Latent,
    /// The gradient of a parameter, by path.
    Gradient(String),
    /// A parameter that the step would make larger than float32 holds, by path.
    Step(String),
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Culprit::Column { key, row, step } => write!(f, "batch column `{key}`, row {row}, step {step}"),
            Culprit::Parameter(path) => write!(f, "parameter `{path}`"),
            Culprit::Moment(key) => write!(f, "optimizer state `{key}`"),
            Culprit::Statistics(name) => write!(f, "normaliser `{name}`"),
            Culprit::Loss(name) => write!(f, "loss `{name}`"),
            Culprit::Metric(name) => write!(f, "metric `{name}`"),
            Culprit::Latent => write!(f, "the posterior's `dyn/deter`"),
            Culprit::Gradient(path) => write!(f, "gradient of `{path}`"),
            Culprit::Step(path) => write!(f, "the next value of parameter `{path}`"),
        }
    }
}

/// The first column of a batch with a number that is not finite.
pub(super) fn check_batch(batch: &Batch) -> Result<(), AgentError> {
    let bad = |(key, column): (&String, &Array)| {
        let at = column.first_non_finite()?;
        let [_, steps, rest @ ..] = &column.shape[..] else { return None };
        let step = at / rest.iter().product::<usize>();
        Some(Culprit::Column { key: key.clone(), row: step / steps, step: step % steps })
    };
    batch.iter().find_map(bad).map_or(Ok(()), refuse)
}

impl Agent {
    /// That the update can be made and leaves everything finite; nothing has changed yet.
    pub(super) fn check_update(&self, loss: &Loss, norms: &Normalizers, grads: &[Tensor]) -> Result<(), AgentError> {
        let obstacle = self.optimizer.obstacle(grads)?;
        // What an update begins with, before what it makes of that.
        let begun_with = match &obstacle {
            Some(Obstacle::Parameter(path)) => Some(Culprit::Parameter(path.clone())),
            Some(Obstacle::Moment(key)) => Some(Culprit::Moment(key.clone())),
            _ => bad_statistics(&self.norms),
        };
        if let Some(culprit) = begun_with {
            return refuse(culprit);
        }
        if let Some(culprit) = self.bad_result(loss, norms)? {
            // The slow value shows in losses only.
            return refuse(self.bad_slow_value()?.unwrap_or(culprit));
        }
        match obstacle {
            Some(Obstacle::Gradient(path)) => refuse(Culprit::Gradient(path)),
            Some(Obstacle::Step(path)) => refuse(Culprit::Step(path)),
            _ => Ok(()),
        }
    }

    /// Of what the forward pass gave.
    fn bad_result(&self, loss: &Loss, norms: &Normalizers) -> Result<Option<Culprit>, AgentError> {
        let bad = |value: &f32| !value.is_finite();
        let unscaled = |name: &&String| loss.metrics.get(&format!("loss/{name}")).is_some_and(bad);
        if let Some(name) = loss.means.keys().find(unscaled) {
            return Ok(Some(Culprit::Loss(name.clone())));
        }
        if bad(&loss.total.to_scalar()?) {
            for (name, mean) in &loss.means {
                if bad(&mean.affine(self.step().scale(name), 0.0)?.to_scalar()?) {
                    return Ok(Some(Culprit::Loss(name.clone())));
                }
            }
            return Ok(Some(Culprit::Loss("total".into())));
        }
        if !read(&loss.outputs.posterior.deter, all_finite)? {
            return Ok(Some(Culprit::Latent));
        }
        let metric = loss.metrics.iter().find(|(_, value)| bad(value)).map(|(name, _)| Culprit::Metric(name.clone()));
        Ok(bad_statistics(norms).or(metric))
    }

    fn bad_slow_value(&self) -> Result<Option<Culprit>, AgentError> {
        for (path, slow) in self.slow_params.trainable() {
            if !read(slow.as_tensor(), all_finite)? {
                return Ok(Some(Culprit::Parameter(path)));
            }
        }
        Ok(None)
    }
}

fn bad_statistics(norms: &Normalizers) -> Option<Culprit> {
    let finite = |Stats { low, high, corr }: &Stats| all_finite(&[*low, *high, *corr]);
    let all = [("returns", &norms.returns), ("values", &norms.values), ("advantages", &norms.advantages)];
    all.into_iter().find(|(_, norm)| !finite(&norm.stats)).map(|(name, _)| Culprit::Statistics(name))
}

fn refuse(what: Culprit) -> Result<(), AgentError> {
    Err(AgentError::NotFinite { what })
}

#[cfg(test)]
mod tests;
