//! The policy: an MLP with a head per action key.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::inputs::Columns;
use crate::array::Array;
use crate::config::PolicyConfig;
use crate::dist::Draws;
use crate::dist::normal::Bounded;
use crate::env::{Space, Spaces};
use crate::kernels::stack::{Dense, Stack};
use crate::kernels::{Precision, argmax, read};
use crate::nn::{Linear, Mlp, Style};
use crate::params::{ParamError, Scope};

/// How an action is chosen from the policy's distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// Drawn from it, as in training.
    #[default]
    Sample,
    /// The most likely one: of a categorical the class with the largest logit (the first of several), of a bounded normal its mean.
    Mode,
}

impl Choice {
    /// Words for it, as options have them.
    pub const NAMES: [&str; 2] = ["sample", "mode"];

    /// By its word; none for another one.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Sample, Self::Mode]
            .into_iter()
            .zip(Self::NAMES)
            .find(|(_, known)| *known == name)
            .map(|(choice, _)| choice)
    }
}

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

impl PolicyHead {
    fn layers(&self) -> Vec<&Linear> {
        match self {
            PolicyHead::Categorical(logits) => vec![logits],
            PolicyHead::Normal { mean, stddev } => vec![mean, stddev],
        }
    }
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
        self.choose(raw, Choice::Sample, draws)
    }

    /// The same, chosen in either way.
    pub fn choose(&self, raw: &BTreeMap<String, Tensor>, choice: Choice, draws: &mut dyn Draws) -> Result<Columns> {
        let mut actions = Columns::new();
        for (key, (space, _)) in &self.heads {
            let rows = raw[key].dim(0)?;
            let mut noise = vec![0.0; rows * space.width()];
            draw(space, rows, choice, &mut vec![], &mut noise, draws);
            let mut values = vec![];
            read(&raw[key], |raw| {
                let rows = raw.chunks_exact(raw_width(space)).zip(noise.chunks_exact(space.width()));
                rows.for_each(|(raw, noise)| sample_row(space, (self.bounds, self.precision), raw, noise, &mut values));
            })?;
            actions.insert(key.clone(), action_array(space, rows, &values));
        }
        Ok(actions)
    }

    /// All layers, forward only, for raw outputs of all keys side by side; none if norm and activation are not RMS and SiLU.
    pub(super) fn stack(&self) -> Result<Option<Stack>> {
        let Some(stack) = self.mlp.stack()? else { return Ok(None) };
        let layers = self.parts().heads.into_iter().flat_map(|(.., layers)| layers);
        let heads = Dense::joined(&layers.map(Linear::dense).collect::<Result<Vec<_>>>()?)?;
        Ok(Some(stack.then(heads)))
    }

    /// Action keys and their spaces, sorted by key: the order of the outputs.
    pub fn spaces(&self) -> impl Iterator<Item = (&String, &Space)> {
        self.heads.iter().map(|(key, (space, _))| (key, space))
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        Parts { mlp: &self.mlp, heads: self.heads.iter().map(|(k, (s, h))| (k.as_str(), s, h.layers())).collect() }
    }
}

/// Layers of a policy that a step of acting over mapped weights is made from.
pub(super) struct Parts<'a> {
    pub mlp: &'a Mlp,
    /// By action key: the layer of logits, or those of means and deviations.
    pub heads: Vec<(&'a str, &'a Space, Vec<&'a Linear>)>,
}

/// Raw outputs of an action key: logits, or [means | deviations].
pub fn raw_width(space: &Space) -> usize {
    if space.is_discrete() { space.width() } else { 2 * space.elements() }
}

/// Noise for [`sample_row`] of `rows` rows, into `out` [rows, width of the space]: without any, a sample is the mode. `shape` is a
/// buffer.
pub(super) fn draw(
    space: &Space,
    rows: usize,
    choice: Choice,
    shape: &mut Vec<usize>,
    out: &mut [f32],
    draws: &mut dyn Draws,
) {
    if choice == Choice::Mode {
        return out.fill(0.0);
    }
    shape.clear();
    shape.push(rows);
    shape.extend(&space.shape);
    match space.classes {
        Some(classes) => {
            shape.push(classes);
            draws.gumbel_in(shape, out);
        }
        None => draws.normal_in(shape, out),
    }
}

/// A sampled action, added to `out` as numbers, from a row of raw outputs and noise [width of the space].
pub(super) fn sample_row(
    space: &Space,
    (bounds, precision): (Bounded, Precision),
    raw: &[f32],
    noise: &[f32],
    out: &mut Vec<f32>,
) {
    match space.classes {
        Some(classes) => {
            let elements = raw.chunks_exact(classes).zip(noise.chunks_exact(classes));
            out.extend(elements.map(|(l, n)| argmax(l.iter().zip(n).map(|(l, n)| l + n)) as f32));
        }
        None => {
            let (first, (means, deviations)) = (out.len(), raw.split_at(noise.len()));
            out.extend(means.iter().zip(deviations).zip(noise).map(|((m, s), n)| {
                let (mean, std) = bounds.mean_std(*m, *s);
                mean + std * n
            }));
            precision.round(&mut out[first..]);
        }
    }
}

/// Sampled numbers as an array [rows, …] in the space's type.
fn action_array(space: &Space, rows: usize, values: &[f32]) -> Array {
    let shape = [&[rows], space.shape.as_slice()].concat();
    match space.is_discrete() {
        true => Array::i32(&shape, &values.iter().map(|x| *x as i32).collect::<Vec<_>>()),
        false => Array::f32(&shape, values),
    }
}
