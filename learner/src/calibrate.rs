//! Frozen numbers of the feature adapters, from frames seen under random actions when a run is created: mean and scaled
//! principal components of the ViT's features. They are data, not trained: a run keeps them for good.

use actor::env::{Action, EnvError, make, sample_action};
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::array::Array;
use shared::config::Config;
use shared::params::Tree;
use shared::vit::{Features, round_features};

use crate::RunError;
use crate::principal::{SMALLEST_VARIANCE, components, moments};

/// Environments that calibration frames come from, so that they do not all belong to one episode.
const STREAMS: usize = 16;

/// Below `enc/features`: `<key>/mean` [F], and `<key>/components` [F, k] (or `<key>/scale` [F] if `vit.reduce` is 0).
pub fn statistics(config: &Config, features: &Features) -> Result<Tree, RunError> {
    let mut tree = Tree::new();
    for (key, frames) in frames(config)? {
        let [count, height, width, _] = frames.shape[..] else { continue };
        // As they are recorded, so that the deviations count what rounding adds.
        let encoded = round_features(&features.encode(&frames.bytes, count, height, width))?;
        let encoded: Vec<f32> = encoded.iter().map(|x| x.to_f32()).collect();
        let width = features.width();
        let (mean, covariance) = moments(&encoded, width);
        tree.insert(format!("{key}/mean"), to_array(&[width], mean.iter()));
        match config.vit.reduce {
            0 => {
                let scale = covariance.diagonal().map(|v| 1.0 / v.max(SMALLEST_VARIANCE).sqrt());
                tree.insert(format!("{key}/scale"), to_array(&[width], scale.iter()));
            }
            kept => {
                let components = components(covariance, kept.min(width));
                let shape = [width, components.ncols()];
                tree.insert(format!("{key}/components"), to_array(&shape, components.transpose().iter()));
            }
        }
    }
    Ok(tree)
}

/// Frames by image key, [count, H, W, 3], under uniformly random actions.
fn frames(config: &Config) -> Result<std::collections::BTreeMap<String, Array>, EnvError> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(config.run.seed);
    let mut frames = std::collections::BTreeMap::<String, Vec<Array>>::new();
    for stream in 0..STREAMS {
        let mut env = make(&config.env, config.run.seed.wrapping_add(stream as u64))?;
        let spaces = env.act_space();
        let mut reset = true;
        for _ in 0..config.vit.calibration.div_ceil(STREAMS) {
            let action = if reset { Action::reset() } else { Action::act(sample_action(&spaces, &mut rng)) };
            let step = env.step(&action)?;
            reset = step["is_last"].bytes[0] != 0;
            for (key, space) in env.obs_space().iter().filter(|(_, s)| s.is_image()) {
                debug_assert_eq!(step[key].shape, space.shape);
                frames.entry(key.clone()).or_default().push(step[key].clone());
            }
        }
    }
    let stack = |(key, frames): (String, Vec<Array>)| (key, Array::stack(&frames.iter().collect::<Vec<_>>()));
    Ok(frames.into_iter().map(stack).collect())
}

fn to_array<'a>(shape: &[usize], values: impl Iterator<Item = &'a f64>) -> Array {
    Array::f32(shape, &values.map(|&x| x as f32).collect::<Vec<_>>())
}
