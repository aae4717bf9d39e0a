//! Losses that know their own gradient.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::record::{read, record};

/// A number per row of x [N, C], with its gradient: `f(n, row, gradient)` returns the value of row n and fills the
/// gradient with respect to that row. Returns [N]; x may have any leading axes with N elements in all.
pub fn row_loss(x: &Tensor, columns: usize, f: impl Fn(usize, &[f32], &mut [f32]) -> f32 + Sync) -> Result<Tensor> {
    let rows = x.elem_count() / columns;
    let mut values = vec![0.0; rows];
    let mut jacobian = vec![0.0; rows * columns];
    read(x, |x| {
        let parts = values.par_iter_mut().zip(jacobian.par_chunks_exact_mut(columns)).zip(x.par_chunks_exact(columns));
        parts.with_min_len(64).enumerate().for_each(|(n, ((value, gradient), row))| *value = f(n, row, gradient));
    })?;
    let backward = move |dy: &[f32]| {
        let scaled = jacobian.chunks_exact(columns).zip(dy).flat_map(|(row, d)| row.iter().map(move |g| g * d));
        Ok(vec![Some(scaled.collect())])
    };
    record(&[Some(x.clone())], values, rows, Box::new(backward))
}
