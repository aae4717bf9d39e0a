//! Convolutions of NHWC images.

use candle_core::{Result, Tensor};

use super::Style;
use crate::kernels::{self, Precision};
use crate::params::{Init, ParamError, Scope, Weight};

/// How a convolution changes the sides of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Not at all.
    Same,
    /// Halves them: every second pixel.
    Half,
    /// Doubles them: each pixel goes to the lower right of a 2x2 cell of zeros first (official `nets.py`, Conv2D, transp).
    Double,
}

/// Convolution with SAME padding.
#[derive(Clone, Debug)]
pub struct Conv2d {
    kernel: Weight,
    bias: Weight,
    step: Step,
    precision: Precision,
}

impl Conv2d {
    /// `kernel` [size, size, inputs, outputs] and `bias` [outputs].
    pub fn new(
        scope: &Scope,
        style: &Style,
        size: usize,
        [inputs, outputs]: [usize; 2],
        step: Step,
        outscale: f64,
    ) -> std::result::Result<Self, ParamError> {
        let area = size * size;
        let init = style.kernel(area * inputs, area * outputs, outscale);
        Ok(Self {
            kernel: scope.weight("kernel", &[size, size, inputs, outputs], init)?,
            bias: scope.weight("bias", &[outputs], Init::Zeros)?,
            step,
            precision: style.precision,
        })
    }

    /// Kernel and bias, if sides stay as they are.
    pub fn weights(&self) -> Option<(&Weight, &Weight)> {
        (self.step == Step::Same).then_some((&self.kernel, &self.bias))
    }

    /// [N, H, W, inputs] -> [N, H', W', outputs].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.step {
            Step::Same => kernels::conv2d(x, &self.kernel, &self.bias, 1, self.precision),
            Step::Half => kernels::conv2d(x, &self.kernel, &self.bias, 2, self.precision),
            Step::Double => kernels::conv2d(&kernels::spread2(x)?, &self.kernel, &self.bias, 1, self.precision),
        }
    }
}
