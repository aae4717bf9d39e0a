//! Imagined rollouts of the policy in the world model.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use shared::array::Array;
use shared::dist::Draws;
use shared::dreamer::inputs::{self, Columns};
use shared::dreamer::{Acting, PackedPolicy, PackedRssm, State};
use shared::env::Spaces;
use shared::kernels::stack::{BLOCK, Saved, Stack};
use shared::kernels::{no_grad, read};

/// N rollouts of H steps; nothing here has a gradient.
pub struct Rollout {
    /// [N * (H + 1), F], rollout by rollout: the start, then the state after each action.
    pub features: Tensor,
    /// Action taken at each of these states, by key, [N * (H + 1), …].
    pub actions: Columns,
    /// The policy's layers and what the states left behind in them; none if they are not those of the fused kernel.
    pub policy: Option<(Stack, Vec<Saved>)>,
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
        (Some(rssm), Some(policy)) => packed(&rssm, policy, starts, horizon, draws),
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
            let embedded = inputs::actions(act, &action, rows)?.to_device(state.deter.device())?;
            state = acting.rssm.imagine(&state, &embedded, draws)?;
            features.push(state.features()?);
            actions.push(action);
        }
        actions.push(acting.policy.sample(&acting.policy.forward(&features[horizon])?, draws)?);
        let by_rollout = |key: &String| {
            let steps: Vec<&Array> = actions.iter().map(|a| &a[key]).collect();
            (key.clone(), interleave(&steps))
        };
        let actions = act.keys().map(by_rollout).collect();
        Ok(Rollout { features: Tensor::stack(&features, 1)?.flatten(0, 1)?, actions, policy: None })
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
    policy: PackedPolicy,
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
    let blocks: Vec<(Vec<Vec<f32>>, Vec<Saved>)> = read(&start, |start| {
        let blocks = features.par_chunks_mut(BLOCK * length * width).zip(start.par_chunks(BLOCK * width)).enumerate();
        let block = |(i, (features, start)): (usize, (&mut [f32], &[f32]))| {
            Block { rssm, policy: &policy, noise: &noise, all: rows, first: i * BLOCK }.run(start, features, length)
        };
        blocks.map(block).collect()
    })?;
    let mut actions = Columns::new();
    for (k, (key, space)) in policy.spaces().iter().enumerate() {
        let values: Vec<f32> = blocks.iter().flat_map(|(actions, _)| actions[k].iter().copied()).collect();
        let shape = [&[rows * length], space.shape.as_slice()].concat();
        let array = match space.is_discrete() {
            true => Array::i32(&shape, &values.iter().map(|x| *x as i32).collect::<Vec<_>>()),
            false => Array::f32(&shape, &values),
        };
        actions.insert(key.clone(), array);
    }
    let saved = blocks.into_iter().flat_map(|(_, saved)| saved).collect();
    let features = Tensor::from_vec(features, (rows * length, width), &Device::Cpu)?;
    Ok(Rollout { features, actions, policy: Some((policy.into_stack(), saved)) })
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
    noise: &'a Noise,
    all: usize,
    first: usize,
}

impl Block<'_> {
    /// From `start` [R, F] to `features` [R * length, F]; returns actions per key [R * length, elements], and what each step left
    /// behind in the policy.
    fn run(&self, start: &[f32], features: &mut [f32], length: usize) -> (Vec<Vec<f32>>, Vec<Saved>) {
        let width = self.rssm.features();
        let rows = start.len() / width;
        let (mut now, mut next) = (start.to_vec(), vec![0.0; start.len()]);
        let spaces = self.policy.spaces();
        let embedded: usize = spaces.iter().map(|(_, space)| space.width()).sum();
        let mut embed = vec![0.0; rows * embedded];
        let mut scratch = self.rssm.scratch(rows);
        let (mut sampled, mut saved) = (vec![vec![]; spaces.len()], vec![]);
        let mut actions: Vec<Vec<f32>> =
            spaces.iter().map(|(_, space)| vec![0.0; rows * length * space.elements()]).collect();
        for step in 0..length {
            for (out, row) in features.chunks_exact_mut(length * width).zip(now.chunks_exact(width)) {
                out[step * width..][..width].copy_from_slice(row);
            }
            let noise: Vec<&[f32]> = self.noise.actions[step].iter().map(|n| self.rows_of(n, rows)).collect();
            let place = [self.first * length + step, length, rows];
            saved.push(self.policy.sample(&now, place, &noise, &mut sampled));
            embed.fill(0.0);
            let mut column = 0;
            for (((_, space), sampled), actions) in spaces.iter().zip(&sampled).zip(&mut actions) {
                let (elements, span) = (space.elements(), space.width());
                for (row, action) in sampled.chunks_exact(elements).enumerate() {
                    actions[(row * length + step) * elements..][..elements].copy_from_slice(action);
                    inputs::embed_action(action, space, &mut embed[row * embedded + column..][..span]);
                }
                column += span;
            }
            self.rssm.precision().round(&mut embed);
            if let Some(noise) = self.noise.latents.get(step) {
                self.rssm.imagine(&now, &embed, self.rows_of(noise, rows), &mut next, &mut scratch);
                std::mem::swap(&mut now, &mut next);
            }
        }
        (actions, saved)
    }

    /// This block's rows of an array [N, …].
    fn rows_of<'n>(&self, noise: &'n [f32], rows: usize) -> &'n [f32] {
        let width = noise.len() / self.all;
        &noise[self.first * width..][..rows * width]
    }
}

#[cfg(test)]
mod tests {
    use shared::config::Config;
    use shared::dist::Seeded;
    use shared::env::Space;
    use shared::kernels::stack::Pass;
    use shared::params::Params;

    use super::*;

    #[test]
    fn rollouts_in_blocks_are_those_of_the_plain_networks() {
        let config = Config::load(&["size1m"], &["agent.policy.outscale=1.0"]).unwrap().agent();
        let obs = [("vector".to_string(), Space::vector(&[3]))].into();
        // Not in alphabetical order, in which networks have their keys.
        let act: Spaces =
            [("keys".to_string(), Space::discrete(&[2], 3)), ("arm".to_string(), Space::bounded(&[3], -1.0, 1.0))]
                .into();
        let acting = Acting::new(&config, &obs, &act, &Params::new(5)).unwrap();
        let (rows, rssm) = (BLOCK + 3, &config.dynamics.rssm);
        let noise = |shape: &[usize], seed| Tensor::from_vec(Seeded::new(seed).normal(shape), shape, &Device::Cpu);
        let starts = State {
            deter: noise(&[rows, rssm.deter], 1).unwrap().tanh().unwrap(),
            stoch: noise(&[rows, rssm.stoch, rssm.classes], 2).unwrap(),
        };
        let fast = imagine(&acting, &act, &starts, 3, &mut Seeded::new(3)).unwrap();
        let slow = plain(&acting, &act, &starts, 3, &mut Seeded::new(3)).unwrap();
        assert!(largest(&(&fast.features - &slow.features).unwrap()) < 1e-4);
        for key in act.keys() {
            let (fast, slow) = (fast.actions[key].to_f32(), slow.actions[key].to_f32());
            assert!(fast.iter().zip(&slow).all(|(a, b)| (a - b).abs() < 1e-4), "{key}");
        }
        let by_key = acting.policy.forward(&slow.features).unwrap();
        let expected = Tensor::cat(&by_key.values().collect::<Vec<_>>(), 1).unwrap();
        let (stack, saved) = fast.policy.unwrap();
        let found = Pass::new(stack, &fast.features, saved).map_rows(|_, row| row.to_vec()).concat();
        let found = Tensor::from_vec(found, expected.shape(), &Device::Cpu).unwrap();
        assert!(largest(&(found - expected).unwrap()) < 1e-4);
    }

    fn largest(x: &Tensor) -> f32 {
        x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }
}
