//! What tests of kernels share.

use candle_core::{Device, Tensor, Var};

use crate::dist::{Draws, Seeded};
use crate::params::Weight;

/// Standard normal numbers that follow from the seed.
pub fn noise(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::from_vec(Seeded::new(seed).normal(shape), shape, &Device::Cpu).unwrap()
}

/// [`noise`] as a variable.
pub fn weight(seed: u64, shape: &[usize]) -> Weight {
    Weight::Var(Var::from_tensor(&noise(seed, shape)).unwrap())
}

/// Numbers between -1 and 1 that follow from the seed.
pub fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
}

/// Panics unless all differences are small beside the largest expected value.
pub fn assert_close(what: &str, found: &Tensor, expected: &Tensor) {
    let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (found, expected) = (flat(found), flat(expected));
    let size = expected.iter().fold(0.0, |m: f32, x| m.max(x.abs()));
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let same = found.len() == expected.len();
    assert!(same && size > 0.0 && worst <= 1e-4 * size, "{what}: {worst:.2e} of {size:.2e}");
}
