//! Convolution of NHWC images, SAME padding, by unfolding one image at a time.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::linear::column_sums;
use super::math::{Strides, matmul};
use super::precision::Precision;
use super::record::{leaf, read, record};
use crate::params::Weight;

/// Images whose weight gradients are summed by one thread.
const PART: usize = 32;

/// x [N, H, W, in], `kernel` [k, k, in, out] with odd k, `bias` [out] -> [N, H', W', out] (cross-correlation). Sides are
/// divided by `stride`, rounded up; where padding is odd, the larger part comes after the image.
pub fn conv2d(x: &Tensor, kernel: &Weight, bias: &Weight, stride: usize, precision: Precision) -> Result<Tensor> {
    let (n, h, w, inputs) = x.dims4()?;
    let [k, k2, kernel_in, outputs] = *kernel.shape() else { candle_core::bail!("conv2d: kernel must have four axes") };
    if k != k2 || k % 2 == 0 || kernel_in != inputs {
        candle_core::bail!("conv2d: kernel {:?} does not fit images {:?}", kernel.shape(), x.dims());
    }
    let shape = Unfold { h, w, c: inputs, k, stride };
    let (columns, pixels) = (shape.columns(), shape.pixels());
    let (su, sw, sy) = (Strides::row_major(columns), Strides::row_major(outputs), Strides::row_major(outputs));
    let mut y = precision.with_weight(bias, |b| b.repeat(n * pixels))?;
    read(x, |x| {
        precision.with_weight(kernel, |kernel| {
            let images = y.par_chunks_exact_mut(pixels * outputs).zip(x.par_chunks_exact(h * w * inputs));
            images.for_each_init(
                || vec![0.0; pixels * columns],
                |patches, (y, x)| {
                    shape.unfold(x, patches);
                    matmul([pixels, columns, outputs], (patches, su), (kernel, sw), (y, sy), true);
                },
            );
        })
    })??;
    precision.round(&mut y);
    let (input, weight) = (x.clone(), kernel.clone());
    let backward = move |dy: &[f32]| {
        let dw = read(&input, |x| weight_gradient(x, dy, shape, outputs))?;
        let dx = match input.track_op() {
            true => Some(precision.with_weight(&weight, |w| input_gradient(w, dy, shape, outputs))?),
            false => None,
        };
        Ok(vec![dx, Some(dw), Some(column_sums(dy, outputs))])
    };
    record(
        &[Some(x.clone()), leaf(kernel), leaf(bias)],
        y,
        (n, h.div_ceil(stride), w.div_ceil(stride), outputs),
        Box::new(backward),
    )
}

fn weight_gradient(x: &[f32], dy: &[f32], shape: Unfold, outputs: usize) -> Vec<f32> {
    let (pixels, columns) = (shape.pixels(), shape.columns());
    let (su, sy) = (Strides::row_major(columns), Strides::row_major(outputs));
    // Parts of a fixed number of images: the sum must not depend on how threads share the work.
    let image = shape.h * shape.w * shape.c;
    let parts = x.par_chunks(PART * image).zip(dy.par_chunks(PART * pixels * outputs));
    let sum = |(x, dy): (&[f32], &[f32])| {
        let (mut dw, mut patches) = (vec![0.0; columns * outputs], vec![0.0; pixels * columns]);
        for (x, dy) in x.chunks_exact(image).zip(dy.chunks_exact(pixels * outputs)) {
            shape.unfold(x, &mut patches);
            matmul([columns, pixels, outputs], (&patches, su.transposed()), (dy, sy), (&mut dw, sy), true);
        }
        dw
    };
    let parts: Vec<Vec<f32>> = parts.map(sum).collect();
    let mut total = vec![0.0; columns * outputs];
    parts.iter().for_each(|part| total.iter_mut().zip(part).for_each(|(t, p)| *t += p));
    total
}

fn input_gradient(kernel: &[f32], dy: &[f32], shape: Unfold, outputs: usize) -> Vec<f32> {
    let (pixels, columns) = (shape.pixels(), shape.columns());
    let (su, sy) = (Strides::row_major(columns), Strides::row_major(outputs));
    let size = shape.h * shape.w * shape.c;
    let mut dx = vec![0.0; dy.len() / (pixels * outputs) * size];
    let images = dx.par_chunks_exact_mut(size).zip(dy.par_chunks_exact(pixels * outputs));
    images.for_each_init(
        || vec![0.0; pixels * columns],
        |patches, (dx, dy)| {
            matmul([pixels, outputs, columns], (dy, sy), (kernel, sy.transposed()), (patches, su), false);
            shape.fold(patches, dx);
        },
    );
    dx
}

/// How the patches of an image [h, w, c] lie in a matrix [pixels, k * k * c].
#[derive(Clone, Copy)]
struct Unfold {
    h: usize,
    w: usize,
    c: usize,
    k: usize,
    stride: usize,
}

impl Unfold {
    fn columns(self) -> usize {
        self.k * self.k * self.c
    }

    /// Pixels of the result.
    fn pixels(self) -> usize {
        self.h.div_ceil(self.stride) * self.w.div_ceil(self.stride)
    }

    /// Zeros before a side of this length.
    fn padding(self, side: usize) -> usize {
        let covered = (side.div_ceil(self.stride) - 1) * self.stride + self.k;
        covered.saturating_sub(side) / 2
    }

    fn unfold(self, image: &[f32], patches: &mut [f32]) {
        patches.fill(0.0);
        self.each_run(|pixels, columns| {
            let len = pixels.len();
            patches[columns..columns + len].copy_from_slice(&image[pixels]);
        });
    }

    fn fold(self, patches: &[f32], image: &mut [f32]) {
        self.each_run(|pixels, columns| {
            let source = &patches[columns..columns + pixels.len()];
            image[pixels].iter_mut().zip(source).for_each(|(i, p)| *i += p);
        });
    }

    /// Calls `f(run of the image, start in the matrix)` for every run of neighbouring pixels inside the image.
    fn each_run(self, mut f: impl FnMut(std::ops::Range<usize>, usize)) {
        let Self { h, w, c, k, stride } = self;
        let (above, before) = (self.padding(h), self.padding(w));
        let wide = w.div_ceil(stride);
        for pixel in 0..self.pixels() {
            let (row, col) = (pixel / wide * stride, pixel % wide * stride);
            let base = pixel * self.columns();
            let (from, to) = (col.saturating_sub(before), (col + k - before).min(w));
            for i in 0..k {
                if let Some(source) = (row + i).checked_sub(above).filter(|&r| r < h) {
                    let run = (source * w + from) * c..(source * w + to) * c;
                    f(run, base + (i * k + from + before - col) * c);
                }
            }
        }
    }
}
