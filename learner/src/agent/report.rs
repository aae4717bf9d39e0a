//! Reports on a batch: losses, norms of their gradients, open-loop predictions. Nothing of the agent changes.

use std::collections::BTreeMap;

use candle_core::Tensor;
use shared::dist::Draws;
use shared::dreamer::inputs::column;
use shared::kernels::{no_grad, read};

use super::{Agent, AgentError, Batch};
use crate::dreamer::{Carry, Loss, Prediction};

/// What a report says.
pub struct Reported {
    /// By name: `loss/KEY`, `openloop_error/KEY`, and `gradnorm/LOSS` with `agent.report_gradnorms`.
    pub metrics: BTreeMap<String, f32>,
    /// Images and features beside what the world model predicts of them, by key.
    pub predictions: BTreeMap<String, Prediction>,
}

impl Agent {
    /// On a batch of rows that begin samples, at least two steps long behind the replay context, with noise from `draws`.
    pub fn report(&self, batch: &Batch, draws: &mut dyn Draws) -> Result<Reported, AgentError> {
        let rows = column(batch, "is_first")?.shape[0];
        let context = self.context_after(Carry::zeros(&self.config, &self.act, rows)?, batch)?;
        let step = self.step();
        let mut norms = self.norms.held();
        let mut losses = || step.loss(&context, &mut norms, draws);
        let loss = if self.config.report_gradnorms { losses() } else { no_grad(losses) }?;
        let mut metrics = if self.config.report_gradnorms { self.gradient_norms(&loss)? } else { BTreeMap::new() };
        let tokens = loss.outputs.tokens;
        metrics.extend(loss.metrics.into_iter().filter(|(name, _)| name.starts_with("loss/")));
        let open = step.open_loop(&context, &tokens, draws)?;
        metrics.extend(open.errors.into_iter().map(|(key, error)| (format!("openloop_error/{key}"), error)));
        Ok(Reported { metrics, predictions: open.predictions })
    }

    /// Of each loss on its own, unscaled.
    fn gradient_norms(&self, loss: &Loss) -> Result<BTreeMap<String, f32>, AgentError> {
        let squares = |grad: &Tensor| read(grad, |grad| grad.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>());
        let norm = |(name, mean): (&String, &Tensor)| {
            let grads = self.optimizer.gradients(&mean.backward()?)?;
            let squares = grads.iter().map(squares).sum::<candle_core::Result<f64>>()?;
            Ok((format!("gradnorm/{name}"), squares.sqrt() as f32))
        };
        loss.means.iter().map(norm).collect()
    }
}
