//! A linear map that is block-diagonal: each block of the input feeds its own block of the output.

use candle_core::{Result, Tensor};

use super::linear::column_sums;
use super::math::{Strides, matmul};
use super::plain::{self, plain};
use super::precision::Precision;
use super::record::{leaf, read, record};
use crate::params::Weight;

/// x [N, in], `kernel` [g, in/g, out/g], `bias` [out] -> [N, out]; outputs are block-major (Linear layers of the RSSM core).
pub fn block_linear(x: &Tensor, kernel: &Weight, bias: &Weight, precision: Precision) -> Result<Tensor> {
    let [blocks, inputs, outputs] = *kernel.shape() else {
        candle_core::bail!("block_linear: kernel must have three axes")
    };
    let (rows, width) = x.dims2()?;
    if width != blocks * inputs {
        candle_core::bail!("block_linear: input {:?} is not {blocks} blocks of {inputs}", x.dims());
    }
    if plain(x) {
        return plain::block_linear(x, kernel, bias);
    }
    let (sx, sw, sy) =
        (Strides::row_major(blocks * inputs), Strides::row_major(outputs), Strides::row_major(blocks * outputs));
    let mut y = precision.with_weight(bias, |b| b.repeat(rows))?;
    read(x, |x| {
        precision.with_weight(kernel, |w| {
            for g in 0..blocks {
                let block = &w[g * inputs * outputs..];
                matmul([rows, inputs, outputs], (&x[g * inputs..], sx), (block, sw), (&mut y[g * outputs..], sy), true);
            }
        })
    })??;
    precision.round(&mut y);
    let (input, weight) = (x.clone(), kernel.clone());
    let backward = move |dy: &[f32]| {
        let mut dx = vec![0.0; rows * blocks * inputs];
        let mut dw = vec![0.0; blocks * inputs * outputs];
        precision.with_weight(&weight, |w| {
            read(&input, |x| {
                for g in 0..blocks {
                    let (block, dy) = (&w[g * inputs * outputs..], &dy[g * outputs..]);
                    let dx = (&mut dx[g * inputs..], sx);
                    matmul([rows, outputs, inputs], (dy, sy), (block, sw.transposed()), dx, false);
                    let dw = (&mut dw[g * inputs * outputs..], sw);
                    matmul([inputs, rows, outputs], (&x[g * inputs..], sx.transposed()), (dy, sy), dw, false);
                }
            })
        })??;
        Ok(vec![Some(dx), Some(dw), Some(column_sums(dy, blocks * outputs))])
    };
    record(&[Some(x.clone()), leaf(kernel), leaf(bias)], y, (rows, blocks * outputs), Box::new(backward))
}
