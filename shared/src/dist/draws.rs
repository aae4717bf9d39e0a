//! Where randomness comes from.

use multiversion::multiversion;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::kernels::math::ln;

/// A source of noise. Shapes are whole tensors' shapes.
pub trait Draws {
    /// Standard Gumbel noise, into as many numbers as the shape has.
    fn gumbel_in(&mut self, shape: &[usize], out: &mut [f32]);
    /// Standard normal noise, likewise.
    fn normal_in(&mut self, shape: &[usize], out: &mut [f32]);

    /// Standard Gumbel noise.
    fn gumbel(&mut self, shape: &[usize]) -> Vec<f32> {
        let mut draws = vec![0.0; shape.iter().product()];
        self.gumbel_in(shape, &mut draws);
        draws
    }

    /// Standard normal noise.
    fn normal(&mut self, shape: &[usize]) -> Vec<f32> {
        let mut draws = vec![0.0; shape.iter().product()];
        self.normal_in(shape, &mut draws);
        draws
    }
}

/// Noise from a seeded generator whose state can be saved.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Seeded {
    rng: Xoshiro256PlusPlus,
}

impl Seeded {
    /// Noise that depends on the seed alone.
    pub fn new(seed: u64) -> Self {
        Self { rng: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }
}

impl Draws for Seeded {
    fn gumbel_in(&mut self, _: &[usize], out: &mut [f32]) {
        for pair in out.chunks_mut(2) {
            let bits = self.rng.next_u64();
            // 23 bits each, so that half a step more is exact, and strictly between 0 and 1.
            let uniform = |bits: u64| ((bits & 0x7f_ffff) as f32 + 0.5) / (1 << 23) as f32;
            pair[0] = uniform(bits >> 40);
            pair.iter_mut().skip(1).for_each(|x| *x = uniform(bits >> 16));
        }
        to_gumbel(out);
    }

    fn normal_in(&mut self, _: &[usize], out: &mut [f32]) {
        out.iter_mut().for_each(|x| *x = StandardNormal.sample(&mut self.rng));
    }
}

/// Uniform draws to standard Gumbel draws, in place.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn to_gumbel(uniform: &mut [f32]) {
    uniform.iter_mut().for_each(|u| *u = -ln(-ln(*u)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gumbel_draws_have_the_mean_and_deviation_of_a_standard_gumbel() {
        let draws = Seeded::new(3).gumbel(&[200_001]);
        let count = draws.len() as f64;
        let mean = draws.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
        let deviation = (draws.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count).sqrt();
        assert!((mean - 0.5772).abs() < 0.01 && (deviation - 1.2825).abs() < 0.01, "{mean} {deviation}");
        assert!(draws.iter().all(|x| x.is_finite()));
    }
}
