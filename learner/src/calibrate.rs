//! Frozen numbers of the feature adapters, from frames seen under random actions when a run is created: mean and scaled
//! principal components of the ViT's features. They are data, not trained: a run keeps them for good.

use actor::env::{Action, EnvError, make, sample_action};
use nalgebra::{DMatrix, DVector, SymmetricEigen};
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::array::Array;
use shared::config::Config;
use shared::params::Tree;
use shared::vit::Features;

/// Environments that calibration frames come from, so that they do not all belong to one episode.
const STREAMS: usize = 16;
/// Components with less variance than this are not blown up.
const SMALLEST_VARIANCE: f64 = 1e-6;

/// Below `enc/features`: `<key>/mean` [F], and `<key>/components` [F, k] (or `<key>/scale` [F] if `vit.reduce` is 0).
pub fn statistics(config: &Config, features: &Features) -> Result<Tree, EnvError> {
    let mut tree = Tree::new();
    for (key, frames) in frames(config)? {
        let [count, height, width, _] = frames.shape[..] else { continue };
        let encoded = features.encode(&frames.bytes, count, height, width);
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

/// Mean and covariance of rows of `width` numbers.
fn moments(rows: &[f32], width: usize) -> (DVector<f64>, DMatrix<f64>) {
    let count = (rows.len() / width) as f64;
    // Column-major with one row of data per column.
    let mut data = DMatrix::from_iterator(width, rows.len() / width, rows.iter().map(|&x| f64::from(x)));
    let mean = data.column_mean();
    data.column_iter_mut().for_each(|mut column| column -= &mean);
    let covariance = &data * data.transpose() / count;
    (mean, covariance)
}

/// The `kept` directions of largest variance, each divided by its deviation; [F, kept].
fn components(covariance: DMatrix<f64>, kept: usize) -> DMatrix<f64> {
    let eigen = SymmetricEigen::new(covariance);
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let column = |&i: &usize| {
        let vector = eigen.eigenvectors.column(i);
        // The sign of an eigenvector is arbitrary; fix it, so that equal frames give equal numbers.
        let sign = vector[vector.iamax()].signum();
        vector * (sign / eigen.eigenvalues[i].max(SMALLEST_VARIANCE).sqrt())
    };
    DMatrix::from_columns(&order.iter().take(kept).map(column).collect::<Vec<_>>())
}

fn to_array<'a>(shape: &[usize], values: impl Iterator<Item = &'a f64>) -> Array {
    Array::f32(shape, &values.map(|&x| x as f32).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_whiten_the_data() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        use rand::RngExt;
        let rows: Vec<f32> = (0..3000)
            .flat_map(|_| {
                let (a, b): (f32, f32) = (rng.random::<f32>() - 0.5, rng.random::<f32>() - 0.5);
                [3.0 * a + 7.0, a + 0.1 * b, 0.2 * b]
            })
            .collect();
        let (mean, covariance) = moments(&rows, 3);
        assert!((mean[0] - 7.0).abs() < 0.1);
        let w = components(covariance.clone(), 2);
        let white = w.transpose() * covariance * w;
        assert!((white - DMatrix::identity(2, 2)).abs().max() < 1e-6);
    }
}
