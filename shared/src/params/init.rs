//! Initialisers. The random stream of each is derived from seed + path, so adding a layer changes no other.

use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;

/// How a new parameter is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zeros: biases, and heads with output scale 0.
    Zeros,
    /// All ones: scales of norms.
    Ones,
    /// Truncated normal on two deviations with variance 1/fan_in, times `outscale` (`trunc_normal_in` of the official code).
    TruncNormal {
        /// Inputs that one output sums over.
        fan_in: usize,
        /// Factor on top.
        outscale: f64,
    },
    /// Normal with this deviation: untrained weights of a Vision Transformer, used as a control.
    Normal {
        /// Standard deviation.
        std: f64,
    },
}

impl Init {
    /// Values for `count` elements of the parameter at `path`.
    pub fn values(&self, seed: u64, path: &str, count: usize) -> Vec<f32> {
        match *self {
            Init::Zeros => vec![0.0; count],
            Init::Ones => vec![1.0; count],
            Init::TruncNormal { fan_in, outscale } => {
                // A truncated unit normal on [-2, 2] has deviation 1 / 1.1368.
                let scale = 1.1368 * (1.0 / fan_in as f64).sqrt() * outscale;
                let truncated = |x: &f64| x.abs() <= 2.0;
                normals(seed, path).filter(truncated).take(count).map(|x| (x * scale) as f32).collect()
            }
            Init::Normal { std } => normals(seed, path).take(count).map(|x| (x * std) as f32).collect(),
        }
    }
}

fn normals(seed: u64, path: &str) -> impl Iterator<Item = f64> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(path.as_bytes());
    let rng = Xoshiro256PlusPlus::from_seed(*hasher.finalize().as_bytes());
    Distribution::<f64>::sample_iter(StandardNormal, rng)
}
