//! Linear maps, whole and block-diagonal.

use candle_core::{Result, Tensor};

use super::{Norm, Style};
use crate::kernels::{self, Precision, stack::Dense};
use crate::params::{Init, ParamError, Scope, Weight};

/// Linear map of the last axis.
#[derive(Clone, Debug)]
pub struct Linear {
    kernel: Weight,
    bias: Weight,
    precision: Precision,
}

impl Linear {
    /// `kernel` [inputs, outputs] and `bias` [outputs] of the scope.
    pub fn new(
        scope: &Scope,
        style: &Style,
        inputs: usize,
        outputs: usize,
        outscale: f64,
    ) -> std::result::Result<Self, ParamError> {
        Ok(Self {
            kernel: scope.weight("kernel", &[inputs, outputs], style.kernel(inputs, outputs, outscale))?,
            bias: scope.weight("bias", &[outputs], Init::Zeros)?,
            precision: style.precision,
        })
    }

    /// [.., inputs] -> [.., outputs].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        kernels::linear(x, &self.kernel, &self.bias, self.precision)
    }
}

impl Linear {
    /// Kernel and bias.
    pub fn weights(&self) -> (&Weight, &Weight) {
        (&self.kernel, &self.bias)
    }

    /// The map alone, forward only.
    pub fn dense(&self) -> Result<Dense> {
        Dense::new(&self.kernel, &self.bias, None, self.precision)
    }

    /// The map with the norm and activation after it, forward only; none if these are not RMS and SiLU.
    pub fn dense_with(&self, norm: &Norm) -> Result<Option<Dense>> {
        norm.rms_silu().map(|norm| Dense::new(&self.kernel, &self.bias, Some(norm), self.precision)).transpose()
    }
}

/// Block-diagonal linear map.
#[derive(Clone, Debug)]
pub struct BlockLinear {
    kernel: Weight,
    bias: Weight,
    precision: Precision,
}

impl BlockLinear {
    /// `kernel` [blocks, inputs/blocks, outputs/blocks] and `bias` [outputs]; the fans are those of the whole map.
    pub fn new(
        scope: &Scope,
        style: &Style,
        inputs: usize,
        outputs: usize,
        blocks: usize,
    ) -> std::result::Result<Self, ParamError> {
        let shape = [blocks, inputs / blocks, outputs / blocks];
        Ok(Self {
            kernel: scope.weight("kernel", &shape, style.kernel(inputs, outputs, 1.0))?,
            bias: scope.weight("bias", &[outputs], Init::Zeros)?,
            precision: style.precision,
        })
    }

    /// [N, inputs] -> [N, outputs], block-major.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        kernels::block_linear(x, &self.kernel, &self.bias, self.precision)
    }

    /// Kernel and bias.
    pub fn weights(&self) -> (&Weight, &Weight) {
        (&self.kernel, &self.bias)
    }
}
