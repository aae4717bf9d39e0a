//! An MLP with a linear map at its end, evaluated for a loss on its outputs.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{Linear, Mlp};
use crate::kernels::stack::Pass;
use crate::kernels::{RowLoss, no_grad, plain, read, row_loss};

/// Outputs [N, C] of a network from which a loss is computed.
pub enum Outputs {
    /// With the fused kernel, which knows RMS norm and SiLU.
    Fused(Pass),
    /// As part of candle's graph.
    Plain(Tensor),
}

impl Outputs {
    /// Of features [N, F].
    pub fn of(mlp: &Mlp, last: &Linear, features: &Tensor) -> Result<Self> {
        Ok(match mlp.stack()? {
            Some(stack) => Self::Fused(stack.then(last.dense()?).pass(features)?),
            None => Self::Plain(last.forward(&mlp.forward(features)?)?),
        })
    }

    /// `f(outputs)` for each row of features [N, F], without gradient.
    pub fn evaluate(mlp: &Mlp, last: &Linear, features: &Tensor, f: impl Fn(&[f32]) -> f32 + Sync) -> Result<Vec<f32>> {
        let width = features.dim(1)?;
        match mlp.stack()? {
            Some(stack) => {
                let stack = stack.then(last.dense()?);
                read(features, |x| stack.map_rows(x, width, f))
            }
            None => no_grad(|| Self::of(mlp, last, &features.detach())?.map_rows(|_, row| f(row))),
        }
    }

    /// The outputs as a tensor, if a loss is to be computed by tensor operations.
    pub fn plain(&self) -> Option<&Tensor> {
        match self {
            Self::Plain(raw) if plain(raw) => Some(raw),
            _ => None,
        }
    }

    /// `f(n, row n)` for every row.
    pub fn map_rows<R: Send + Clone + Default>(&self, f: impl Fn(usize, &[f32]) -> R + Sync) -> Result<Vec<R>> {
        match self {
            Self::Fused(pass) => Ok(pass.map_rows(f)),
            Self::Plain(raw) => {
                let columns = raw.dim(1)?;
                read(raw, |x| {
                    x.par_chunks_exact(columns).with_min_len(64).enumerate().map(|(n, row)| f(n, row)).collect()
                })
            }
        }
    }

    /// A number per row: `f(n, row, gradient)` returns the value of row n and adds the gradient with respect to that row.
    pub fn loss(&self, f: impl Fn(usize, &[f32], &mut [f32]) -> f32 + Sync) -> Result<RowLoss> {
        match self {
            Self::Fused(pass) => pass.loss(f),
            Self::Plain(raw) => row_loss(raw, raw.dim(1)?, f),
        }
    }
}
