//! What the layers of one module have in common: the options `act`, `norm` and `winit`.

use crate::kernels::{Act, NormKind, Precision};
use crate::params::{Dist, Init, ParamError};

/// Activation, normalisation and initialiser of a module's layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Style {
    /// After each norm.
    pub act: Act,
    /// After each linear map or convolution.
    pub norm: NormKind,
    /// Of what comes out of each layer.
    pub precision: Precision,
    dist: Option<Dist>,
    fan: Fan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fan {
    In,
    Out,
    Average,
}

/// A name that no layer knows.
#[derive(Debug, thiserror::Error)]
#[error("`{option}` is `{name}`, must be one of: {known}")]
pub struct StyleError {
    /// Which option.
    pub option: &'static str,
    /// Its value.
    pub name: String,
    /// What exists.
    pub known: &'static str,
}

impl From<StyleError> for ParamError {
    fn from(error: StyleError) -> Self {
        candle_core::Error::Msg(error.to_string()).into()
    }
}

impl Style {
    /// From the names that the official code uses.
    pub fn new(act: &str, norm: &str, winit: &str) -> Result<Self, StyleError> {
        let (dist, fan) = initialiser(winit)?;
        let precision = Precision::Float32;
        Ok(Self { act: activation(act)?, norm: normalisation(norm)?, precision, dist, fan })
    }

    /// With another precision than float32.
    pub fn at(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Initial kernel of a layer where one output sums over `inputs` numbers and one input goes to `outputs`.
    pub(super) fn kernel(&self, inputs: usize, outputs: usize, outscale: f64) -> Init {
        let fan = match self.fan {
            Fan::In => inputs as f64,
            Fan::Out => outputs as f64,
            Fan::Average => (inputs + outputs) as f64 / 2.0,
        };
        match self.dist {
            Some(dist) if outscale != 0.0 => Init::Fan { dist, fan, outscale },
            _ => Init::Zeros,
        }
    }
}

fn activation(name: &str) -> Result<Act, StyleError> {
    Ok(match name {
        "none" => Act::Identity,
        "silu" | "swish" => Act::Silu,
        "gelu" => Act::Gelu,
        "relu" => Act::Relu,
        "relu2" => Act::Relu2,
        "mish" => Act::Mish,
        "elu" => Act::Elu,
        "tanh" => Act::Tanh,
        "sigmoid" => Act::Sigmoid,
        "softplus" => Act::Softplus,
        _ => {
            let known = "none, silu, swish, gelu, relu, relu2, mish, elu, tanh, sigmoid, softplus";
            return Err(StyleError { option: "act", name: name.into(), known });
        }
    })
}

fn normalisation(name: &str) -> Result<NormKind, StyleError> {
    let unknown = || StyleError {
        option: "norm",
        name: name.into(),
        known: "none, rms, layer, and rms1emN or layer1emN with an epsilon of 10^-N (else 1e-4)",
    };
    let (kind, eps) = match name.split_once("1em") {
        Some((kind, digits)) => (kind, 10f64.powi(-digits.parse::<i32>().map_err(|_| unknown())?) as f32),
        None => (name, 1e-4),
    };
    match kind {
        "none" => Ok(NormKind::None),
        "rms" => Ok(NormKind::Rms { eps }),
        "layer" => Ok(NormKind::Layer { eps }),
        _ => Err(unknown()),
    }
}

fn initialiser(name: &str) -> Result<(Option<Dist>, Fan), StyleError> {
    let (dist, fan) = match name.rsplit_once('_') {
        Some((dist, "in")) => (dist, Fan::In),
        Some((dist, "out")) => (dist, Fan::Out),
        Some((dist, "avg")) => (dist, Fan::Average),
        _ => (name, Fan::In),
    };
    let dist = match dist {
        "zeros" => None,
        "uniform" => Some(Dist::Uniform),
        "normal" => Some(Dist::Normal),
        "trunc_normal" => Some(Dist::TruncNormal),
        _ => {
            let known = "trunc_normal, normal, uniform, zeros, each alone or with _in, _out or _avg";
            return Err(StyleError { option: "winit", name: name.into(), known });
        }
    };
    Ok((dist, fan))
}
