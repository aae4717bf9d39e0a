//! RSSM and policy forward only, on slices, for a block of rows: what imagination runs many times without gradients.

use candle_core::Result;

use super::core::{Core, CoreInput, CoreScratch, CoreStep};
use super::policy::{Choice, Policy, draw, raw_width, sample_row};
use super::rssm::Rssm;
use crate::dist::Draws;
use crate::dist::normal::Bounded;
use crate::env::Space;
use crate::kernels::stack::{Saved, Stack, StackScratch};
use crate::kernels::{Precision, one_hot_rows};

/// The dynamics with copied weights.
pub struct PackedRssm {
    core: Core,
    stoch: usize,
    classes: usize,
    unimix: f32,
    prior: Stack,
    precision: Precision,
}

/// Buffers of one block of rows, to be used again.
pub struct RolloutScratch {
    steps: CoreStep,
    core: CoreScratch,
    stack: StackScratch,
    sample: (Vec<f32>, Vec<f32>),
}

impl PackedRssm {
    /// None if the network has other layers than the official configs: then the plain one is to be used.
    pub fn new(rssm: &Rssm) -> Result<Option<Self>> {
        let parts = rssm.parts();
        let (Some(core), Some(prior)) = (Core::new(&parts)?, parts.prior.0.stack()?) else { return Ok(None) };
        let prior = prior.then(parts.prior.1.dense()?);
        Ok(Some(Self {
            core,
            stoch: parts.stoch,
            classes: parts.classes,
            unimix: parts.unimix,
            prior,
            precision: parts.precision,
        }))
    }

    /// Numbers of a state: deter and stoch.
    pub fn features(&self) -> usize {
        self.core.deter + self.stoch * self.classes
    }

    /// Gumbel noise for [`PackedRssm::imagine`].
    pub fn noise(&self, rows: usize, draws: &mut dyn Draws) -> Vec<f32> {
        draws.gumbel(&[rows, self.stoch, self.classes])
    }

    /// What embedded actions are rounded to.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Buffers for blocks of up to `rows` rows.
    pub fn scratch(&self, rows: usize) -> RolloutScratch {
        let (core, stack, sample) = Default::default();
        RolloutScratch { steps: self.core.steps(rows), core, stack, sample }
    }

    /// One imagined step: features [rows, deter + stoch] and embedded actions [rows, A] to the next features, with Gumbel
    /// `noise` [rows, stoch].
    pub fn imagine(
        &self,
        features: &[f32],
        action: &[f32],
        noise: &[f32],
        next: &mut [f32],
        scratch: &mut RolloutScratch,
    ) {
        let width = self.features();
        let rows = features.len() / width;
        let input = CoreInput { features: (features, width), action: (action, action.len() / rows) };
        self.core.forward(input, (&mut scratch.steps, 0..rows), next, &mut scratch.core);
        let logits = self.prior.forward((next, width), rows, &mut scratch.stack);
        let latents = (&mut next[self.core.deter..], width);
        let latent = width - self.core.deter;
        one_hot_rows((logits, latent), self.classes, self.unimix, noise, latents, &mut scratch.sample);
    }
}

/// The policy with copied weights.
pub struct PackedPolicy {
    stack: Stack,
    bounds: Bounded,
    precision: Precision,
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
            precision: policy.precision,
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
                sample_row(space, (self.bounds, self.precision), raw, noise, actions);
                column += raw.len();
            }
        }
        saved.placed(place)
    }

    /// Noise for [`PackedPolicy::sample`].
    pub fn noise(&self, rows: usize, draws: &mut dyn Draws) -> Vec<Vec<f32>> {
        let noise = |(_, space): &(String, Space)| {
            let mut noise = vec![0.0; rows * space.width()];
            draw(space, rows, Choice::Sample, &mut vec![], &mut noise, draws);
            noise
        };
        self.spaces.iter().map(noise).collect()
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
