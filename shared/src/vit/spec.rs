//! What a Vision Transformer looks like: sizes, and the parameters that follow from them.

use serde::{Deserialize, Serialize};

use super::VitError;
use super::resample::Filter;
use crate::params::Init;

/// Nonlinearity of the MLPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// With the exact error function.
    Gelu,
    /// In its approximation by tanh.
    GeluTanh,
    /// `x * sigmoid(1.702 x)`, as in CLIP.
    QuickGelu,
    /// `x * sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

/// How patches know where they are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Learned vectors added to the tokens.
    Learned {
        /// Side of the grid of embeddings, in patches.
        grid: usize,
        /// Prefix tokens (class, registers) that have an embedding, which precede the grid's.
        prefix: usize,
        /// How the grid is resized to another one.
        filter: Filter,
    },
    /// Queries and keys of patches are rotated by angles of their row and column (DINOv3).
    Rotary {
        /// Base of the wavelengths.
        theta: f32,
    },
}

/// What pixels between 0 and 1 become, by colour: `(x - mean) / std`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pixels {
    /// Mean.
    pub mean: [f32; 3],
    /// Deviation.
    pub std: [f32; 3],
}

impl Pixels {
    /// Statistics of ImageNet.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    /// To the range of -1 to 1.
    pub const SYMMETRIC: Self = Self { mean: [0.5; 3], std: [0.5; 3] };
    /// Statistics of CLIP's data.
    pub const CLIP: Self =
        Self { mean: [0.481_454_66, 0.457_827_5, 0.408_210_73], std: [0.268_629_54, 0.261_302_6, 0.275_777_1] };
}

/// Sizes of a Vision Transformer, and what its variants differ in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitSpec {
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Numbers per token.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden units of each block's MLP.
    pub mlp: usize,
    /// Whether a class token precedes the others.
    pub class_token: bool,
    /// Register tokens, between the class token and the patches.
    pub registers: usize,
    /// How patches know where they are.
    pub positions: Positions,
    /// Whether each residual branch has a learned scale.
    pub layer_scale: bool,
    /// Nonlinearity of the MLPs.
    pub activation: Activation,
    /// Whether the MLPs multiply their hidden units with as many gates, which are what passes the nonlinearity.
    pub gated: bool,
    /// Whether tokens are normalised before the first block (CLIP).
    pub pre_norm: bool,
    /// Whether the library's own last tokens have passed the final norm; CLIP norms only what it pools.
    pub normed: bool,
    /// Epsilon of LayerNorm.
    pub eps: f32,
    /// What pixels become.
    pub pixels: Pixels,
}

impl VitSpec {
    /// DINOv2's ViT-S/14.
    pub fn dinov2_small() -> Self {
        Self {
            patch: 14,
            width: 384,
            depth: 12,
            heads: 6,
            mlp: 1536,
            class_token: true,
            registers: 0,
            positions: Positions::Learned { grid: 37, prefix: 1, filter: Filter::Bicubic },
            layer_scale: true,
            activation: Activation::Gelu,
            gated: false,
            pre_norm: false,
            normed: true,
            eps: 1e-6,
            pixels: Pixels::IMAGENET,
        }
    }

    /// Tokens before the patches: the class token and the registers.
    pub fn prefix(&self) -> usize {
        usize::from(self.class_token) + self.registers
    }

    /// Side of the image that the position embeddings were learned on, in pixels; none without learned ones.
    pub fn native_side(&self) -> Option<usize> {
        match self.positions {
            Positions::Learned { grid, .. } => Some(grid * self.patch),
            Positions::Rotary { .. } => None,
        }
    }

    /// Refuse sizes that no trunk can be built from.
    pub fn validate(&self) -> Result<(), VitError> {
        let refuse = |what: String| Err(VitError::Spec(what));
        if self.heads == 0 {
            return refuse(format!("the number of heads is not known for the width {}; set vit.heads", self.width));
        }
        if [self.patch, self.width, self.depth, self.mlp].contains(&0) {
            return refuse(format!("a size is zero in {self:?}"));
        }
        if !self.width.is_multiple_of(self.heads) {
            return refuse(format!("width {} is no multiple of its {} heads; set vit.heads", self.width, self.heads));
        }
        let Pixels { mean, std } = self.pixels;
        let positive = |x: f32| x > 0.0 && x.is_finite();
        let theta = match self.positions {
            Positions::Rotary { theta } => theta,
            Positions::Learned { .. } => 1.0,
        };
        if !mean.iter().all(|x| x.is_finite()) || ![&std[..], &[self.eps, theta]].concat().into_iter().all(positive) {
            return refuse(format!("deviations, epsilon and theta must be positive, and all finite, in {self:?}"));
        }
        match self.positions {
            Positions::Learned { grid: 0, .. } => refuse(format!("no position embeddings in {self:?}")),
            Positions::Learned { prefix, .. } if prefix > self.prefix() => {
                refuse(format!("{prefix} prefix positions for {} prefix tokens", self.prefix()))
            }
            Positions::Rotary { .. } if !(self.width / self.heads).is_multiple_of(4) => {
                refuse(format!("heads of {} numbers cannot be rotated by rows and columns", self.width / self.heads))
            }
            _ => Ok(()),
        }
    }

    /// Every parameter below the trunk's prefix: path, shape, and how it starts when it is not loaded.
    pub fn params(&self) -> Vec<(String, Vec<usize>, Init)> {
        let (w, normal) = (self.width, Init::Normal { std: 0.02 });
        let mut list = vec![
            ("patch/kernel".into(), vec![self.patch, self.patch, 3, w], normal),
            ("patch/bias".into(), vec![w], Init::Zeros),
            ("norm/scale".into(), vec![w], Init::Ones),
            ("norm/bias".into(), vec![w], Init::Zeros),
        ];
        if self.class_token {
            list.push(("cls".into(), vec![w], normal));
        }
        if let Positions::Learned { grid, prefix, .. } = self.positions {
            list.push(("pos".into(), vec![prefix + grid * grid, w], normal));
        }
        if self.pre_norm {
            list.push(("pre_norm/scale".into(), vec![w], Init::Ones));
            list.push(("pre_norm/bias".into(), vec![w], Init::Zeros));
        }
        if self.registers > 0 {
            list.push(("registers".into(), vec![self.registers, w], normal));
        }
        for i in 0..self.depth {
            list.extend(
                self.block().into_iter().map(|(name, shape, init)| (format!("blocks/{i}/{name}"), shape, init)),
            );
        }
        list
    }

    fn block(&self) -> Vec<(&'static str, Vec<usize>, Init)> {
        let (w, m, normal) = (self.width, self.mlp, Init::Normal { std: 0.02 });
        let hidden = if self.gated { 2 * m } else { m };
        let mut list = vec![
            ("norm1/scale", vec![w], Init::Ones),
            ("norm1/bias", vec![w], Init::Zeros),
            ("attn/qkv/kernel", vec![w, 3 * w], normal),
            ("attn/qkv/bias", vec![3 * w], Init::Zeros),
            ("attn/proj/kernel", vec![w, w], normal),
            ("attn/proj/bias", vec![w], Init::Zeros),
            ("norm2/scale", vec![w], Init::Ones),
            ("norm2/bias", vec![w], Init::Zeros),
            ("mlp/fc1/kernel", vec![w, hidden], normal),
            ("mlp/fc1/bias", vec![hidden], Init::Zeros),
            ("mlp/fc2/kernel", vec![m, w], normal),
            ("mlp/fc2/bias", vec![w], Init::Zeros),
        ];
        if self.layer_scale {
            list.push(("ls1/scale", vec![w], Init::Ones));
            list.push(("ls2/scale", vec![w], Init::Ones));
        }
        list
    }
}
