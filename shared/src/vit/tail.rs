//! The part of a trunk that trains: its last blocks and the final norm, from recorded hidden states to features.
//!
//! The value comes from the kernels that frozen blocks run on, on actors and on a learner on the CPU alike. The backward pass runs a few
//! frames at a time through the same layers as tensor operations, so that it needs memory for these frames only.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{D, Device, Result, Tensor};

use super::features::{Pool, grid, trainable_blocks};
use super::forward::{Pair, Taker, TrainedBlock, Work};
use super::spec::{Activation, Positions};
use super::{VitError, VitSpec};
use crate::array::Array;
use crate::config::VitConfig;
use crate::env::{Space, Spaces};
use crate::kernels::{Act, NormKind, Precision, joined, linear, norm_act, plain, read, record, rotary};
use crate::params::{ParamError, Scope, Weight};

/// Hidden states that are computed at once.
const ROWS: usize = 2048;

/// Which blocks of a trunk train, and the frames that go through them.
#[derive(Clone, Debug, PartialEq)]
pub struct TailSpec {
    vit: VitSpec,
    blocks: Range<usize>,
    pool: Pool,
    /// Rows and columns of patches, by key of what is recorded (`vit/image`).
    grids: BTreeMap<String, (usize, usize)>,
}

impl TailSpec {
    /// As `[vit]` says, for the images among what environments return; none if the trunk is frozen.
    pub fn new(config: &VitConfig, vit: &VitSpec, observed: &Spaces) -> std::result::Result<Option<Self>, VitError> {
        let blocks = trainable_blocks(config, vit)?;
        if blocks.is_empty() {
            return Ok(None);
        }
        let images = observed.iter().filter(|(_, space)| space.is_image());
        let grids = images.map(|(key, space)| Ok((format!("vit/{key}"), grid(config, vit, space)?)));
        let grids = grids.collect::<std::result::Result<_, VitError>>()?;
        Ok(Some(Self { vit: vit.clone(), blocks, pool: Pool::parse(config, vit)?, grids }))
    }

    /// The blocks that train.
    pub fn blocks(&self) -> Range<usize> {
        self.blocks.clone()
    }

    /// The space of pooled features of a recorded key, [P, F].
    pub fn features(&self, key: &str) -> Result<Space> {
        let cells = self.pool.cells(self.grid(key)?);
        Ok(Space::vector(&[cells.0 * cells.1, self.vit.width]))
    }

    /// The recorded hidden states of a key, which must be those of `rows` frames: [rows, tokens, F].
    pub fn hidden(&self, key: &str, recorded: &Array, rows: usize) -> Result<Vec<f32>> {
        let (tokens, width) = (self.tokens(key)?, self.vit.width);
        if recorded.elements() != rows * tokens * width {
            candle_core::bail!("hidden states `{key}` {:?} are not {rows} x [{tokens}, {width}]", recorded.shape);
        }
        Ok(recorded.to_f32())
    }

    /// Pooled hidden states [n, P, F] of `tokens` [n, prefix + patches, F].
    pub fn pooled(&self, key: &str, tokens: &[f32]) -> Result<Vec<f32>> {
        Ok(self.pool.apply(tokens, self.vit.prefix(), self.grid(key)?, self.vit.width))
    }

    fn grid(&self, key: &str) -> Result<(usize, usize)> {
        let known = || candle_core::Error::Msg(format!("no frames `{key}` go through the ViT's trainable blocks"));
        self.grids.get(key).copied().ok_or_else(known)
    }

    /// Tokens of a frame, with the prefix.
    fn tokens(&self, key: &str) -> Result<usize> {
        let (rows, cols) = self.grid(key)?;
        Ok(self.vit.prefix() + rows * cols)
    }
}

/// The blocks that train, over variables or the weights of a snapshot. Cloning shares the weights.
#[derive(Clone)]
pub struct Tail {
    spec: Arc<TailSpec>,
    layers: Arc<Layers>,
}

struct Layers {
    blocks: Vec<TrainedBlock>,
    norm: Pair<Weight>,
}

impl Tail {
    /// Weights below `scope`, the trunk's ([`super::PREFIX`]).
    pub fn new(scope: &Scope, spec: &TailSpec) -> std::result::Result<Self, ParamError> {
        let taker = Taker::new(scope.clone(), &spec.vit);
        let block = |i: usize| taker.block(i, spec.vit.layer_scale);
        let blocks = spec.blocks().map(block).collect::<std::result::Result<_, _>>()?;
        let layers = Layers { blocks, norm: taker.pair("norm/scale", "norm/bias")? };
        Ok(Self { spec: Arc::new(spec.clone()), layers: Arc::new(layers) })
    }

    /// What it was made for.
    pub fn spec(&self) -> &TailSpec {
        &self.spec
    }

    /// Features [n, P, F] of the recorded hidden states of a key, [n, prefix + patches, F].
    pub fn forward(&self, key: &str, tokens: &Tensor) -> Result<Tensor> {
        let tokens = tokens.detach();
        if plain(&tokens) {
            return self.graph(key, &tokens);
        }
        let value = read(&tokens, |tokens| self.values(key, tokens))??;
        let shape = [&[tokens.dim(0)?], self.spec.features(key)?.shape.as_slice()].concat();
        let sources = self.weights().filter(|weight| weight.mapped().is_none()).map(Weight::tensor);
        let sources = sources.collect::<Result<Vec<_>>>()?;
        let parameters = (!sources.is_empty()).then(|| joined(&sources)).transpose()?;
        let (tail, key) = (self.clone(), key.to_string());
        record(&[parameters], value, shape, Box::new(move |grad| Ok(vec![Some(tail.backward(&key, &tokens, grad)?)])))
    }

    /// The same without gradients, over plain numbers.
    pub fn values(&self, key: &str, tokens: &[f32]) -> Result<Vec<f32>> {
        let (vit, grid) = (&self.spec.vit, self.spec.grid(key)?);
        let refuse = |e: ParamError| candle_core::Error::Msg(e.to_string());
        let blocks =
            self.layers.blocks.iter().map(|block| block.values().map_err(refuse)).collect::<Result<Vec<_>>>()?;
        let norm = self.layers.norm.values().map_err(refuse)?;
        let angles = self.angles(grid).unwrap_or_default();
        let (each, threads) = (self.spec.tokens(key)?, rayon::current_num_threads());
        let (mut out, mut work) = (Vec::new(), Work::default());
        for frames in tokens.chunks((ROWS / each).max(1) * each * vit.width) {
            let mut x = frames.to_vec();
            blocks.iter().for_each(|block| block.run(vit, threads, &mut x, each, &angles, &mut work));
            let mut normed = vec![0.0; x.len()];
            norm.layer_norm(&x, vit.eps, &mut normed);
            out.extend(self.spec.pooled(key, &normed)?);
        }
        Ok(out)
    }

    /// Gradients of all parameters, one after another, from that of the features.
    fn backward(&self, key: &str, tokens: &Tensor, grad: &[f32]) -> Result<Vec<f32>> {
        let mut sums = vec![0.0; self.weights().map(|weight| weight.shape().iter().product::<usize>()).sum()];
        let (n, frames) = (tokens.dim(0)?, (ROWS / self.spec.tokens(key)?).max(1));
        let each = grad.len() / n.max(1);
        for first in (0..n).step_by(frames) {
            let count = frames.min(n - first);
            let out = self.graph(key, &tokens.narrow(0, first, count)?.contiguous()?)?;
            let slopes = Tensor::from_slice(&grad[first * each..][..count * each], out.shape(), &Device::Cpu)?;
            let grads = (out * slopes)?.sum_all()?.backward()?;
            let mut rest = sums.as_mut_slice();
            for weight in self.weights() {
                let (own, later) = rest.split_at_mut(weight.shape().iter().product());
                if let Some(grad) = grads.get(&weight.tensor()?) {
                    read(grad, |grad| own.iter_mut().zip(grad).for_each(|(sum, g)| *sum += g))?;
                }
                rest = later;
            }
        }
        Ok(sums)
    }

    /// Features by tensor operations.
    fn graph(&self, key: &str, tokens: &Tensor) -> Result<Tensor> {
        let (grid, count) = (self.spec.grid(key)?, self.spec.tokens(key)?);
        let d = self.spec.vit.width / self.spec.vit.heads;
        let turns = self.angles(grid).map(|angles| turns(&angles, d, count, tokens.device())).transpose()?;
        let block = |x: Tensor, block: &TrainedBlock| self.block(block, &x, turns.as_ref());
        let x = self.layers.blocks.iter().try_fold(tokens.clone(), block)?;
        let x = self.norm(&self.layers.norm, &x)?;
        // Pooling is linear: its matrix is what it makes of the identity.
        let mut identity = vec![0.0; count * count];
        identity.iter_mut().step_by(count + 1).for_each(|x| *x = 1.0);
        let pool = self.spec.pool.apply(&identity, self.spec.vit.prefix(), grid, count);
        Tensor::from_vec(pool, (1, (), count), tokens.device())?.broadcast_matmul(&x)
    }

    fn block(&self, block: &TrainedBlock, x: &Tensor, turns: Option<&[Tensor; 2]>) -> Result<Tensor> {
        let scaled = |branch: Tensor, scale: Option<&Weight>| match scale {
            Some(scale) => branch.broadcast_mul(&scale.tensor()?),
            None => Ok(branch),
        };
        let scales = block.scales.as_ref();
        let mixed = project(&block.proj, &self.attend(&project(&block.qkv, &self.norm(&block.norm1, x)?)?, turns)?)?;
        let x = (x + scaled(mixed, scales.map(|s| &s.0))?)?;
        let hidden = self.activate(&project(&block.fc1, &self.norm(&block.norm2, &x)?)?)?;
        &x + scaled(project(&block.fc2, &hidden)?, scales.map(|s| &s.1))?
    }

    /// Attention of [n, tokens, 3 * width] as the fused projection gives it: [n, tokens, width].
    fn attend(&self, qkv: &Tensor, turns: Option<&[Tensor; 2]>) -> Result<Tensor> {
        let (vit, (n, tokens, _)) = (&self.spec.vit, qkv.dims3()?);
        let d = vit.width / vit.heads;
        let qkv = qkv.reshape((n, tokens, 3, vit.heads, d))?.permute((2, 0, 3, 1, 4))?;
        let part = |i: usize| qkv.get(i)?.contiguous();
        let [q, k] = match turns {
            Some(turns) => [turned(&part(0)?, turns)?, turned(&part(1)?, turns)?],
            None => [part(0)?, part(1)?],
        };
        let scores = (q.matmul(&k.t()?.contiguous()?)? / (d as f64).sqrt())?;
        let raised = scores.broadcast_sub(&scores.detach().max_keepdim(D::Minus1)?)?.exp()?;
        let shares = raised.broadcast_div(&raised.sum_keepdim(D::Minus1)?)?;
        shares.matmul(&part(2)?)?.transpose(1, 2)?.contiguous()?.reshape((n, tokens, vit.width))
    }

    fn activate(&self, x: &Tensor) -> Result<Tensor> {
        let activate = |x: &Tensor| match self.spec.vit.activation {
            Activation::Gelu => x.gelu_erf(),
            Activation::GeluTanh => x.gelu(),
            Activation::QuickGelu => x * plain::sigmoid(&x.affine(1.702, 0.0)?)?,
            Activation::Silu => x * plain::sigmoid(x)?,
            Activation::Relu => x.relu(),
        };
        match self.spec.vit.gated {
            true => {
                let units = self.spec.vit.mlp;
                activate(&x.narrow(D::Minus1, 0, units)?)? * x.narrow(D::Minus1, units, units)?
            }
            false => activate(x),
        }
    }

    fn norm(&self, Pair(scale, bias): &Pair<Weight>, x: &Tensor) -> Result<Tensor> {
        let kind = NormKind::Layer { eps: self.spec.vit.eps };
        norm_act(x, kind, Some(scale), Some(bias), Act::Identity, Precision::Float32)
    }

    /// Angles of the patches' queries and keys, if they are turned.
    fn angles(&self, grid: (usize, usize)) -> Option<Vec<f32>> {
        match self.spec.vit.positions {
            Positions::Rotary { theta } => Some(rotary::angles(grid, self.spec.vit.width / self.spec.vit.heads, theta)),
            Positions::Learned { .. } => None,
        }
    }

    /// Every parameter, always in the same order.
    fn weights(&self) -> impl Iterator<Item = &Weight> {
        let Pair(scale, bias) = &self.layers.norm;
        self.layers.blocks.iter().flat_map(TrainedBlock::weights).chain([scale, bias])
    }
}

fn project(Pair(kernel, bias): &Pair<Weight>, x: &Tensor) -> Result<Tensor> {
    linear(x, kernel, bias, Precision::Float32)
}

/// Cosines and sines [tokens, d / 2] of [`rotary::angles`] for heads of `d` numbers; prefix tokens, which come first, are not turned.
fn turns(angles: &[f32], d: usize, tokens: usize, device: &Device) -> Result<[Tensor; 2]> {
    let prefix = tokens - angles.len() / d;
    let part = |start: f32, first: usize| {
        let patches = angles.chunks_exact(d).flat_map(|angles| &angles[first..first + d / 2]).copied();
        let values = std::iter::repeat_n(start, prefix * d / 2).chain(patches).collect::<Vec<_>>();
        Tensor::from_vec(values, (tokens, d / 2), device)
    };
    Ok([part(1.0, 0)?, part(0.0, d / 2)?])
}

/// Queries or keys [n, heads, tokens, d], turned.
fn turned(x: &Tensor, [cos, sin]: &[Tensor; 2]) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (a, b) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let first = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
    let second = (b.broadcast_mul(cos)? + a.broadcast_mul(sin)?)?;
    Tensor::cat(&[first, second], D::Minus1)
}
