//! Linear maps, RMS norms and SiLUs one after another, forward only: for what needs no gradient, in blocks of rows that stay in
//! cache, each block on one thread from end to end.

use candle_core::Result;
use rayon::prelude::*;

use super::matmul::{Matrix, matmul};
use super::record::with_weight;
use super::rms_silu::rms_silu_rows;
use crate::params::Weight;

/// Rows that one thread takes through a stack at a time.
pub const BLOCK: usize = 256;

/// A linear map, with RMS norm and SiLU after it or without.
#[derive(Clone, Debug)]
pub struct Dense {
    kernel: Vec<f32>,
    bias: Vec<f32>,
    norm: Option<(Vec<f32>, f32)>,
}

impl Dense {
    /// Copies `kernel` [inputs, outputs], `bias` [outputs], and `norm`: scale [outputs] and epsilon.
    pub fn new(kernel: &Weight, bias: &Weight, norm: Option<(&Weight, f32)>) -> Result<Self> {
        let copy = |weight: &Weight| with_weight(weight, <[f32]>::to_vec);
        let norm = norm.map(|(scale, eps)| Ok::<_, candle_core::Error>((copy(scale)?, eps))).transpose()?;
        Ok(Self { kernel: copy(kernel)?, bias: copy(bias)?, norm })
    }

    /// Numbers per row that come out.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// `rows` rows of `x`, `stride` numbers apart, to `out` [rows, outputs].
    pub fn forward(&self, (x, stride): (&[f32], usize), rows: usize, out: &mut Vec<f32>) {
        let (width, inputs) = (self.outputs(), self.kernel.len() / self.outputs());
        out.clear();
        (0..rows).for_each(|_| out.extend_from_slice(&self.bias));
        let kernel = Matrix::new(&self.kernel, inputs, width, width);
        matmul(Matrix::new(x, rows, inputs, stride), kernel, out, width, true, 1);
        if let Some((scale, eps)) = &self.norm {
            rms_silu_rows(out, scale, *eps);
        }
    }
}

/// Several [`Dense`] layers.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    layers: Vec<Dense>,
}

/// Buffers of a [`Stack`], to be used again.
#[derive(Default)]
pub struct StackScratch {
    now: Vec<f32>,
    next: Vec<f32>,
}

impl Stack {
    /// These layers in their order.
    pub fn new(layers: Vec<Dense>) -> Self {
        Self { layers }
    }

    /// With one more layer at its end.
    pub fn then(mut self, layer: Dense) -> Self {
        self.layers.push(layer);
        self
    }

    /// `rows` rows of `x`, `stride` numbers apart; returns [rows, outputs].
    pub fn forward<'a>(&self, x: (&[f32], usize), rows: usize, scratch: &'a mut StackScratch) -> &'a [f32] {
        let StackScratch { now, next } = scratch;
        for (i, layer) in self.layers.iter().enumerate() {
            match i {
                0 => layer.forward(x, rows, next),
                _ => layer.forward((now, now.len() / rows), rows, next),
            }
            std::mem::swap(now, next);
        }
        now
    }

    /// `f(row of the result)` for every row of x [N, stride], in blocks over all threads.
    pub fn map_rows<R: Send>(&self, x: &[f32], stride: usize, f: impl Fn(&[f32]) -> R + Sync) -> Vec<R> {
        let block = |x: &[f32]| -> Vec<R> {
            let rows = x.len() / stride;
            let mut scratch = StackScratch::default();
            let out = self.forward((x, stride), rows, &mut scratch);
            out.chunks_exact(out.len() / rows).map(&f).collect()
        };
        let blocks: Vec<Vec<R>> = x.par_chunks(BLOCK * stride).map(block).collect();
        blocks.into_iter().flatten().collect()
    }
}
