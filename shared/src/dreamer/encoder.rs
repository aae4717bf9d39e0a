//! Encoder: vectors through an MLP, features of the ViT through the adapter, images through convolutions
//! (official `rssm.py`, Encoder).
//!
//! Where blocks of the ViT train, hidden states are recorded in place of features, and go through these blocks first.

use std::borrow::Cow;
use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};

use super::attention::AttentionPool;
use super::features::Standardize;
use super::inputs::{self, Columns};
use crate::array::Array;
use crate::config::EncSimpleConfig;
use crate::env::{Space, Spaces};
#[cfg(target_arch = "x86_64")]
use crate::kernels::conv_shrink::{self, pooled_stages};
use crate::kernels::{Precision, max_pool2};
use crate::nn::{Conv2d, Mlp, Norm, Step, Style};
use crate::params::{ParamError, Scope, Weight};
use crate::vit::{TARGET, Tail};

/// Observations as the encoder takes them, one row per step.
pub struct Inputs {
    rows: usize,
    vector: Option<Tensor>,
    /// Standardised features by key, [rows, P * k]: what the decoder predicts. Also what the adapter sees, unless blocks of the ViT
    /// train; then these are of the frozen blocks' pooled output, so that the decoder does not chase what trains.
    pub features: BTreeMap<String, Tensor>,
    /// Where blocks train: recorded hidden states by key, [rows, tokens, F].
    tokens: BTreeMap<String, Tensor>,
    image: Option<Tensor>,
}

impl Inputs {
    /// The same on a device.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let moved = |x: &Option<Tensor>| x.as_ref().map(|x| x.to_device(device)).transpose();
        let all = |tensors: &BTreeMap<String, Tensor>| {
            tensors.iter().map(|(key, x)| Ok((key.clone(), x.to_device(device)?))).collect::<Result<_>>()
        };
        Ok(Self {
            rows: self.rows,
            vector: moved(&self.vector)?,
            features: all(&self.features)?,
            tokens: all(&self.tokens)?,
            image: moved(&self.image)?,
        })
    }
}

/// One stage of the convolutions.
struct Stage {
    conv: Conv2d,
    pooled: bool,
    norm: Norm,
}

impl Stage {
    /// Kernel, bias, scale of the norm and its epsilon, if this is the stage of the official configs: a convolution of stride 1,
    /// pooled, with RMS norm and SiLU.
    fn pooled_rms_silu(&self) -> Option<([&Weight; 3], f32)> {
        let ((kernel, bias), (scale, eps)) = (self.conv.weights()?, self.norm.rms_silu()?);
        self.pooled.then_some(([kernel, bias, scale], eps))
    }

    /// For the fused kernel, if it knows this stage.
    #[cfg(target_arch = "x86_64")]
    fn fused(&self, precision: Precision) -> Option<conv_shrink::Stage<'_>> {
        let ([kernel, bias, scale], eps) = self.pooled_rms_silu()?;
        (precision != Precision::Bfloat16).then_some(conv_shrink::Stage { kernel, bias, scale, eps })
    }
}

/// Layers and numbers of an encoder that a step of acting over mapped weights is made from.
pub(super) struct Parts<'a> {
    pub vectors: &'a [(String, Space)],
    pub images: &'a [(String, Space)],
    pub symlog: bool,
    pub mlp: Option<&'a Mlp>,
    pub features: &'a BTreeMap<String, Standardize>,
    pub attention: &'a BTreeMap<String, AttentionPool>,
    pub adapter: Option<&'a Mlp>,
    /// [`Stage::pooled_rms_silu`] of all.
    pub stages: Option<Vec<([&'a Weight; 3], f32)>>,
}

/// From observations to tokens.
pub struct Encoder {
    vectors: Vec<(String, Space)>,
    images: Vec<(String, Space)>,
    symlog: bool,
    mlp: Option<Mlp>,
    features: BTreeMap<String, Standardize>,
    /// By key of the features; empty if the adapter sees them all.
    attention: BTreeMap<String, AttentionPool>,
    /// Blocks that train, with what standardises the decoder's targets.
    tail: Option<(Tail, BTreeMap<String, Standardize>)>,
    adapter: Option<Mlp>,
    stages: Vec<Stage>,
    width: usize,
    precision: Precision,
}

impl Encoder {
    /// Modules below `scope` (`enc`) for the spaces that the agent sees. An image with recorded features is not convolved.
    pub fn new(
        scope: &Scope,
        config: &EncSimpleConfig,
        precision: Precision,
        spaces: &Spaces,
    ) -> std::result::Result<Self, ParamError> {
        let observed = inputs::observed(spaces);
        let owned = |(k, s): (&&str, &&Space)| (k.to_string(), (*s).clone());
        let seen_by_vit = |key: &str| spaces.contains_key(&format!("vit/{key}"));
        let vectors: Vec<_> = observed.iter().filter(|(_, s)| inputs::is_vector(s)).map(owned).collect();
        let images: Vec<_> = observed.iter().filter(|(k, s)| s.is_image() && !seen_by_vit(k)).map(owned).collect();
        let (mut features, mut targets, mut attention) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (key, space) in observed.iter().filter(|(_, s)| inputs::is_features(s)) {
            let below = |group: &str| scope.sub(group).sub(key.trim_start_matches("vit/"));
            let space = config.features_space(key, space)?;
            let standardize = Standardize::new(&below("features"), &space, config.reduce)?;
            if config.tail.is_some() {
                let target = Standardize::new(&below("features").sub(TARGET), &space, config.reduce)?;
                targets.insert(key.to_string(), target);
            }
            if config.queries > 0 {
                let pool = AttentionPool::new(&below("attention"), standardize.tokens(), config.queries)?;
                attention.insert(key.to_string(), pool);
            }
            features.insert(key.to_string(), standardize);
        }
        let vit = config.tail.as_ref().map(|spec| Tail::new(&scope.sub("vit"), spec)).transpose()?;
        let tail = vit.map(|vit| (vit, targets));
        let style = Style::new(&config.act, &config.norm, &config.winit)?.at(precision);
        let stack = |name: &str, style: &Style, inputs: usize, units: usize, layers: usize| match inputs {
            0 => Ok(None),
            n => Mlp::named(scope, style, name, [n, units, layers]).map(Some),
        };
        let mlp = stack("mlp", &style, vectors.iter().map(|(_, s)| s.width()).sum(), config.units, config.layers)?;
        let adapted = config.adapter();
        let seen = match config.queries {
            0 => features.values().map(Standardize::width).sum(),
            _ => attention.values().map(AttentionPool::width).sum(),
        };
        let adapter_style = Style::new(&adapted.act, &adapted.norm, &config.winit)?.at(precision);
        let adapter = stack("adapter", &adapter_style, seen, adapted.units, adapted.layers)?;
        let (stages, image_width) = stages(scope, config, &style, &images)?;
        let width = mlp.iter().chain(&adapter).map(Mlp::width).sum::<usize>() + image_width;
        let symlog = config.symlog;
        Ok(Self { vectors, images, symlog, mlp, features, attention, tail, adapter, stages, width, precision })
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        Parts {
            vectors: &self.vectors,
            images: &self.images,
            symlog: self.symlog,
            mlp: self.mlp.as_ref(),
            features: &self.features,
            attention: &self.attention,
            adapter: self.adapter.as_ref(),
            stages: self.stages.iter().map(Stage::pooled_rms_silu).collect(),
        }
    }

    /// Numbers per step that the RSSM gets.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Prepare `rows` steps.
    pub fn inputs(&self, obs: &Columns, rows: usize) -> Result<Inputs> {
        let spaces: Vec<(&str, &Space)> = self.vectors.iter().map(|(k, s)| (k.as_str(), s)).collect();
        let vector = (!spaces.is_empty()).then(|| inputs::vectors(&spaces, obs, rows, self.symlog)).transpose()?;
        let (mut features, mut tokens) = (BTreeMap::new(), BTreeMap::new());
        for (key, standardize) in &self.features {
            let column = inputs::column(obs, key)?;
            let Some((tail, targets)) = &self.tail else {
                features.insert(key.clone(), standardize.forward(column, rows)?);
                continue;
            };
            let hidden = tail.spec().hidden(key, column, rows)?;
            let pooled = tail.spec().pooled(key, &hidden)?;
            features.insert(key.clone(), targets[key].forward(&Array::f32(&[pooled.len()], &pooled), rows)?);
            tokens.insert(
                key.clone(),
                Tensor::from_vec(hidden, &[&[rows], &column.shape[1..]].concat()[..], &Device::Cpu)?,
            );
        }
        let image = (!self.images.is_empty()).then(|| self.image(obs, rows)).transpose()?;
        Ok(Inputs { rows, vector, features, tokens, image })
    }

    /// Observations with features in place of recorded hidden states, where blocks of the ViT train; without gradients.
    pub(super) fn through_tail<'a>(&self, obs: &'a Columns, rows: usize) -> Result<Cow<'a, Columns>> {
        let Some((tail, _)) = &self.tail else { return Ok(Cow::Borrowed(obs)) };
        let others = obs.iter().filter(|(key, _)| !self.features.contains_key(*key));
        let mut seen: Columns = others.map(|(key, column)| (key.clone(), column.clone())).collect();
        for (key, standardize) in &self.features {
            let hidden = tail.spec().hidden(key, inputs::column(obs, key)?, rows)?;
            let features = tail.values(key, &hidden)?;
            seen.insert(key.clone(), Array::f32(&[rows, standardize.inputs()], &features));
        }
        Ok(Cow::Owned(seen))
    }

    /// Tokens, [rows, width].
    pub fn forward(&self, inputs: &Inputs) -> Result<Tensor> {
        let mut outs = vec![];
        if let (Some(mlp), Some(x)) = (&self.mlp, &inputs.vector) {
            outs.push(mlp.forward(&self.precision.rounded(x)?)?);
        }
        if let Some(adapter) = &self.adapter {
            let seen = self.adapted(inputs)?;
            outs.push(adapter.forward(&self.precision.rounded(&Tensor::cat(&seen, 1)?)?)?);
        }
        if let Some(image) = &inputs.image {
            outs.push(self.convolve(&self.precision.rounded(image)?)?.reshape((inputs.rows, ()))?);
        }
        Tensor::cat(&outs, 1)
    }

    /// What the adapter sees, by key.
    fn adapted(&self, inputs: &Inputs) -> Result<Vec<Tensor>> {
        let seen = |(key, standardize): (&String, &Standardize)| {
            let tokens = match &self.tail {
                Some((tail, _)) => standardize.forward_tensor(&tail.forward(key, &inputs.tokens[key])?)?,
                None => inputs.features[key].clone(),
            };
            match self.attention.get(key) {
                Some(pool) => pool.forward(&tokens),
                None => Ok(tokens),
            }
        };
        self.features.iter().map(seen).collect()
    }

    /// All stages of images [rows, H, W, C].
    fn convolve(&self, images: &Tensor) -> Result<Tensor> {
        #[cfg(target_arch = "x86_64")]
        if let Some(stages) = self.stages.iter().map(|stage| stage.fused(self.precision)).collect::<Option<Vec<_>>>()
            && let Some(out) = pooled_stages(images, &stages, self.precision)?
        {
            return Ok(out);
        }
        let stage = |x: Tensor, stage: &Stage| {
            let x = stage.conv.forward(&x)?;
            stage.norm.forward(&if stage.pooled { max_pool2(&x)? } else { x })
        };
        self.stages.iter().try_fold(images.clone(), stage)
    }

    /// Images joined on channels, scaled to -0.5..0.5, [rows, H, W, C].
    fn image(&self, obs: &Columns, rows: usize) -> Result<Tensor> {
        let mut parts = vec![];
        for (key, space) in &self.images {
            let bytes = &inputs::column(obs, key)?.bytes;
            let shape = [&[rows], space.shape.as_slice()].concat();
            let values: Vec<f32> = bytes.iter().map(|&b| b as f32 / 255.0 - 0.5).collect();
            parts.push(Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        Tensor::cat(&parts, 3)
    }
}

/// Stages with the width of what they give.
fn stages(
    scope: &Scope,
    config: &EncSimpleConfig,
    style: &Style,
    images: &[(String, Space)],
) -> std::result::Result<(Vec<Stage>, usize), ParamError> {
    let Some((key, first)) = images.first() else { return Ok((vec![], 0)) };
    let factor = config.factor();
    let sides = [first.shape[0], first.shape[1]];
    if sides.iter().any(|s| s % factor != 0 || !(3..=16).contains(&(s / factor))) {
        let message = format!("image `{key}` is {sides:?} pixels; sides must be {factor} times 3 to 16");
        return Err(candle_core::Error::Msg(message).into());
    }
    if let Some((other, _)) = images.iter().find(|(_, s)| s.shape[..2] != first.shape[..2]) {
        let message = format!("images `{key}` and `{other}` are encoded together and must have the same sides");
        return Err(candle_core::Error::Msg(message).into());
    }
    let mut channels = images.iter().map(|(_, s)| s.shape[2]).sum();
    let mut stages = vec![];
    for (i, mult) in config.mults.iter().enumerate() {
        let depth = config.depth * mult;
        let whole = config.outer && i == 0;
        let step = if config.strided && !whole { Step::Half } else { Step::Same };
        stages.push(Stage {
            conv: Conv2d::new(&scope.sub(&format!("cnn{i}")), style, config.kernel, [channels, depth], step, 1.0)?,
            pooled: !whole && !config.strided,
            norm: Norm::new(&scope.sub(&format!("cnn{i}norm")), style, depth)?,
        });
        channels = depth;
    }
    Ok((stages, channels * sides.iter().map(|s| s / factor).product::<usize>()))
}
