//! The policy: an MLP with a head per action key.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};

use super::inputs::Columns;
use crate::array::Array;
use crate::config::PolicyConfig;
use crate::dist::Draws;
use crate::dist::normal::Bounded;
use crate::env::{Space, Spaces};
use crate::kernels::stack::{Dense, Stack};
use crate::kernels::{Precision, read};
use crate::nn::{Linear, Mlp, Style};
use crate::params::{ParamError, Scope};

/// Distribution over actions given features.
pub struct Policy {
    mlp: Mlp,
    heads: BTreeMap<String, (Space, PolicyHead)>,
    /// Bounds of the deviation of continuous actions.
    pub bounds: Bounded,
    pub(super) precision: Precision,
}

/// Layers of one action key.
enum PolicyHead {
    Categorical(Linear),
    Normal { mean: Linear, stddev: Linear },
}

impl Policy {
    /// Modules below `scope` (`pol`).
    pub fn new(
        scope: &Scope,
        config: &PolicyConfig,
        precision: Precision,
        inputs: usize,
        actions: &Spaces,
    ) -> std::result::Result<Self, ParamError> {
        let style = Style::new(&config.act, &config.norm, &config.winit)?.at(precision);
        let mlp = Mlp::head(&scope.sub("mlp"), &style, inputs, config.units, config.layers)?;
        let mut heads = BTreeMap::new();
        for (key, space) in actions {
            let scope = scope.sub("head").sub(key);
            let linear =
                |name: &str, out: usize| Linear::new(&scope.sub(name), &style, mlp.width(), out, config.outscale);
            let head = match space.is_discrete() {
                true => PolicyHead::Categorical(linear("logits", space.width())?),
                false => PolicyHead::Normal {
                    mean: linear("mean", space.elements())?,
                    stddev: linear("stddev", space.elements())?,
                },
            };
            heads.insert(key.clone(), (space.clone(), head));
        }
        let bounds = Bounded { min: config.minstd as f32, max: config.maxstd as f32 };
        Ok(Self { mlp, heads, bounds, precision })
    }

    /// Raw outputs by key for features [N, F]: logits [N, elements * classes], or [means | deviations] [N, 2 * elements].
    pub fn forward(&self, features: &Tensor) -> Result<BTreeMap<String, Tensor>> {
        let x = self.mlp.forward(features)?;
        let raw = |(key, (_, head)): (&String, &(Space, PolicyHead))| {
            let raw = match head {
                PolicyHead::Categorical(logits) => logits.forward(&x)?,
                PolicyHead::Normal { mean, stddev } => Tensor::cat(&[mean.forward(&x)?, stddev.forward(&x)?], 1)?,
            };
            Ok((key.clone(), raw))
        };
        self.heads.iter().map(raw).collect()
    }

    /// Sampled (unclipped) actions by key, [N, …] in the space's type.
    pub fn sample(&self, raw: &BTreeMap<String, Tensor>, draws: &mut dyn Draws) -> Result<Columns> {
        let mut actions = Columns::new();
        for (key, (space, _)) in &self.heads {
            let rows = raw[key].dim(0)?;
            let shape = [&[rows], space.shape.as_slice()].concat();
            let action = read(&raw[key], |raw| match space.classes {
                Some(classes) => categorical(raw, classes, &shape, draws),
                None => self.normal(raw, space.elements(), &shape, draws),
            })?;
            actions.insert(key.clone(), action);
        }
        Ok(actions)
    }

    /// All layers, forward only, for raw outputs of all keys side by side; none if norm and activation are not RMS and SiLU.
    pub(super) fn stack(&self) -> Result<Option<Stack>> {
        let layers = self.heads.values().flat_map(|(_, head)| match head {
            PolicyHead::Categorical(logits) => vec![logits],
            PolicyHead::Normal { mean, stddev } => vec![mean, stddev],
        });
        let heads = Dense::joined(&layers.map(Linear::dense).collect::<Result<Vec<_>>>()?)?;
        Ok(self.mlp.stack()?.map(|stack| stack.then(heads)))
    }

    /// Action keys and their spaces, sorted by key: the order of the outputs.
    pub fn spaces(&self) -> impl Iterator<Item = (&String, &Space)> {
        self.heads.iter().map(|(key, (space, _))| (key, space))
    }

    fn normal(&self, raw: &[f32], dims: usize, shape: &[usize], draws: &mut dyn Draws) -> Array {
        let noise = draws.normal(shape);
        let sample = |(raw, noise): (&[f32], &[f32])| -> Vec<f32> {
            let one = |i: usize| {
                let (mean, std) = self.bounds.mean_std(raw[i], raw[dims + i]);
                mean + std * noise[i]
            };
            (0..dims).map(one).collect()
        };
        let mut values: Vec<f32> = raw.chunks_exact(2 * dims).zip(noise.chunks_exact(dims)).flat_map(sample).collect();
        self.precision.round(&mut values);
        Array::f32(shape, &values)
    }
}

/// Raw outputs of an action key: logits, or [means | deviations].
pub fn raw_width(space: &Space) -> usize {
    if space.is_discrete() { space.width() } else { 2 * space.elements() }
}

fn categorical(logits: &[f32], classes: usize, shape: &[usize], draws: &mut dyn Draws) -> Array {
    let noise = draws.gumbel(&[shape, &[classes]].concat());
    let pick =
        |(logits, noise): (&[f32], &[f32])| crate::kernels::argmax(logits.iter().zip(noise).map(|(l, n)| l + n)) as i32;
    let values: Vec<i32> = logits.chunks_exact(classes).zip(noise.chunks_exact(classes)).map(pick).collect();
    Array::i32(shape, &values)
}
