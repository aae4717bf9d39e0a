//! Frozen numbers of the feature adapters, from frames seen under random actions when a run is created: mean and scaled
//! principal components of the ViT's features. They are data, not trained: a run keeps them for good.
//!
//! Where blocks of the ViT train, the adapter's numbers are those of the pretrained features, which it starts with, and what the
//! decoder predicts has numbers of its own: those of the frozen blocks' pooled output.

use actor::env::{Action, EnvError, make, sample_action};
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::array::Array;
use shared::config::Config;
use shared::params::{ParamError, Tree};
use shared::vit::{Features, TARGET, Tail, round_features};

use crate::RunError;
use crate::principal::{SMALLEST_VARIANCE, components, moments};

/// Environments that calibration frames come from, so that they do not all belong to one episode.
const STREAMS: usize = 16;

/// Below `enc/features`: `<key>/mean` [F], and `<key>/components` [F, k] (or `<key>/scale` [F] if `vit.reduce` is 0).
/// Where blocks train, the same below `<key>/target` for what the decoder predicts. `tail`: these blocks before they do.
pub fn statistics(config: &Config, features: &Features, tail: Option<&Tail>) -> Result<Tree, RunError> {
    let mut tree = Tree::new();
    for (key, frames) in frames(config)? {
        let [count, height, width, _] = frames.shape[..] else { continue };
        // As they are recorded, so that the deviations count what rounding adds.
        let encoded = round_features(&features.encode(&frames.bytes, count, height, width))?;
        let encoded: Vec<f32> = encoded.iter().map(|x| x.to_f32()).collect();
        let (width, reduce) = (features.width(), config.vit.reduce);
        match tail {
            None => insert(&mut tree, &key, &encoded, width, reduce),
            Some(tail) => {
                let recorded = format!("vit/{key}");
                insert(&mut tree, &key, &tail.values(&recorded, &encoded).map_err(ParamError::from)?, width, reduce);
                let target = tail.spec().pooled(&recorded, &encoded).map_err(ParamError::from)?;
                insert(&mut tree, &format!("{key}/{TARGET}"), &target, width, reduce);
            }
        }
    }
    Ok(tree)
}

/// Mean and components, or scale, of rows of `width` numbers.
fn insert(tree: &mut Tree, key: &str, rows: &[f32], width: usize, reduce: usize) {
    let (mean, covariance) = moments(rows, width);
    tree.insert(format!("{key}/mean"), to_array(&[width], mean.iter()));
    match reduce {
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
