//! Open-loop predictions: the world model sees the first half of a sample and imagines the second with the actions that were taken
//! (official `agent.py`, report).

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use shared::array::Array;
use shared::dist::Draws;
use shared::dreamer::inputs::{self, Columns, column};
use shared::dreamer::{Inputs, State, to_array};
use shared::kernels::{no_grad, read};

use super::losses::{Metrics, Step, mean};
use super::{Context, Recon};

/// Rows of a batch that are predicted, as many as the official code draws.
const ROWS: usize = 6;

/// What is predicted of a batch.
pub struct OpenLoop {
    /// Mean loss by key over the imagined steps, up to where another episode begins, which nobody can foresee.
    pub errors: Metrics,
    /// Images, and features of the ViT, by key.
    pub predictions: BTreeMap<String, Prediction>,
}

/// What came and what was predicted for N rows of T steps: frames u8 [N, T, H, W, C], or standardised features f32 [N, T, W].
pub struct Prediction {
    /// What came.
    pub truth: Array,
    /// What was predicted, of the same type and shape.
    pub predicted: Array,
    /// Steps that the world model saw, of T.
    pub seen: usize,
}

impl Step<'_> {
    /// Predictions for the first rows of a batch, whose encoder output is `tokens` [B, T, W]. Leaves no gradient.
    pub fn open_loop(&self, context: &Context, tokens: &Tensor, draws: &mut dyn Draws) -> Result<OpenLoop> {
        no_grad(|| {
            let (b, t) = context.shape;
            let (rows, seen) = (b.min(ROWS), t / 2);
            let all = context.part(rows, 0..t)?;
            let states = self.half_seen(context, &tokens.narrow(0, 0, rows)?, seen, draws)?;
            let stoch = states.stoch.flatten(0, 1)?.flatten_from(1)?;
            let recon = self.model.decoder.forward(&states.deter.flatten(0, 1)?, &stoch)?;
            let prepared = self.model.acting.encoder.inputs(&all.obs, rows * t)?.to_device(tokens.device())?;
            let predictions = self.predictions(&recon, &all, &prepared, seen)?;
            Ok(OpenLoop { errors: self.errors(&recon, &all, &prepared, seen)?, predictions })
        })
    }

    /// Posterior states of the steps that are seen, imagined ones of the others: [rows, T, …].
    fn half_seen(&self, context: &Context, tokens: &Tensor, seen: usize, draws: &mut dyn Draws) -> Result<State> {
        let (rows, t) = (tokens.dim(0)?, context.shape.1);
        let observed = self.observe(&context.part(rows, 0..seen)?, &tokens.narrow(1, 0, seen)?.contiguous()?, draws)?;
        let later = context.part(rows, seen..t)?;
        let actions = inputs::actions(self.act, &later.prev_actions, rows * (t - seen))?;
        let actions = actions.reshape((rows, t - seen, ()))?.to_device(tokens.device())?;
        let mut state = observed.last;
        let (mut deter, mut stoch) = (vec![], vec![]);
        for i in 0..t - seen {
            state = self.model.acting.rssm.imagine(&state, &actions.narrow(1, i, 1)?.squeeze(1)?, draws)?;
            deter.push(state.deter.clone());
            stoch.push(state.stoch.clone());
        }
        let joined = |seen: &Tensor, imagined: &[Tensor]| Tensor::cat(&[seen, &Tensor::stack(imagined, 1)?], 1);
        Ok(State {
            deter: joined(&observed.posterior.deter, &deter)?,
            stoch: joined(&observed.posterior.stoch, &stoch)?,
        })
    }

    fn errors(&self, recon: &Recon, context: &Context, prepared: &Inputs, seen: usize) -> Result<Metrics> {
        let steps = foreseeable(&context.obs, context.shape.1, seen)?;
        let losses = self.model.decoder.losses(recon, &context.obs, prepared)?;
        let over = |values: &[f32]| mean(steps.iter().map(|n| values[*n]));
        Ok(match steps.is_empty() {
            true => Metrics::new(),
            false => losses.into_iter().map(|(key, loss)| (key, over(&loss.values))).collect(),
        })
    }

    fn predictions(
        &self,
        recon: &Recon,
        context: &Context,
        prepared: &Inputs,
        seen: usize,
    ) -> Result<BTreeMap<String, Prediction>> {
        let (rows, t) = context.shape;
        let by_row = |array: Array| Array { shape: [&[rows, t], &array.shape[1..]].concat(), ..array };
        let mut predictions = BTreeMap::new();
        for key in self.model.decoder.images() {
            let (truth, raw) = (column(&context.obs, key)?.clone(), &recon[key]);
            let predicted =
                Array::u8(raw.dims(), &read(raw, |raw| raw.iter().map(|x| to_byte(*x)).collect::<Vec<_>>())?);
            predictions.insert(key.into(), Prediction { truth: by_row(truth), predicted: by_row(predicted), seen });
        }
        for (key, truth) in &prepared.features {
            let Some(raw) = recon.get(key) else { continue };
            let (truth, predicted) = (by_row(to_array(truth)?), by_row(to_array(raw)?));
            predictions.insert(key.clone(), Prediction { truth, predicted, seen });
        }
        Ok(predictions)
    }
}

/// A predicted pixel before the sigmoid as a byte, cut off as the official code does it.
fn to_byte(raw: f32) -> u8 {
    (255.0 / (1.0 + (-raw).exp())) as u8
}

/// Imagined steps of [N * T] up to the first of each row that begins an episode.
fn foreseeable(obs: &Columns, t: usize, seen: usize) -> Result<Vec<usize>> {
    let first = column(obs, "is_first")?.to_f32();
    let row = |(n, row): (usize, &[f32])| {
        let end = row[seen..].iter().position(|first| *first != 0.0).map_or(t, |i| seen + i);
        n * t + seen..n * t + end
    };
    Ok(first.chunks_exact(t).enumerate().flat_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_count_until_another_episode_begins() {
        // Rows: none begins; one begins in the seen half; one begins later.
        let first = [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 1, 0, 0]].concat();
        let obs = [("is_first".to_string(), Array::u8(&[20], &first))].into();
        assert_eq!(foreseeable(&obs, 5, 2).unwrap(), [2, 3, 4, 7, 8, 9, 12]);
    }

    #[test]
    fn bytes_of_predictions_are_cut_off() {
        assert_eq!([-90.0, 0.0, 90.0].map(to_byte), [0, 127, 255]);
    }
}
