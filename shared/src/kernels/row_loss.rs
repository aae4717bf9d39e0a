//! Losses that know their own gradient.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::plain::plain;
use super::record::{read, record};

/// A number per row, and their sum. Only the sum has a gradient.
pub struct RowLoss {
    /// [N].
    pub values: Vec<f32>,
    /// Scalar.
    pub sum: Tensor,
}

impl RowLoss {
    /// Of a tensor that holds a number per row [N], with candle's gradient.
    pub fn of(values: &Tensor) -> Result<Self> {
        Ok(Self { values: read(values, <[f32]>::to_vec)?, sum: values.sum_all()? })
    }
}

/// A number per row of x [N, C], with its gradient: `f(n, row, gradient)` returns the value of row n and adds the gradient with
/// respect to that row. x may have any leading axes with N elements in all.
pub fn row_loss(x: &Tensor, columns: usize, f: impl Fn(usize, &[f32], &mut [f32]) -> f32 + Sync) -> Result<RowLoss> {
    let rows = x.elem_count() / columns;
    let mut values = vec![0.0; rows];
    let mut jacobian = vec![0.0; rows * columns];
    read(x, |x| {
        let parts = values.par_iter_mut().zip(jacobian.par_chunks_exact_mut(columns)).zip(x.par_chunks_exact(columns));
        parts.with_min_len(64).enumerate().for_each(|(n, ((value, gradient), row))| *value = f(n, row, gradient));
    })?;
    if plain(x) {
        // Its value is exactly 0, and its gradient the one that was computed.
        let slope =
            (x.reshape((rows, columns))? * Tensor::from_vec(jacobian, (rows, columns), x.device())?)?.sum_all()?;
        let sum = (&slope - slope.detach())? + f64::from(values.iter().sum::<f32>());
        return Ok(RowLoss { values, sum: sum? });
    }
    let backward = move |d: &[f32]| Ok(vec![Some(jacobian.iter().map(|g| g * d[0]).collect())]);
    let sum = record(&[Some(x.clone())], vec![values.iter().sum()], (), Box::new(backward))?;
    Ok(RowLoss { values, sum })
}
