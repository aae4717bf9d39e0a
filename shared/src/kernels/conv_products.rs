//! Convolutions of 16 images side by side in the precision of a network.

use super::bfloat16::{self, Parts, conv as tiles};
use super::conv_lanes::{self, Images, Largest};
use super::precision::Precision;

/// A kernel [k, k, in, out], as the fastest products that this processor has need it. Split products leave it in float32.
pub enum Kernel {
    /// As it is.
    Float32(Vec<f32>),
    /// In bfloat16.
    Tiles(tiles::Kernel),
}

/// Sums of a kernel's gradient.
pub enum KernelGradient {
    /// Of operands as they are.
    Float32(conv_lanes::KernelGradient),
    /// Of operands in bfloat16.
    Tiles(tiles::KernelGradient),
}

fn tiled(precision: Precision) -> bool {
    precision.products() == Some(Parts::Rounded) && bfloat16::tiled()
}

impl Kernel {
    /// Of a convolution with odd k.
    pub fn new(values: Vec<f32>, sizes: [usize; 3], precision: Precision) -> Self {
        match tiled(precision) {
            true => Self::Tiles(tiles::Kernel::new(&values, sizes)),
            false => Self::Float32(values),
        }
    }

    /// See [`conv_lanes::convolve`].
    pub fn convolve(&self, x: &Images, bias: Option<&[f32]>, out: &mut Images) {
        match self {
            Self::Float32(kernel) => conv_lanes::convolve(x, kernel, bias, out),
            Self::Tiles(kernel) => kernel.convolve(x, bias, out),
        }
    }

    /// See [`conv_lanes::convolve_pooled`].
    pub fn convolve_pooled(&self, x: &Images, bias: &[f32], out: &mut Images, largest: &mut [Largest]) {
        match self {
            Self::Float32(kernel) => conv_lanes::convolve_pooled(x, kernel, bias, out, largest),
            Self::Tiles(kernel) => kernel.convolve_pooled(x, bias, out, largest),
        }
    }
}

impl KernelGradient {
    /// Zeros.
    pub fn new([k, inputs, outputs]: [usize; 3], precision: Precision) -> Self {
        match tiled(precision) {
            true => Self::Tiles(tiles::KernelGradient::new(k, inputs, outputs)),
            false => Self::Float32(conv_lanes::KernelGradient::new(k, inputs, outputs)),
        }
    }

    /// Adds what the images `x`, with a border of k / 2, and the gradient `d` of the result give.
    pub fn add(&mut self, x: &Images, d: &Images) {
        match self {
            Self::Float32(gradient) => gradient.add(x, d),
            Self::Tiles(gradient) => gradient.add(x, d),
        }
    }

    /// The gradient, [k, k, in, out].
    pub fn finish(&self) -> Vec<f32> {
        match self {
            Self::Float32(gradient) => {
                let mut out = vec![0.0; gradient.count()];
                gradient.finish(&mut out);
                out
            }
            Self::Tiles(gradient) => gradient.sums().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::conv_lanes::LANES;
    use crate::kernels::testing::numbers;

    fn rounded(count: usize, seed: usize) -> Vec<f32> {
        let mut values = numbers(count, seed);
        Precision::Bfloat16.round(&mut values);
        values
    }

    fn images(values: &[f32], sides: [usize; 3], border: usize) -> Images {
        let mut images = Images::new(sides, border);
        images.load(values);
        images
    }

    fn stored(images: &Images) -> Vec<f32> {
        let mut out = vec![0.0; LANES * images.sides().iter().product::<usize>()];
        images.store(&mut out);
        out
    }

    fn close(found: &[f32], expected: &[f32]) -> bool {
        let size = expected.iter().fold(1.0, |m: f32, x| m.max(x.abs()));
        found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-5 * size)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        /// Operands that bfloat16 holds give the same with tiles as without.
        #[test]
        fn convolutions_with_tiles_are_those_without(
            (h, w, half) in (1usize..6, 1usize..9, 0usize..3), (inputs, outputs) in (1usize..40, 1usize..40),
        ) {
            if !tiled(Precision::Bf16) {
                return Ok(());
            }
            let (k, sides) = (2 * half + 1, [2 * h, 2 * w, inputs]);
            let kernel = rounded(k * k * inputs * outputs, 1);
            let [plain, tiles] = [Precision::Float32, Precision::Bf16]
                .map(|precision| Kernel::new(kernel.clone(), [k, inputs, outputs], precision));
            prop_assert!(matches!(tiles, Kernel::Tiles(_)));
            let (pixels, bias) = (rounded(LANES * 4 * h * w * inputs, 2), numbers(outputs, 3));
            let x = images(&pixels, sides, half);

            let both = [&plain, &tiles].map(|kernel| {
                let mut out = Images::new([2 * h, 2 * w, outputs], half);
                kernel.convolve(&x, Some(&bias), &mut out);
                let mut pooled = Images::new([h, w, outputs], 0);
                let mut largest = vec![Largest::default(); h * w * outputs];
                kernel.convolve_pooled(&x, &bias, &mut pooled, &mut largest);
                (stored(&out), stored(&pooled), largest)
            });
            prop_assert!(close(&both[1].0, &both[0].0) && close(&both[1].1, &both[0].1));
            prop_assert!(both[1].2.iter().all(|cell| cell.iter().fold(0, |all, mask| all | mask) == u16::MAX));

            // A width that is not even, too.
            let narrow = [2 * h, 2 * w - 1];
            let count = LANES * narrow[0] * narrow[1];
            let x = images(&rounded(count * inputs, 4), [narrow[0], narrow[1], inputs], half);
            let d = images(&rounded(count * outputs, 5), [narrow[0], narrow[1], outputs], 1);
            let sums = [Precision::Float32, Precision::Bf16].map(|precision| {
                let mut gradient = KernelGradient::new([k, inputs, outputs], precision);
                gradient.add(&x, &d);
                gradient.add(&x, &d);
                gradient.finish()
            });
            prop_assert!(close(&sums[1], &sums[0]));
        }
    }
}
