//! What a Vision Transformer looks like: sizes, and the parameters that follow from them.

use serde::{Deserialize, Serialize};

use super::VitError;
use super::resample::Filter;
use crate::params::Init;

/// Whose names a weights file uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Convention {
    /// Hugging Face DINOv2, as on the hub (`attention.attention.query`).
    Dinov2,
    /// Hugging Face DINOv2, as written since transformers 5 (`attention.q_proj`).
    Dinov2V5,
    /// timm.
    Timm,
}

/// Sizes of a Vision Transformer.
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
    /// Register tokens, between the class token and the patches.
    pub registers: usize,
    /// Whether each residual branch has a learned scale.
    pub layer_scale: bool,
    /// Side of the grid of position embeddings, in patches.
    pub grid: usize,
    /// Prefix tokens (class, registers) that have a position embedding, which precede the grid's.
    pub pos_prefix: usize,
    /// Epsilon of LayerNorm.
    pub eps: f32,
    /// How position embeddings are resized to another grid.
    pub pos_filter: Filter,
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
            registers: 0,
            layer_scale: true,
            grid: 37,
            pos_prefix: 1,
            eps: 1e-6,
            pos_filter: Filter::Bicubic,
        }
    }

    /// Tokens before the patches: the class token and the registers.
    pub fn prefix(&self) -> usize {
        1 + self.registers
    }

    /// Refuse sizes that no trunk can be built from.
    pub fn validate(&self) -> Result<(), VitError> {
        let refuse = |what: String| Err(VitError::Spec(what));
        if [self.patch, self.width, self.depth, self.heads, self.mlp, self.grid].contains(&0) {
            return refuse(format!("a size is zero in {self:?}"));
        }
        if !self.width.is_multiple_of(self.heads) {
            return refuse(format!("width {} is no multiple of its {} heads", self.width, self.heads));
        }
        if self.pos_prefix > self.prefix() {
            return refuse(format!("{} prefix positions for {} prefix tokens", self.pos_prefix, self.prefix()));
        }
        Ok(())
    }

    /// Every parameter below the trunk's prefix: path, shape, and how it starts when it is not loaded.
    pub fn params(&self) -> Vec<(String, Vec<usize>, Init)> {
        let (w, normal) = (self.width, Init::Normal { std: 0.02 });
        let mut list = vec![
            ("cls".into(), vec![w], normal),
            ("pos".into(), vec![self.pos_prefix + self.grid * self.grid, w], normal),
            ("patch/kernel".into(), vec![self.patch, self.patch, 3, w], normal),
            ("patch/bias".into(), vec![w], Init::Zeros),
            ("norm/scale".into(), vec![w], Init::Ones),
            ("norm/bias".into(), vec![w], Init::Zeros),
        ];
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
        let mut list = vec![
            ("norm1/scale", vec![w], Init::Ones),
            ("norm1/bias", vec![w], Init::Zeros),
            ("attn/qkv/kernel", vec![w, 3 * w], normal),
            ("attn/qkv/bias", vec![3 * w], Init::Zeros),
            ("attn/proj/kernel", vec![w, w], normal),
            ("attn/proj/bias", vec![w], Init::Zeros),
            ("norm2/scale", vec![w], Init::Ones),
            ("norm2/bias", vec![w], Init::Zeros),
            ("mlp/fc1/kernel", vec![w, m], normal),
            ("mlp/fc1/bias", vec![m], Init::Zeros),
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
