//! Layers: weights from a scope, arithmetic from the kernels. Names and layouts are those of the official DreamerV3.

use candle_core::{Result, Tensor};

use crate::kernels::{self, Act};
use crate::params::{Init, ParamError, Scope, Weight};

/// Linear map of the last axis.
#[derive(Clone, Debug)]
pub struct Linear {
    kernel: Weight,
    bias: Weight,
}

impl Linear {
    /// `kernel` [inputs, outputs] and `bias` [outputs] of the scope.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize, outscale: f64) -> std::result::Result<Self, ParamError> {
        let init = scaled(inputs, outscale);
        Ok(Self {
            kernel: scope.weight("kernel", &[inputs, outputs], init)?,
            bias: scope.weight("bias", &[outputs], Init::Zeros)?,
        })
    }

    /// [.., inputs] -> [.., outputs].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        kernels::linear(x, &self.kernel, &self.bias)
    }
}

fn scaled(fan_in: usize, outscale: f64) -> Init {
    if outscale == 0.0 { Init::Zeros } else { Init::TruncNormal { fan_in, outscale } }
}

/// Block-diagonal linear map.
#[derive(Clone, Debug)]
pub struct BlockLinear {
    kernel: Weight,
    bias: Weight,
}

impl BlockLinear {
    /// `kernel` [blocks, inputs/blocks, outputs/blocks] and `bias` [outputs]; the fan-in is that of the whole input.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize, blocks: usize) -> std::result::Result<Self, ParamError> {
        Ok(Self {
            kernel: scope.weight("kernel", &[blocks, inputs / blocks, outputs / blocks], scaled(inputs, 1.0))?,
            bias: scope.weight("bias", &[outputs], Init::Zeros)?,
        })
    }

    /// [N, inputs] -> [N, outputs], block-major.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        kernels::block_linear(x, &self.kernel, &self.bias)
    }
}

/// RMS norm over the last axis, then an activation.
#[derive(Clone, Debug)]
pub struct Norm {
    scale: Weight,
    act: Act,
}

impl Norm {
    /// `scale` [width] of the scope, followed by SiLU.
    pub fn silu(scope: &Scope, width: usize) -> std::result::Result<Self, ParamError> {
        Ok(Self { scale: scope.weight("scale", &[width], Init::Ones)?, act: Act::Silu })
    }

    /// [.., width] -> [.., width].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        kernels::norm_act(x, &self.scale, self.act)
    }
}

/// Convolution of NHWC images, stride 1, SAME padding.
#[derive(Clone, Debug)]
pub struct Conv2d {
    kernel: Weight,
    bias: Weight,
}

impl Conv2d {
    /// `kernel` [size, size, inputs, outputs] and `bias` [outputs].
    pub fn new(
        scope: &Scope,
        size: usize,
        inputs: usize,
        outputs: usize,
        outscale: f64,
    ) -> std::result::Result<Self, ParamError> {
        let init = scaled(size * size * inputs, outscale);
        Ok(Self {
            kernel: scope.weight("kernel", &[size, size, inputs, outputs], init)?,
            bias: scope.weight("bias", &[outputs], Init::Zeros)?,
        })
    }

    /// [N, H, W, inputs] -> [N, H, W, outputs].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        kernels::conv2d(x, &self.kernel, &self.bias)
    }
}

/// Linear, norm and SiLU, several times.
#[derive(Clone, Debug)]
pub struct Mlp {
    layers: Vec<(Linear, Norm)>,
    width: usize,
}

impl Mlp {
    /// Layers named `{linear}{i}` and `norm(i)`.
    pub fn new(
        scope: &Scope,
        (linear, norm): (&str, impl Fn(usize) -> String),
        inputs: usize,
        units: usize,
        layers: usize,
    ) -> std::result::Result<Self, ParamError> {
        let layer = |i: usize| {
            let inputs = if i == 0 { inputs } else { units };
            let map = Linear::new(&scope.sub(&format!("{linear}{i}")), inputs, units, 1.0)?;
            Ok((map, Norm::silu(&scope.sub(&norm(i)), units)?))
        };
        let width = if layers == 0 { inputs } else { units };
        Ok(Self { layers: (0..layers).map(layer).collect::<std::result::Result<_, ParamError>>()?, width })
    }

    /// An MLP with the names of heads: `linear0`, `norm0`, …
    pub fn head(scope: &Scope, inputs: usize, units: usize, layers: usize) -> std::result::Result<Self, ParamError> {
        Self::new(scope, ("linear", |i| format!("norm{i}")), inputs, units, layers)
    }

    /// An MLP with the names of encoder and RSSM: `mlp0`, `mlp0norm`, …
    pub fn stack(
        scope: &Scope,
        name: &str,
        inputs: usize,
        units: usize,
        layers: usize,
    ) -> std::result::Result<Self, ParamError> {
        Self::new(scope, (name, |i| format!("{name}{i}norm")), inputs, units, layers)
    }

    /// Width of the output.
    pub fn width(&self) -> usize {
        self.width
    }

    /// [.., inputs] -> [.., width].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(x.clone(), |x, (linear, norm)| norm.forward(&linear.forward(&x)?))
    }
}
