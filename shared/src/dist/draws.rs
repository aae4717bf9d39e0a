//! Where randomness comes from.

use rand::SeedableRng;
use rand_distr::{Distribution, Gumbel, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A source of noise. Shapes are whole tensors' shapes.
pub trait Draws {
    /// Standard Gumbel noise.
    fn gumbel(&mut self, shape: &[usize]) -> Vec<f32>;
    /// Standard normal noise.
    fn normal(&mut self, shape: &[usize]) -> Vec<f32>;
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
    fn gumbel(&mut self, shape: &[usize]) -> Vec<f32> {
        let Ok(gumbel) = Gumbel::new(0.0f32, 1.0) else { unreachable!("a standard Gumbel is valid") };
        gumbel.sample_iter(&mut self.rng).take(shape.iter().product()).collect()
    }

    fn normal(&mut self, shape: &[usize]) -> Vec<f32> {
        Distribution::<f32>::sample_iter(StandardNormal, &mut self.rng).take(shape.iter().product()).collect()
    }
}
