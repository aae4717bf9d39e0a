//! Principal components of rows of numbers.

use nalgebra::{DMatrix, DVector, SymmetricEigen};

/// Components with less variance than this are not blown up.
pub const SMALLEST_VARIANCE: f64 = 1e-6;

/// Mean and covariance of rows of `width` numbers.
pub fn moments(rows: &[f32], width: usize) -> (DVector<f64>, DMatrix<f64>) {
    let count = (rows.len() / width) as f64;
    // Column-major with one row of data per column.
    let mut data = DMatrix::from_iterator(width, rows.len() / width, rows.iter().map(|&x| f64::from(x)));
    let mean = data.column_mean();
    data.column_iter_mut().for_each(|mut column| column -= &mean);
    let covariance = &data * data.transpose() / count;
    (mean, covariance)
}

/// The `kept` directions of largest variance, each divided by its deviation; [F, kept].
pub fn components(covariance: DMatrix<f64>, kept: usize) -> DMatrix<f64> {
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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

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
