//! The precision of a network's numbers: of all activations, or of the operands of matrix products alone.

use candle_core::{Result, Tensor};
use multiversion::multiversion;

use super::bfloat16::{self, Parts};
use super::record::{read, with_weight};
use crate::params::Weight;

/// What numbers are rounded to. Sums, norms' statistics, losses, gradients, parameters and optimizer state are float32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// No rounding.
    #[default]
    Float32,
    /// Operands of matrix products are sums of two bfloat16 numbers, with 16 bits of mantissa: errors of about 4e-6 of the largest
    /// result. Float32 where the processor has no tiles, which would make that slower.
    Split,
    /// Operands of matrix products have 8 bits of mantissa. Float32 where the processor multiplies bfloat16 no faster.
    Bf16,
    /// Activations, and the weights that they meet, have 8 bits of mantissa, as in the official code on accelerators.
    Bfloat16,
}

impl Precision {
    /// Names that `agent.compute_dtype` takes, for activations.
    pub const ACTIVATIONS: [&'static str; 2] = ["float32", "bfloat16"];
    /// Names of [`Precision::of_products`].
    pub const PRODUCTS: [&'static str; 3] = ["float32", "split", "bf16"];

    /// Of products only, from its name in configs; none if there is no such precision.
    pub fn of_products(name: &str) -> Option<Self> {
        match name {
            "float32" => Some(Self::Float32),
            "split" => Some(Self::Split),
            "bf16" => Some(Self::Bf16),
            _ => None,
        }
    }

    /// What this processor computes in: float32 where a lower precision would not be faster.
    pub fn here(self) -> Self {
        match self {
            Self::Split if !bfloat16::tiled() => Self::Float32,
            Self::Bf16 if !bfloat16::available() => Self::Float32,
            precision => precision,
        }
    }

    /// How operands of products are laid out for instructions on bfloat16; none: float32's are used.
    pub(super) fn products(self) -> Option<Parts> {
        match self.here() {
            Self::Float32 => None,
            Self::Split => Some(Parts::Split),
            Self::Bf16 => Some(Parts::Rounded),
            Self::Bfloat16 => bfloat16::available().then_some(Parts::Rounded),
        }
    }

    /// Round every value.
    pub fn round(self, values: &mut [f32]) {
        if self == Self::Bfloat16 {
            to_bfloat16(values);
        }
    }

    /// Rounded values; a gradient passes as if nothing were rounded.
    pub fn rounded(self, x: &Tensor) -> Result<Tensor> {
        if self != Self::Bfloat16 {
            return Ok(x.clone());
        }
        let mut values = read(x, <[f32]>::to_vec)?;
        self.round(&mut values);
        let rounded = Tensor::from_vec(values, x.shape(), x.device())?;
        if x.track_op() { x + (rounded - x.detach())? } else { Ok(rounded) }
    }

    /// Read a weight's values, rounded.
    pub(super) fn with_weight<R>(self, weight: &Weight, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
        with_weight(weight, |values| match self {
            Self::Bfloat16 => {
                let mut values = values.to_vec();
                self.round(&mut values);
                f(&values)
            }
            _ => f(values),
        })
    }
}

/// To the nearest, ties to even. Not a number stays so.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn to_bfloat16(values: &mut [f32]) {
    for value in values {
        let bits = value.to_bits();
        let rounded = f32::from_bits(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000);
        *value = if value.is_nan() { *value } else { rounded };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_the_bfloat16_type() {
        let mut values: Vec<f32> = (0..100_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761))).collect();
        values.extend([0.0, -0.0, 1.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1.003_906_3]);
        let expected: Vec<f32> = values.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect();
        Precision::Bfloat16.round(&mut values);
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(values.iter().zip(&expected).all(same));
    }
}
