//! RSSM and policy forward only, on slices, for a block of rows: what imagination runs many times without gradients.

use candle_core::Result;

use super::policy::{Policy, raw_width};
use super::rssm::Rssm;
use crate::dist::Draws;
use crate::dist::normal::Bounded;
use crate::env::Space;
use crate::kernels::matmul::{Matrix, matmul};
use crate::kernels::stack::{Dense, Saved, Stack, StackScratch};
use crate::kernels::{argmax, gru_step, log_unimix, rms_silu_rows, with_weight};

/// The dynamics with copied weights.
pub struct PackedRssm {
    deter: usize,
    stoch: usize,
    classes: usize,
    blocks: usize,
    unimix: f32,
    inputs: [Dense; 3],
    /// Per block [deter/g, deter/g]: from the block of deter itself.
    hidden_own: Vec<f32>,
    /// [3 * hidden, deter]: from what all blocks share.
    hidden_shared: Vec<f32>,
    hidden_bias: Vec<f32>,
    hidden_norm: (Vec<f32>, f32),
    /// Per block [deter/g, 3 * deter/g].
    gates: Vec<f32>,
    gates_bias: Vec<f32>,
    prior: Stack,
}

/// Buffers of one block of rows, to be used again.
#[derive(Default)]
pub struct RolloutScratch {
    embedded: [Vec<f32>; 3],
    shared: Vec<f32>,
    hidden: Vec<f32>,
    gates: Vec<f32>,
    probs: Vec<f32>,
    logs: Vec<f32>,
    stack: StackScratch,
}

impl PackedRssm {
    /// None if the network has other layers than the official configs: then the plain one is to be used.
    pub fn new(rssm: &Rssm) -> Result<Option<Self>> {
        let parts = rssm.parts();
        let [(hidden, norm)] = parts.hidden else { return Ok(None) };
        let dense = |i: usize| parts.inputs[i].0.dense_with(&parts.inputs[i].1);
        let (Some(first), Some(second), Some(third)) = (dense(0)?, dense(1)?, dense(2)?) else { return Ok(None) };
        let (Some(norm), Some(prior)) = (norm.rms_silu(), parts.prior.0.stack()?) else { return Ok(None) };
        let (kernel, bias) = hidden.weights();
        let blocks = kernel.shape()[0];
        let (inputs, outputs) = (kernel.shape()[1], kernel.shape()[2]);
        let (mut own, mut shared) = (vec![], vec![0.0; (inputs - outputs) * outputs * blocks]);
        with_weight(kernel, |kernel| {
            for (g, block) in kernel.chunks_exact(inputs * outputs).enumerate() {
                let (first, rest) = block.split_at(outputs * outputs);
                own.extend_from_slice(first);
                for (i, row) in rest.chunks_exact(outputs).enumerate() {
                    shared[(i * blocks + g) * outputs..][..outputs].copy_from_slice(row);
                }
            }
        })?;
        let copy = |weight| with_weight(weight, <[f32]>::to_vec);
        let (gates, gates_bias) = parts.gates.weights();
        Ok(Some(Self {
            deter: outputs * blocks,
            stoch: parts.stoch,
            classes: parts.classes,
            blocks,
            unimix: parts.unimix,
            inputs: [first, second, third],
            hidden_own: own,
            hidden_shared: shared,
            hidden_bias: copy(bias)?,
            hidden_norm: (copy(norm.0)?, norm.1),
            gates: copy(gates)?,
            gates_bias: copy(gates_bias)?,
            prior: prior.then(parts.prior.1.dense()?),
        }))
    }

    /// Numbers of a state: deter and stoch.
    pub fn features(&self) -> usize {
        self.deter + self.stoch * self.classes
    }

    /// Gumbel noise for [`PackedRssm::imagine`].
    pub fn noise(&self, rows: usize, draws: &mut dyn Draws) -> Vec<f32> {
        draws.gumbel(&[rows, self.stoch, self.classes])
    }

    /// One imagined step: features [rows, deter + stoch] and embedded actions [rows, A] to the next features, with Gumbel
    /// `noise` [rows, stoch].
    pub fn imagine(
        &self,
        features: &[f32],
        action: &[f32],
        noise: &[f32],
        rows: usize,
        next: &mut [f32],
        scratch: &mut RolloutScratch,
    ) {
        self.core(features, action, rows, next, scratch);
        let width = features.len() / rows;
        let logits = self.prior.forward((next, width), rows, &mut scratch.stack);
        scratch.probs.resize(logits.len(), 0.0);
        scratch.logs.resize(logits.len(), 0.0);
        log_unimix(logits, self.classes, self.unimix, &mut scratch.probs, &mut scratch.logs);
        let latent = logits.len() / rows;
        for ((row, logs), noise) in
            next.chunks_exact_mut(width).zip(scratch.logs.chunks_exact(latent)).zip(noise.chunks_exact(latent))
        {
            let groups = row[self.deter..].chunks_exact_mut(self.classes);
            let scores = logs.chunks_exact(self.classes).zip(noise.chunks_exact(self.classes));
            for (group, (logs, noise)) in groups.zip(scores) {
                group.fill(0.0);
                group[argmax(logs.iter().zip(noise).map(|(l, n)| l + n))] = 1.0;
            }
        }
    }

    /// The next deter, into the first columns of `next`.
    fn core(&self, features: &[f32], action: &[f32], rows: usize, next: &mut [f32], scratch: &mut RolloutScratch) {
        let RolloutScratch { embedded, shared, hidden, gates, .. } = scratch;
        let (width, deter, blocks) = (features.len() / rows, self.deter, self.blocks);
        let inputs = [(features, width), (&features[deter..], width), (action, action.len() / rows)];
        for ((dense, input), out) in self.inputs.iter().zip(inputs).zip(embedded.iter_mut()) {
            dense.forward(input, rows, out);
        }
        let units = self.inputs[0].outputs();
        shared.clear();
        for row in 0..rows {
            embedded.iter().for_each(|part| shared.extend_from_slice(&part[row * units..][..units]));
        }
        let size = deter / blocks;
        repeat(&self.hidden_bias, rows, hidden);
        let all = Matrix::new(&self.hidden_shared, 3 * units, deter, deter);
        matmul(Matrix::new(shared, rows, 3 * units, 3 * units), all, hidden, deter, true, 1);
        for (g, own) in self.hidden_own.chunks_exact(size * size).enumerate() {
            let block = Matrix::new(&features[g * size..], rows, size, width);
            matmul(block, Matrix::new(own, size, size, size), &mut hidden[g * size..], deter, true, 1);
        }
        rms_silu_rows(hidden, &self.hidden_norm.0, self.hidden_norm.1);
        repeat(&self.gates_bias, rows, gates);
        for (g, kernel) in self.gates.chunks_exact(3 * size * size).enumerate() {
            let block = Matrix::new(&hidden[g * size..], rows, size, deter);
            let kernel = Matrix::new(kernel, size, 3 * size, 3 * size);
            matmul(block, kernel, &mut gates[3 * g * size..], 3 * deter, true, 1);
        }
        for ((next, gates), features) in
            next.chunks_exact_mut(width).zip(gates.chunks_exact(3 * deter)).zip(features.chunks_exact(width))
        {
            gru_step(gates, &features[..deter], size, &mut next[..deter]);
        }
    }
}

fn repeat(row: &[f32], rows: usize, out: &mut Vec<f32>) {
    out.clear();
    (0..rows).for_each(|_| out.extend_from_slice(row));
}

/// The policy with copied weights.
pub struct PackedPolicy {
    stack: Stack,
    bounds: Bounded,
    /// Sorted by key.
    spaces: Vec<(String, Space)>,
}

impl PackedPolicy {
    /// None if the network has other layers than the official configs.
    pub fn new(policy: &Policy) -> Result<Option<Self>> {
        let Some(stack) = policy.stack()? else { return Ok(None) };
        Ok(Some(Self {
            stack,
            bounds: policy.bounds,
            spaces: policy.spaces().map(|(k, s)| (k.clone(), s.clone())).collect(),
        }))
    }

    /// Sampled actions, one array of numbers [rows, elements] per key, for features [rows, F], with noise [rows, …] per key.
    /// `place` says which rows of all features these are: the first, the step between two, how many.
    pub fn sample(&self, features: &[f32], place: [usize; 3], noise: &[&[f32]], actions: &mut [Vec<f32>]) -> Saved {
        let rows = place[2];
        let width = features.len() / rows;
        let saved = self.stack.forward_saving((features, width), [0, 1, rows]);
        let raw = saved.outputs().chunks_exact(self.stack.outputs());
        actions.iter_mut().for_each(Vec::clear);
        for (row, raw) in raw.enumerate() {
            let mut column = 0;
            for (((_, space), noise), actions) in self.spaces.iter().zip(noise).zip(actions.iter_mut()) {
                let raw = &raw[column..][..raw_width(space)];
                let noise = &noise[row * space.width()..][..space.width()];
                self.sample_row(space, raw, noise, actions);
                column += raw.len();
            }
        }
        saved.placed(place)
    }

    fn sample_row(&self, space: &Space, raw: &[f32], noise: &[f32], actions: &mut Vec<f32>) {
        match space.classes {
            Some(classes) => {
                let elements = raw.chunks_exact(classes).zip(noise.chunks_exact(classes));
                actions.extend(elements.map(|(l, n)| argmax(l.iter().zip(n).map(|(l, n)| l + n)) as f32));
            }
            None => {
                let (means, deviations) = raw.split_at(noise.len());
                actions.extend(means.iter().zip(deviations).zip(noise).map(|((m, s), n)| {
                    let (mean, std) = self.bounds.mean_std(*m, *s);
                    mean + std * n
                }));
            }
        }
    }

    /// Noise for [`PackedPolicy::sample`].
    pub fn noise(&self, rows: usize, draws: &mut dyn Draws) -> Vec<Vec<f32>> {
        let draw = |(_, space): &(String, Space)| {
            let shape = [&[rows], space.shape.as_slice()].concat();
            match space.classes {
                Some(classes) => draws.gumbel(&[shape.as_slice(), &[classes]].concat()),
                None => draws.normal(&shape),
            }
        };
        self.spaces.iter().map(draw).collect()
    }

    /// Action keys and their spaces, in the order of [`PackedPolicy::sample`]'s actions.
    pub fn spaces(&self) -> &[(String, Space)] {
        &self.spaces
    }

    /// The layers.
    pub fn into_stack(self) -> Stack {
        self.stack
    }
}
