//! Imagined rollouts of the policy in the world model.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use shared::array::Array;
use shared::dist::Draws;
use shared::dreamer::inputs::{self, Columns};
use shared::dreamer::{Acting, PackedPolicy, PackedRssm, RolloutScratch, State};
use shared::env::{Space, Spaces};
use shared::kernels::stack::BLOCK;
use shared::kernels::{no_grad, read};

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
    match (PackedRssm::new(&acting.rssm)?, PackedPolicy::new(&acting.policy)?) {
        (Some(rssm), Some(policy)) => packed(&rssm, &policy, act, starts, horizon, draws),
        _ => plain(acting, act, starts, horizon, draws),
    }
}

/// Step by step over all rows, with any layers.
fn plain(acting: &Acting, act: &Spaces, starts: &State, horizon: usize, draws: &mut dyn Draws) -> Result<Rollout> {
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

/// All steps of a block of rollouts on one thread, while it is in cache.
fn packed(
    rssm: &PackedRssm,
    policy: &PackedPolicy,
    act: &Spaces,
    starts: &State,
    horizon: usize,
    draws: &mut dyn Draws,
) -> Result<Rollout> {
    let (rows, length) = (starts.deter.dim(0)?, horizon + 1);
    let start = no_grad(|| starts.features())?;
    let width = start.dim(1)?;
    // In the order in which the plain version draws.
    let mut noise = Noise { actions: vec![], latents: vec![] };
    for step in 0..length {
        noise.actions.push(policy.noise(rows, draws));
        if step < horizon {
            noise.latents.push(rssm.noise(rows, draws));
        }
    }
    let mut features = vec![0.0; rows * length * width];
    let keys: Vec<&Space> = policy.spaces().collect();
    let blocks: Vec<Vec<Vec<f32>>> = read(&start, |start| {
        let blocks = features.par_chunks_mut(BLOCK * length * width).zip(start.par_chunks(BLOCK * width)).enumerate();
        let block = |(i, (features, start)): (usize, (&mut [f32], &[f32]))| {
            Block { rssm, policy, keys: &keys, noise: &noise, all: rows, first: i * BLOCK }.run(start, features, length)
        };
        blocks.map(block).collect()
    })?;
    let mut actions = Columns::new();
    for (k, (key, space)) in act.iter().enumerate() {
        let values: Vec<f32> = blocks.iter().flat_map(|block| block[k].iter().copied()).collect();
        let shape = [&[rows * length], space.shape.as_slice()].concat();
        let array = match space.is_discrete() {
            true => Array::i32(&shape, &values.iter().map(|x| *x as i32).collect::<Vec<_>>()),
            false => Array::f32(&shape, &values),
        };
        actions.insert(key.clone(), array);
    }
    Ok(Rollout { features: Tensor::from_vec(features, (rows * length, width), &Device::Cpu)?, actions })
}

/// Noise of all rollouts.
struct Noise {
    /// Per step and action key, [N, …].
    actions: Vec<Vec<Vec<f32>>>,
    /// Per step, [N, stoch].
    latents: Vec<Vec<f32>>,
}

/// Some rollouts, from `first` on, of `all`.
struct Block<'a> {
    rssm: &'a PackedRssm,
    policy: &'a PackedPolicy,
    keys: &'a [&'a Space],
    noise: &'a Noise,
    all: usize,
    first: usize,
}

impl Block<'_> {
    /// From `start` [R, F] to `features` [R * length, F]; returns actions per key [R * length, elements].
    fn run(&self, start: &[f32], features: &mut [f32], length: usize) -> Vec<Vec<f32>> {
        let width = self.rssm.features();
        let rows = start.len() / width;
        let (mut now, mut next) = (start.to_vec(), vec![0.0; start.len()]);
        let embedded: usize = self.keys.iter().map(|space| space.width()).sum();
        let mut embed = vec![0.0; rows * embedded];
        let mut scratch = RolloutScratch::default();
        let mut sampled = vec![vec![]; self.keys.len()];
        let mut actions: Vec<Vec<f32>> =
            self.keys.iter().map(|space| vec![0.0; rows * length * space.elements()]).collect();
        for step in 0..length {
            for (out, row) in features.chunks_exact_mut(length * width).zip(now.chunks_exact(width)) {
                out[step * width..][..width].copy_from_slice(row);
            }
            let noise: Vec<&[f32]> = self.noise.actions[step].iter().map(|n| self.rows_of(n, rows)).collect();
            self.policy.sample(&now, &noise, rows, &mut sampled, &mut scratch);
            embed.fill(0.0);
            let mut column = 0;
            for ((space, sampled), actions) in self.keys.iter().zip(&sampled).zip(&mut actions) {
                let (elements, span) = (space.elements(), space.width());
                for (row, action) in sampled.chunks_exact(elements).enumerate() {
                    actions[(row * length + step) * elements..][..elements].copy_from_slice(action);
                    inputs::embed_action(action, space, &mut embed[row * embedded + column..][..span]);
                }
                column += span;
            }
            if let Some(noise) = self.noise.latents.get(step) {
                self.rssm.imagine(&now, &embed, self.rows_of(noise, rows), rows, &mut next, &mut scratch);
                std::mem::swap(&mut now, &mut next);
            }
        }
        actions
    }

    /// This block's rows of an array [N, …].
    fn rows_of<'n>(&self, noise: &'n [f32], rows: usize) -> &'n [f32] {
        let width = noise.len() / self.all;
        &noise[self.first * width..][..rows * width]
    }
}
