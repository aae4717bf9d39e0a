//! Normalisation with the activation that follows it.

use candle_core::{Result, Tensor};

use super::Style;
use crate::kernels::{self, Act, NormKind, Precision};
use crate::params::{Init, ParamError, Scope, Weight};

/// Norm over the last axis, then an activation.
#[derive(Clone, Debug)]
pub struct Norm {
    kind: NormKind,
    scale: Option<Weight>,
    shift: Option<Weight>,
    act: Act,
    precision: Precision,
}

impl Norm {
    /// `scale` [width] and `shift` [width] of the scope, as far as the kind of norm has them.
    pub fn new(scope: &Scope, style: &Style, width: usize) -> std::result::Result<Self, ParamError> {
        let weight = |wanted: bool, name: &str, init: Init| match wanted {
            true => scope.weight(name, &[width], init).map(Some),
            false => Ok(None),
        };
        Ok(Self {
            kind: style.norm,
            scale: weight(style.norm != NormKind::None, "scale", Init::Ones)?,
            shift: weight(matches!(style.norm, NormKind::Layer { .. }), "shift", Init::Zeros)?,
            act: style.act,
            precision: style.precision,
        })
    }

    /// [.., width] -> [.., width].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match (self.kind, &self.scale) {
            (NormKind::Rms { eps }, Some(scale)) if self.act == Act::Silu => {
                kernels::rms_silu(x, scale, eps, self.precision)
            }
            _ => kernels::norm_act(x, self.kind, self.scale.as_ref(), self.shift.as_ref(), self.act, self.precision),
        }
    }

    /// Scale and epsilon if this is RMS norm and SiLU, for a fused kernel: none where plain operations are to be used.
    pub fn rms_silu(&self) -> Option<(&Weight, f32)> {
        match (self.kind, &self.scale, self.act) {
            (NormKind::Rms { eps }, Some(scale), Act::Silu) if !kernels::plain_weight(scale) => Some((scale, eps)),
            _ => None,
        }
    }
}
