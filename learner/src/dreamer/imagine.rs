//! Imagined rollouts of the policy in the world model.

use candle_core::{Result, Tensor};
use shared::array::Array;
use shared::dist::Draws;
use shared::dreamer::inputs::{self, Columns};
use shared::dreamer::{Acting, State};
use shared::env::Spaces;
use shared::kernels::no_grad;

/// N rollouts of H steps; nothing here has a gradient.
pub struct Rollout {
    /// [N * (H + 1), F], rollout by rollout: the start, then the state after each action.
    pub features: Tensor,
    /// Action taken at each of these states, by key, [N * (H + 1), …].
    pub actions: Columns,
}

/// Roll the policy out for `horizon` steps from `starts` [N, …].
pub fn imagine(
    acting: &Acting,
    act: &Spaces,
    starts: &State,
    horizon: usize,
    draws: &mut dyn Draws,
) -> Result<Rollout> {
    no_grad(|| {
        let rows = starts.deter.dim(0)?;
        let mut state = starts.detach();
        let mut features = vec![state.features()?];
        let mut actions: Vec<Columns> = vec![];
        for _ in 0..horizon {
            let action = acting.policy.sample(&acting.policy.forward(&features[features.len() - 1])?, draws)?;
            state = acting.rssm.imagine(&state, &inputs::actions(act, &action, rows)?, draws)?;
            features.push(state.features()?);
            actions.push(action);
        }
        actions.push(acting.policy.sample(&acting.policy.forward(&features[horizon])?, draws)?);
        let by_rollout = |key: &String| {
            let steps: Vec<&Array> = actions.iter().map(|a| &a[key]).collect();
            (key.clone(), interleave(&steps))
        };
        let actions = act.keys().map(by_rollout).collect();
        Ok(Rollout { features: Tensor::stack(&features, 1)?.flatten(0, 1)?, actions })
    })
}

/// [L] arrays of [N, …] as one array [N * L, …], row by row.
fn interleave(steps: &[&Array]) -> Array {
    let (first, rows) = (steps[0], steps[0].shape[0]);
    let size = first.bytes.len() / rows.max(1);
    let bytes =
        (0..rows).flat_map(|n| steps.iter().flat_map(move |a| &a.bytes[n * size..(n + 1) * size])).copied().collect();
    Array { dtype: first.dtype, shape: [&[rows * steps.len()], &first.shape[1..]].concat(), bytes }
}
