//! The agent's configuration, with the names and nesting of the official DreamerV3, so that its configs can be read as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::env::Space;
use crate::kernels::Precision;
use crate::vit::TailSpec;

/// DreamerV3's options. Units are in `defaults.toml`, formulas in the modules that use them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct AgentConfig {
    pub loss_scales: BTreeMap<String, f64>,
    pub opt: OptConfig,
    pub ac_grads: bool,
    #[serde(rename = "dyn")]
    pub dynamics: DynConfig,
    pub enc: EncConfig,
    pub dec: DecConfig,
    pub rewhead: HeadConfig,
    pub conhead: HeadConfig,
    pub policy: PolicyConfig,
    pub value: HeadConfig,
    pub policy_dist_disc: String,
    pub policy_dist_cont: String,
    pub imag_last: usize,
    pub imag_length: usize,
    pub horizon: f64,
    pub contdisc: bool,
    pub imag_loss: ImagLossConfig,
    pub repl_loss: ReplLossConfig,
    pub slowvalue: SlowConfig,
    pub retnorm: NormConfig,
    pub valnorm: NormConfig,
    pub advnorm: NormConfig,
    pub reward_grad: bool,
    pub repval_loss: bool,
    pub repval_grad: bool,
    pub report: bool,
    pub report_gradnorms: bool,
    pub batch_size: usize,
    pub batch_length: usize,
    #[serde(default = "one")]
    pub consec_train: usize,
    pub replay_context: usize,
    pub report_length: usize,
    #[serde(default = "float32")]
    pub compute_dtype: String,
    /// Of matrix products, where activations are float32; [`super::Config`] says which part of Lucid has which.
    #[serde(skip)]
    pub products: Precision,
}

fn one() -> usize {
    1
}

fn float32() -> String {
    "float32".into()
}

impl AgentConfig {
    /// Steps of one sample from replay: `consec_train` batches that follow each other, with their context before.
    pub fn sample_length(&self) -> usize {
        self.consec_train * self.batch_length + self.replay_context
    }

    /// What numbers are rounded to.
    pub fn precision(&self) -> Precision {
        if self.compute_dtype == "bfloat16" { Precision::Bfloat16 } else { self.products }
    }

    /// What is set here and has no effect, since the official code ignores it too: the numbers stay its numbers.
    pub fn ignored(&self) -> Vec<String> {
        let told = |key: &str, value: &dyn std::fmt::Display| {
            format!("agent.{key} = {value} has no effect, as in the official DreamerV3")
        };
        let mut ignored = vec![];
        if !self.opt.momentum {
            ignored.push(told("opt.momentum", &self.opt.momentum));
        }
        if self.repl_loss.slowtar {
            ignored.push(told("repl_loss.slowtar", &self.repl_loss.slowtar));
        }
        if self.policy.unimix != 0.01 {
            ignored.push(told("policy.unimix", &self.policy.unimix));
        }
        ignored
    }
}

/// Optimizer: AGC, RMS normalisation, momentum, decoupled weight decay, learning-rate schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct OptConfig {
    pub lr: f64,
    pub agc: f64,
    pub eps: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub momentum: bool,
    #[serde(default)]
    pub nesterov: bool,
    pub wd: f64,
    #[serde(default = "kernels")]
    pub wdregex: String,
    pub schedule: String,
    pub warmup: u64,
    pub anneal: u64,
}

fn kernels() -> String {
    "/kernel$".into()
}

/// Which dynamics model, with its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct DynConfig {
    pub typ: String,
    pub rssm: RssmConfig,
}

/// Recurrent state-space model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RssmConfig {
    pub deter: usize,
    pub hidden: usize,
    pub stoch: usize,
    pub classes: usize,
    pub act: String,
    pub norm: String,
    pub unimix: f64,
    pub outscale: f64,
    pub winit: String,
    pub imglayers: usize,
    pub obslayers: usize,
    pub dynlayers: usize,
    pub absolute: bool,
    pub blocks: usize,
    pub free_nats: f64,
}

/// Which encoder, with its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct EncConfig {
    pub typ: String,
    pub simple: EncSimpleConfig,
}

/// Encoder: an MLP for vectors, convolutions for images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct EncSimpleConfig {
    pub depth: usize,
    pub mults: Vec<usize>,
    pub layers: usize,
    pub units: usize,
    pub act: String,
    pub norm: String,
    pub winit: String,
    pub symlog: bool,
    pub outer: bool,
    pub kernel: usize,
    pub strided: bool,
    /// Principal components kept per recorded feature (0: all, standardised); set from `vit.reduce`.
    #[serde(skip)]
    pub reduce: usize,
    /// Queries of the trainable pooling (0: none); set from `vit.pool` and `vit.queries`.
    #[serde(skip)]
    pub queries: usize,
    /// What is set of the layers for recorded features; set from `vit.adapter`.
    #[serde(skip)]
    pub adapter: AdapterConfig,
    /// The blocks of the ViT that train, if there are any; set from `[vit]` and the ViT's sizes.
    #[serde(skip)]
    pub tail: Option<TailSpec>,
}

/// Trainable layers between recorded features and the RSSM; 0 or empty: as `agent.enc.simple` has them for vectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct AdapterConfig {
    pub layers: usize,
    pub units: usize,
    pub act: String,
    pub norm: String,
}

impl EncSimpleConfig {
    /// By how much the convolutions shrink the sides of an image.
    pub fn factor(&self) -> usize {
        1 << (self.mults.len() - usize::from(self.outer))
    }

    /// The space of the features that come of what is recorded: itself, unless blocks of the ViT train.
    pub fn features_space(&self, key: &str, recorded: &Space) -> candle_core::Result<Space> {
        match &self.tail {
            Some(tail) => tail.features(key),
            None => Ok(recorded.clone()),
        }
    }

    /// Layers for recorded features: as `vit.adapter` says, and where it says nothing as those for vectors.
    pub fn adapter(&self) -> AdapterConfig {
        let own = &self.adapter;
        let number = |own: usize, other: usize| if own == 0 { other } else { own };
        let name = |own: &String, other: &String| if own.is_empty() { other.clone() } else { own.clone() };
        AdapterConfig {
            layers: number(own.layers, self.layers),
            units: number(own.units, self.units),
            act: name(&own.act, &self.act),
            norm: name(&own.norm, &self.norm),
        }
    }
}

/// Which decoder, with its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct DecConfig {
    pub typ: String,
    pub simple: DecSimpleConfig,
}

/// Decoder: an MLP for vectors, convolutions for images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct DecSimpleConfig {
    pub depth: usize,
    pub mults: Vec<usize>,
    pub layers: usize,
    pub units: usize,
    pub act: String,
    pub norm: String,
    pub outscale: f64,
    pub winit: String,
    pub outer: bool,
    pub kernel: usize,
    pub bspace: usize,
    pub strided: bool,
    #[serde(default = "yes")]
    pub symlog: bool,
    /// Whether recorded features are predicted; set from `vit.decode`.
    #[serde(skip)]
    pub features: bool,
    /// Order of images on the channels that are drawn, where it is not alphabetical: that of the official environment's
    /// spaces.
    #[serde(skip)]
    pub images: Vec<String>,
}

impl DecSimpleConfig {
    /// By how much the convolutions grow the sides of an image.
    pub fn factor(&self) -> usize {
        1 << (self.mults.len() - usize::from(self.outer))
    }
}

fn yes() -> bool {
    true
}

/// Reward, continue and value heads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct HeadConfig {
    pub layers: usize,
    pub units: usize,
    pub act: String,
    pub norm: String,
    pub output: String,
    pub outscale: f64,
    pub winit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bins: Option<usize>,
}

/// The policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct PolicyConfig {
    pub layers: usize,
    pub units: usize,
    pub act: String,
    pub norm: String,
    pub minstd: f64,
    pub maxstd: f64,
    pub outscale: f64,
    /// Has no effect in the official code either (ALGORITHM section 7); kept so that its configs parse.
    pub unimix: f64,
    pub winit: String,
}

/// Actor and critic loss in imagination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ImagLossConfig {
    pub slowtar: bool,
    pub lam: f64,
    pub actent: f64,
    pub slowreg: f64,
}

/// Critic loss on replayed steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ReplLossConfig {
    /// Has no effect in the official code either (ALGORITHM section 10); kept so that its configs parse.
    pub slowtar: bool,
    pub lam: f64,
    pub slowreg: f64,
}

/// The slow copy of the value head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SlowConfig {
    pub rate: f64,
    pub every: u64,
}

/// A running normaliser: `none`, `meanstd` or `perc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct NormConfig {
    #[serde(rename = "impl")]
    pub kind: String,
    pub rate: f64,
    pub limit: f64,
    #[serde(default = "perclo")]
    pub perclo: f64,
    #[serde(default = "perchi")]
    pub perchi: f64,
    #[serde(default = "yes")]
    pub debias: bool,
}

fn perclo() -> f64 {
    5.0
}

fn perchi() -> f64 {
    95.0
}
