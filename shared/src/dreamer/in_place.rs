//! A step of acting over mapped weights: they are read where they are, and nothing is allocated once there are buffers. Only products
//! in another precision than float32 take copies of their weights, laid out once for each snapshot.

use std::collections::BTreeMap;

use candle_core::Result;

use super::attention::AttentionPool;
use super::encoder::Encoder;
use super::features::Standardize;
use super::inputs::{self, Columns};
use super::policy::{Choice, Policy, draw, raw_width, sample_row};
use super::rssm::Rssm;
use crate::dist::Draws;
use crate::dist::normal::Bounded;
use crate::env::{Space, Spaces};
use crate::kernels::conv_planes::{self, Stage};
use crate::kernels::factor::Operand;
use crate::kernels::math::symlog;
use crate::kernels::matmul::Matrix;
use crate::kernels::product::product;
use crate::kernels::{Precision, gru_step, one_hot_rows, rms_silu_to};
use crate::nn::{Linear, Mlp, Norm};
use crate::params::{Mapped, Weight};

/// Weights of matrix products.
struct Kernel {
    mapped: Mapped,
    /// Parts that are multiplied by themselves, in their order, if products do not read them where they are.
    laid_out: Vec<Operand>,
}

impl Kernel {
    /// Parts of that many rows, all of `cols` columns, one behind the other.
    fn new(mapped: &Mapped, parts: &[usize], cols: usize, precision: Precision) -> Self {
        let mut values = mapped.values();
        let part = |rows: &usize| {
            let (part, rest) = values.split_at(rows * cols);
            values = rest;
            Operand::new(Matrix::new(part, *rows, cols, cols), precision)
        };
        let laid_out = parts.iter().filter_map(part).collect();
        Self { mapped: mapped.clone(), laid_out }
    }

    /// `out += lhs * part`, which begins with row `first`.
    fn add_product(&self, (part, first): (usize, usize), lhs: Matrix, cols: usize, out: &mut [f32], stride: usize) {
        match self.laid_out.get(part) {
            Some(operand) => operand.add_product(lhs, out, stride),
            None => {
                let values = &self.mapped.values()[first * cols..];
                product(lhs, Matrix::new(values, lhs.shape().1, cols, cols), out, stride, true);
            }
        }
    }
}

/// A linear map, with RMS norm and SiLU after it or without.
struct Layer {
    kernel: Kernel,
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
    /// Of inputs with these widths side by side.
    fn new(linear: &Linear, norm: Option<&Norm>, inputs: &[usize], precision: Precision) -> Option<Self> {
        let (kernel, bias) = linear.weights();
        let norm = match norm {
            None => None,
            Some(norm) => {
                let (scale, eps) = norm.rms_silu()?;
                Some((scale.mapped()?.clone(), eps))
            }
        };
        let (kernel, bias) = (kernel.mapped()?, bias.mapped()?.clone());
        let kernel = Kernel::new(kernel, inputs, kernel.shape()[1], precision);
        Some(Self { kernel, bias, norm })
    }

    /// Of one input.
    fn single(linear: &Linear, norm: Option<&Norm>, precision: Precision) -> Option<Self> {
        Self::new(linear, norm, &[linear.weights().0.shape()[0]], precision)
    }

    fn of(mlp: &Mlp, precision: Precision) -> Option<Vec<Self>> {
        mlp.layers().iter().map(|(linear, norm)| Self::single(linear, Some(norm), precision)).collect()
    }

    fn inputs(&self) -> usize {
        self.kernel.mapped.shape()[0]
    }

    fn outputs(&self) -> usize {
        self.bias.values().len()
    }

    /// Of inputs side by side, into rows of `out` that are `stride` apart. `linear` is a buffer.
    fn forward(&self, inputs: &[Matrix], linear: &mut Vec<f32>, out: &mut [f32], stride: usize) {
        let width = self.outputs();
        start(linear, self.bias.values(), inputs[0].shape().0);
        let mut row = 0;
        for (part, input) in inputs.iter().enumerate() {
            self.kernel.add_product((part, row), *input, width, linear, width);
            row += input.shape().1;
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
            let width = layer.inputs();
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
    /// None if a weight is not mapped, or a layer is not as in the official configs, or activations are not float32.
    pub fn new(encoder: &Encoder, rssm: &Rssm, policy: &Policy, act: &Spaces) -> Option<Self> {
        let (enc, dynamics, pol) = (encoder.parts(), rssm.parts(), policy.parts());
        let precision = dynamics.precision;
        if precision == Precision::Bfloat16 {
            return None;
        }
        let stack = |mlp: Option<&Mlp>| {
            mlp.map_or(Some(vec![]), |mlp| Layer::of(mlp, precision).filter(|layers| !layers.is_empty()))
        };
        let posterior = |(mlp, last): (&Mlp, &Linear)| {
            let tokens = encoder.width();
            let mut layers = Layer::of(mlp, precision)?;
            layers.push(Layer::single(last, None, precision)?);
            if let Some((linear, norm)) = mlp.layers().first().filter(|_| !dynamics.absolute) {
                let deter = linear.weights().0.shape()[0] - tokens;
                layers[0] = Layer::new(linear, Some(norm), &[deter, tokens], precision)?;
            }
            Some(layers)
        };
        let head = |(key, space, layers): (&str, &Space, Vec<&Linear>)| {
            let layers =
                layers.into_iter().map(|layer| Layer::single(layer, None, precision)).collect::<Option<_>>()?;
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
            posterior: posterior(dynamics.posterior)?,
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
        (choice, draws): (Choice, &mut dyn Draws),
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
        self.choose(b, rows, choice, draws);
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

    /// Chooses actions for `b.features`.
    fn choose(&self, b: &mut Buffers, rows: usize, choice: Choice, draws: &mut dyn Draws) {
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
            draw(space, rows, choice, &mut b.shape, &mut b.noise, draws);
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
        let precision = parts.precision;
        let layer = |i: usize| Layer::single(&parts.inputs[i].0, Some(&parts.inputs[i].1), precision);
        let block = |(kernel, bias): (&Weight, &Weight), rows: &[usize], norm| {
            let (kernel, bias) = (kernel.mapped()?, bias.mapped()?.clone());
            let [blocks, _, cols] = *kernel.shape() else { return None };
            Some(Layer { kernel: Kernel::new(kernel, &rows.repeat(blocks), cols, precision), bias, norm })
        };
        let (scale, eps) = norm.rms_silu()?;
        let [blocks, all, size] = *hidden.weights().0.shape() else { return None };
        let hidden = block(hidden.weights(), &[size, all - size], Some((scale.mapped()?.clone(), eps)))?;
        let inputs = [layer(0)?, layer(1)?, layer(2)?];
        Some(Self { inputs, hidden, gates: block(parts.gates.weights(), &[size], None)?, deter: blocks * size, blocks })
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
        for g in 0..self.blocks {
            let (block, out) = (Matrix::new(&b.before[g * size..], rows, size, width), &mut b.linear[g * size..]);
            let first = g * (size + embedded);
            self.hidden.kernel.add_product((2 * g, first), block, size, out, deter);
            self.hidden.kernel.add_product((2 * g + 1, first + size), shared, size, out, deter);
        }
        let hidden = &mut b.hidden[0];
        hidden.resize(rows * deter, 0.0);
        self.hidden.activate(&b.linear, hidden, deter);
        start(&mut b.gates, self.gates.bias.values(), rows);
        for g in 0..self.blocks {
            let (block, out) = (Matrix::new(&hidden[g * size..], rows, size, deter), &mut b.gates[3 * g * size..]);
            self.gates.kernel.add_product((g, g * size), block, 3 * size, out, 3 * deter);
        }
        let states = b.features.chunks_exact_mut(width).zip(b.before.chunks_exact(width));
        for ((next, before), gates) in states.zip(b.gates.chunks_exact(3 * deter)) {
            gru_step(gates, &before[..deter], size, &mut next[..deter]);
        }
    }
}
