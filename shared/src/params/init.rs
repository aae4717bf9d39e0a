//! Initialisers. The random stream of each is derived from seed + path, so adding a layer changes no other.

use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal, Uniform};
use rand_xoshiro::Xoshiro256PlusPlus;

/// How a new parameter is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zeros: biases, and heads with output scale 0.
    Zeros,
    /// All ones: scales of norms.
    Ones,
    /// Drawn with a width that follows from the layer's fan, times `outscale`.
    Fan {
        /// How.
        dist: Dist,
        /// Inputs that one output sums over, outputs that one input goes to, or their mean.
        fan: f64,
        /// Factor on top.
        outscale: f64,
    },
    /// Normal with this deviation: untrained weights of a Vision Transformer, used as a control.
    Normal {
        /// Standard deviation.
        std: f64,
    },
}

/// Distributions of [`Init::Fan`] (official `nets.py`, Initializer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dist {
    /// Normal cut at two deviations, variance 1/fan.
    TruncNormal,
    /// Normal, variance 1/fan.
    Normal,
    /// Uniform up to 1/sqrt(fan) on both sides.
    Uniform,
}

impl Init {
    /// Values for `count` elements of the parameter at `path`.
    pub fn values(&self, seed: u64, path: &str, count: usize) -> Vec<f32> {
        let scaled = |draws: &mut dyn Iterator<Item = f64>, scale: f64| -> Vec<f32> {
            draws.take(count).map(|x| (x * scale) as f32).collect()
        };
        match *self {
            Init::Zeros => vec![0.0; count],
            Init::Ones => vec![1.0; count],
            Init::Fan { dist, fan, outscale } => {
                let width = (1.0 / fan).sqrt() * outscale;
                match dist {
                    // A truncated unit normal on [-2, 2] has deviation 1 / 1.1368.
                    Dist::TruncNormal => {
                        scaled(&mut normals(seed, path).filter(|x: &f64| x.abs() <= 2.0), 1.1368 * width)
                    }
                    Dist::Normal => scaled(&mut normals(seed, path), width),
                    Dist::Uniform => scaled(&mut uniforms(seed, path), width),
                }
            }
            Init::Normal { std } => scaled(&mut normals(seed, path), std),
        }
    }
}

fn stream(seed: u64, path: &str) -> Xoshiro256PlusPlus {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(path.as_bytes());
    Xoshiro256PlusPlus::from_seed(*hasher.finalize().as_bytes())
}

fn normals(seed: u64, path: &str) -> impl Iterator<Item = f64> {
    Distribution::<f64>::sample_iter(StandardNormal, stream(seed, path))
}

/// From -1 to 1.
fn uniforms(seed: u64, path: &str) -> impl Iterator<Item = f64> {
    let Ok(uniform) = Uniform::new_inclusive(-1.0, 1.0) else { unreachable!("-1 to 1 is a valid range") };
    uniform.sample_iter(stream(seed, path))
}
