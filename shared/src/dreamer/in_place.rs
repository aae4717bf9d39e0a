//! A step of acting over mapped weights: they are read where they are, and nothing is allocated once there are buffers.

use std::collections::BTreeMap;

use candle_core::Result;

use super::attention::AttentionPool;
use super::encoder::Encoder;
use super::features::Standardize;
use super::inputs::{self, Columns};
use super::policy::{Policy, draw, raw_width, sample_row};
use super::rssm::Rssm;
use crate::dist::Draws;
use crate::dist::normal::Bounded;
use crate::env::{Space, Spaces};
use crate::kernels::conv_planes::{self, Stage};
use crate::kernels::math::symlog;
use crate::kernels::matmul::Matrix;
use crate::kernels::product::product;
use crate::kernels::{Precision, gru_step, one_hot_rows, rms_silu_to};
use crate::nn::{Linear, Mlp, Norm};
use crate::params::{Mapped, Weight};

/// A linear map, with RMS norm and SiLU after it or without.
struct Layer {
    kernel: Mapped,
    bias: Mapped,
    norm: Option<(Mapped, f32)>,
}

/// A convolution, pooled, with RMS norm and SiLU.
struct Convolution {
    kernel: Mapped,
    bias: Mapped,
    scale: Mapped,
    eps: f32,
}

/// The recurrent core.
struct Core {
    inputs: [Layer; 3],
    /// Kernel [blocks, inputs/g, deter/g] and the rest.
    hidden: Layer,
    /// Kernel [blocks, deter/g, 3 * deter/g].
    gates: Layer,
    deter: usize,
    blocks: usize,
}

/// Encoder, RSSM and policy of the official configs, forward only, in float32.
pub(super) struct InPlace {
    vectors: Vec<(String, Space)>,
    symlog: bool,
    mlp: Vec<Layer>,
    features: BTreeMap<String, Standardize>,
    attention: BTreeMap<String, AttentionPool>,
    adapter: Vec<Layer>,
    images: Vec<(String, Space)>,
    stages: Vec<Convolution>,
    tokens: usize,
    core: Core,
    absolute: bool,
    posterior: Vec<Layer>,
    stoch: usize,
    classes: usize,
    unimix: f32,
    policy: Vec<Layer>,
    heads: Vec<(String, Space, Vec<Layer>)>,
    bounds: Bounded,
    /// Sorted by key.
    actions: Vec<(String, Space)>,
}

/// What a step works in, to be used again. Its result is in `features` and `actions`.
#[derive(Default)]
pub(super) struct Buffers {
    /// deter and stoch of each row: before the step, and after it.
    pub features: Vec<f32>,
    /// Sampled actions by key, as numbers.
    pub actions: Vec<Vec<f32>>,
    before: Vec<f32>,
    /// Where an episode begins.
    first: Vec<f32>,
    column: Vec<f32>,
    seen: Vec<f32>,
    standardised: Vec<f32>,
    tokens: Vec<f32>,
    planes: Option<conv_planes::Buffers>,
    embedded: Vec<f32>,
    gates: Vec<f32>,
    hidden: [Vec<f32>; 2],
    linear: Vec<f32>,
    noise: Vec<f32>,
    shape: Vec<usize>,
    sample: (Vec<f32>, Vec<f32>),
}

impl Layer {
    fn new(linear: &Linear, norm: Option<&Norm>) -> Option<Self> {
        let (kernel, bias) = linear.weights();
        let norm = match norm {
            None => None,
            Some(norm) => {
                let (scale, eps) = norm.rms_silu()?;
                Some((scale.mapped()?.clone(), eps))
            }
        };
        Some(Self { kernel: kernel.mapped()?.clone(), bias: bias.mapped()?.clone(), norm })
    }

    fn of(mlp: &Mlp) -> Option<Vec<Self>> {
        mlp.layers().iter().map(|(linear, norm)| Self::new(linear, Some(norm))).collect()
    }

    fn outputs(&self) -> usize {
        self.bias.values().len()
    }

    /// Of inputs side by side, into rows of `out` that are `stride` apart. `linear` is a buffer.
    fn forward(&self, inputs: &[Matrix], linear: &mut Vec<f32>, out: &mut [f32], stride: usize) {
        let (kernel, width) = (self.kernel.values(), self.outputs());
        start(linear, self.bias.values(), inputs[0].shape().0);
        let mut row = 0;
        for input in inputs {
            let rows = input.shape().1;
            product(*input, Matrix::new(&kernel[row * width..], rows, width, width), linear, width, true);
            row += rows;
        }
        self.activate(linear, out, stride);
    }

    /// Norm and activation, into rows of `out` that are `stride` apart.
    fn activate(&self, linear: &[f32], out: &mut [f32], stride: usize) {
        match &self.norm {
            Some((scale, eps)) => rms_silu_to(linear, scale.values(), *eps, out, stride),
            None => {
                let rows = linear.chunks_exact(self.outputs()).zip(out.chunks_mut(stride));
                rows.for_each(|(linear, out)| out[..linear.len()].copy_from_slice(linear));
            }
        }
    }

    /// Layers one after another, the last into rows of `out` that are `stride` apart.
    fn through(
        layers: &[Layer],
        inputs: &[Matrix],
        [now, next]: &mut [Vec<f32>; 2],
        linear: &mut Vec<f32>,
        (out, stride): (&mut [f32], usize),
    ) {
        let rows = inputs[0].shape().0;
        for (i, layer) in layers.iter().enumerate() {
            let width = layer.kernel.shape()[0];
            let before = [Matrix::new(now, if i == 0 { 0 } else { rows }, width, width)];
            let seen = if i == 0 { inputs } else { &before };
            if i + 1 == layers.len() {
                return layer.forward(seen, linear, out, stride);
            }
            next.resize(rows * layer.outputs(), 0.0);
            layer.forward(seen, linear, next, layer.outputs());
            std::mem::swap(now, next);
        }
    }
}

fn named(spaces: &[(String, Space)]) -> impl Iterator<Item = (&str, &Space)> + Clone {
    spaces.iter().map(|(key, space)| (key.as_str(), space))
}

/// `rows` copies of the bias.
fn start(linear: &mut Vec<f32>, bias: &[f32], rows: usize) {
    linear.clear();
    (0..rows).for_each(|_| linear.extend_from_slice(bias));
}

impl Convolution {
    fn new(([kernel, bias, scale], eps): ([&Weight; 3], f32)) -> Option<Self> {
        let copy = |weight: &Weight| weight.mapped().cloned();
        Some(Self { kernel: copy(kernel)?, bias: copy(bias)?, scale: copy(scale)?, eps })
    }

    fn stage(&self) -> Stage<'_> {
        let (kernel, bias, scale) = (self.kernel.values(), self.bias.values(), self.scale.values());
        Stage { k: self.kernel.shape()[0], kernel, bias, scale, eps: self.eps }
    }
}

impl InPlace {
    /// None if a weight is not mapped, or a layer is not as in the official configs, or not in float32.
    pub fn new(encoder: &Encoder, rssm: &Rssm, policy: &Policy, act: &Spaces) -> Option<Self> {
        let (enc, dynamics, pol) = (encoder.parts(), rssm.parts(), policy.parts());
        if dynamics.precision != Precision::Float32 {
            return None;
        }
        let stack =
            |mlp: Option<&Mlp>| mlp.map_or(Some(vec![]), |mlp| Layer::of(mlp).filter(|layers| !layers.is_empty()));
        let ended = |(mlp, last): (&Mlp, &Linear)| {
            let mut layers = Layer::of(mlp)?;
            layers.push(Layer::new(last, None)?);
            Some(layers)
        };
        let head = |(key, space, layers): (&str, &Space, Vec<&Linear>)| {
            let layers = layers.into_iter().map(|layer| Layer::new(layer, None)).collect::<Option<_>>()?;
            Some((key.to_string(), space.clone(), layers))
        };
        let mut actions: Vec<(String, Space)> = act.iter().map(|(k, s)| (k.clone(), s.clone())).collect();
        actions.sort_by(|(a, _), (b, _)| a.cmp(b));
        Some(Self {
            vectors: enc.vectors.to_vec(),
            symlog: enc.symlog,
            mlp: stack(enc.mlp)?,
            features: enc.features.clone(),
            attention: enc.attention.clone(),
            adapter: stack(enc.adapter)?,
            images: enc.images.to_vec(),
            stages: enc.stages?.into_iter().map(Convolution::new).collect::<Option<_>>()?,
            tokens: encoder.width(),
            core: Core::new(&dynamics)?,
            absolute: dynamics.absolute,
            posterior: ended(dynamics.posterior)?,
            stoch: dynamics.stoch,
            classes: dynamics.classes,
            unimix: dynamics.unimix,
            policy: stack(Some(pol.mlp))?,
            heads: pol.heads.into_iter().map(head).collect::<Option<_>>()?,
            bounds: policy.bounds,
            actions,
        })
    }

    /// One step of N environments from deter and stoch in `b.features` [N, deter + stoch * classes] and the last actions.
    pub fn step(
        &self,
        b: &mut Buffers,
        last: &Columns,
        obs: &Columns,
        rows: usize,
        draws: &mut dyn Draws,
    ) -> Result<()> {
        let (width, deter) = (self.core.deter + self.stoch * self.classes, self.core.deter);
        inputs::column(obs, "is_first")?.to_f32_in(&mut b.first);
        if b.first.len() != rows {
            candle_core::bail!("a step of {rows} environments, but `is_first` has {} values", b.first.len());
        }
        self.encode(b, obs, rows)?;
        self.embed_actions(b, last, rows)?;
        let actions = b.seen.len() / rows;
        for (row, _) in b.first.iter().enumerate().filter(|(_, first)| **first != 0.0) {
            b.features[row * width..][..width].fill(0.0);
            b.seen[row * actions..][..actions].fill(0.0);
        }
        std::mem::swap(&mut b.features, &mut b.before);
        b.features.resize(b.before.len(), 0.0);
        self.core.forward(b, rows, width);
        let now = Matrix::new(&b.features, rows, deter, width);
        let seen = [now, Matrix::new(&b.tokens, rows, self.tokens, self.tokens)];
        let seen = if self.absolute { &seen[1..] } else { &seen };
        b.seen.resize(rows * (width - deter), 0.0);
        Layer::through(&self.posterior, seen, &mut b.hidden, &mut b.linear, (&mut b.seen, width - deter));
        b.noise.resize(b.seen.len(), 0.0);
        draws.gumbel_in(&[rows, self.stoch, self.classes], &mut b.noise);
        let latents = (&mut b.features[deter..], width);
        one_hot_rows((&b.seen, width - deter), self.classes, self.unimix, &b.noise, latents, &mut b.sample);
        self.choose(b, rows, draws);
        Ok(())
    }

    /// Tokens [N, W] into `b.tokens`.
    fn encode(&self, b: &mut Buffers, obs: &Columns, rows: usize) -> Result<()> {
        b.tokens.resize(rows * self.tokens, 0.0);
        let mut first = 0;
        if let Some(last) = self.mlp.last() {
            let squish = |x| if self.symlog { symlog(x) } else { x };
            let width = inputs::flatten(named(&self.vectors), obs, rows, squish, &mut b.column, &mut b.seen)?;
            let seen = [Matrix::new(&b.seen, rows, width, width)];
            Layer::through(&self.mlp, &seen, &mut b.hidden, &mut b.linear, (&mut b.tokens, self.tokens));
            first += last.outputs();
        }
        if let Some(last) = self.adapter.last() {
            let width = self.see_features(b, obs, rows)?;
            let seen = [Matrix::new(&b.seen, rows, width, width)];
            let out = (&mut b.tokens[first..], self.tokens);
            Layer::through(&self.adapter, &seen, &mut b.hidden, &mut b.linear, out);
            first += last.outputs();
        }
        if !self.images.is_empty() {
            self.convolve(b, obs, rows, first)?;
        }
        Ok(())
    }

    /// Standardised features, pooled if that is trained, [N, width] into `b.seen`.
    fn see_features(&self, b: &mut Buffers, obs: &Columns, rows: usize) -> Result<usize> {
        let pooled = |key: &String| self.attention.get(key).map(AttentionPool::width);
        let width_of = |key: &String, standardize: &Standardize| pooled(key).unwrap_or(standardize.width());
        let width = self.features.iter().map(|(key, standardize)| width_of(key, standardize)).sum();
        b.seen.resize(rows * width, 0.0);
        let mut first = 0;
        for (key, standardize) in &self.features {
            let features = inputs::column(obs, key)?;
            features.to_f32_in(&mut b.column);
            let each = b.column.len() / rows;
            if each * rows != b.column.len() || each != standardize.inputs() {
                candle_core::bail!("features {:?} are not {rows} x {}", features.shape, standardize.inputs());
            }
            let end = first + width_of(key, standardize);
            for (row, out) in b.column.chunks_exact_mut(each).zip(b.seen.chunks_exact_mut(width)) {
                let out = &mut out[first..end];
                let Some(pool) = self.attention.get(key) else {
                    standardize.row(row, out);
                    continue;
                };
                b.standardised.resize(standardize.width(), 0.0);
                standardize.row(row, &mut b.standardised);
                pool.row(&mut b.standardised, &mut b.hidden, out);
            }
            first = end;
        }
        Ok(width)
    }

    /// Images into the tokens from `first` on.
    fn convolve(&self, b: &mut Buffers, obs: &Columns, rows: usize, first: usize) -> Result<()> {
        let stages = || self.stages.iter().map(Convolution::stage);
        let sides = &self.images[0].1.shape;
        let channels = self.images.iter().map(|(_, space)| space.shape[2]).sum();
        let planes =
            b.planes.get_or_insert_with(|| conv_planes::Buffers::new([sides[0], sides[1], channels], stages()));
        for row in 0..rows {
            let mut channel = 0;
            for (key, space) in &self.images {
                let (image, each) = (inputs::column(obs, key)?, space.elements());
                if image.bytes.len() != rows * each {
                    candle_core::bail!("column `{key}` holds {:?}, not {rows} x {:?}", image.shape, space.shape);
                }
                planes.load(&image.bytes[row * each..][..each], channel);
                channel += space.shape[2];
            }
            let end = (row + 1) * self.tokens;
            planes.run(stages(), &mut b.tokens[end - self.tokens + first..end]);
        }
        Ok(())
    }

    /// Last actions as the RSSM takes them, [N, A], into `b.seen`.
    fn embed_actions(&self, b: &mut Buffers, last: &Columns, rows: usize) -> Result<()> {
        inputs::flatten(named(&self.actions), last, rows, inputs::shrink, &mut b.column, &mut b.seen).map(drop)
    }

    /// Samples actions for `b.features`.
    fn choose(&self, b: &mut Buffers, rows: usize, draws: &mut dyn Draws) {
        let (width, units) = (b.features.len() / rows, self.policy.last().map_or(0, Layer::outputs));
        b.tokens.resize(rows * units, 0.0);
        let features = [Matrix::new(&b.features, rows, width, width)];
        Layer::through(&self.policy, &features, &mut b.hidden, &mut b.linear, (&mut b.tokens, units));
        let seen = [Matrix::new(&b.tokens, rows, units, units)];
        b.actions.resize(self.heads.len(), vec![]);
        for ((_, space, layers), actions) in self.heads.iter().zip(&mut b.actions) {
            let raw = raw_width(space);
            b.seen.resize(rows * raw, 0.0);
            for (i, layer) in layers.iter().enumerate() {
                layer.forward(&seen, &mut b.linear, &mut b.seen[i * layer.outputs()..], raw);
            }
            b.noise.resize(rows * space.width(), 0.0);
            draw(space, rows, &mut b.shape, &mut b.noise, draws);
            actions.clear();
            for (raw, noise) in b.seen.chunks_exact(raw).zip(b.noise.chunks_exact(space.width())) {
                sample_row(space, (self.bounds, Precision::Float32), raw, noise, actions);
            }
        }
    }

    /// Keys of the actions, in the order of [`Buffers::actions`].
    pub fn action_keys(&self) -> impl Iterator<Item = &str> {
        self.heads.iter().map(|(key, ..)| key.as_str())
    }
}

impl Core {
    fn new(parts: &super::rssm::Parts) -> Option<Self> {
        let [(hidden, norm)] = parts.hidden else { return None };
        let layer = |i: usize| Layer::new(&parts.inputs[i].0, Some(&parts.inputs[i].1));
        let block = |(kernel, bias): (&Weight, &Weight), norm| {
            Some(Layer { kernel: kernel.mapped()?.clone(), bias: bias.mapped()?.clone(), norm })
        };
        let (scale, eps) = norm.rms_silu()?;
        let hidden = block(hidden.weights(), Some((scale.mapped()?.clone(), eps)))?;
        let (deter, blocks) = (hidden.outputs(), hidden.kernel.shape()[0]);
        let inputs = [layer(0)?, layer(1)?, layer(2)?];
        Some(Self { inputs, hidden, gates: block(parts.gates.weights(), None)?, deter, blocks })
    }

    /// The next deter into the first columns of `b.features`, from `b.before` and embedded actions in `b.seen`.
    fn forward(&self, b: &mut Buffers, rows: usize, width: usize) {
        let (deter, size, units) = (self.deter, self.deter / self.blocks, self.inputs[0].outputs());
        let (actions, embedded) = (b.seen.len() / rows, 3 * units);
        let seen = [
            Matrix::new(&b.before, rows, deter, width),
            Matrix::new(&b.before[deter..], rows, width - deter, width),
            Matrix::new(&b.seen, rows, actions, actions),
        ];
        b.embedded.resize(rows * embedded, 0.0);
        for (i, (layer, seen)) in self.inputs.iter().zip(seen).enumerate() {
            layer.forward(&[seen], &mut b.linear, &mut b.embedded[i * units..], embedded);
        }
        let shared = Matrix::new(&b.embedded, rows, embedded, embedded);
        start(&mut b.linear, self.hidden.bias.values(), rows);
        for (g, kernel) in self.hidden.kernel.values().chunks_exact((size + embedded) * size).enumerate() {
            let (own, rest) = kernel.split_at(size * size);
            let (block, out) = (Matrix::new(&b.before[g * size..], rows, size, width), &mut b.linear[g * size..]);
            product(block, Matrix::new(own, size, size, size), out, deter, true);
            product(shared, Matrix::new(rest, embedded, size, size), out, deter, true);
        }
        let hidden = &mut b.hidden[0];
        hidden.resize(rows * deter, 0.0);
        self.hidden.activate(&b.linear, hidden, deter);
        start(&mut b.gates, self.gates.bias.values(), rows);
        for (g, kernel) in self.gates.kernel.values().chunks_exact(3 * size * size).enumerate() {
            let block = Matrix::new(&hidden[g * size..], rows, size, deter);
            let kernel = Matrix::new(kernel, size, 3 * size, 3 * size);
            product(block, kernel, &mut b.gates[3 * g * size..], 3 * deter, true);
        }
        let states = b.features.chunks_exact_mut(width).zip(b.before.chunks_exact(width));
        for ((next, before), gates) in states.zip(b.gates.chunks_exact(3 * deter)) {
            gru_step(gates, &before[..deter], size, &mut next[..deter]);
        }
    }
}
