//! Convolution of NHWC images, stride 1, SAME padding, by unfolding one image at a time.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::linear::column_sums;
use super::math::{Strides, matmul};
use super::record::{leaf, read, record, with_weight};
use crate::params::Weight;

/// x [N, H, W, in], `kernel` [k, k, in, out] with odd k, `bias` [out] -> [N, H, W, out] (cross-correlation).
pub fn conv2d(x: &Tensor, kernel: &Weight, bias: &Weight) -> Result<Tensor> {
    let (n, h, w, inputs) = x.dims4()?;
    let [k, k2, kernel_in, outputs] = *kernel.shape() else { candle_core::bail!("conv2d: kernel must have four axes") };
    if k != k2 || k % 2 == 0 || kernel_in != inputs {
        candle_core::bail!("conv2d: kernel {:?} does not fit images {:?}", kernel.shape(), x.dims());
    }
    let shape = Unfold { h, w, c: inputs, k };
    let columns = shape.columns();
    let (su, sw, sy) = (Strides::row_major(columns), Strides::row_major(outputs), Strides::row_major(outputs));
    let mut y = with_weight(bias, |b| b.repeat(n * h * w))?;
    read(x, |x| {
        with_weight(kernel, |kernel| {
            let images = y.par_chunks_exact_mut(h * w * outputs).zip(x.par_chunks_exact(h * w * inputs));
            images.for_each_init(
                || vec![0.0; h * w * columns],
                |patches, (y, x)| {
                    shape.unfold(x, patches);
                    matmul([h * w, columns, outputs], (patches, su), (kernel, sw), (y, sy), true);
                },
            );
        })
    })??;
    let (input, weight) = (x.clone(), kernel.clone());
    let backward = move |dy: &[f32]| {
        let dw = read(&input, |x| weight_gradient(x, dy, shape, outputs))?;
        let dx = match input.track_op() {
            true => Some(with_weight(&weight, |w| input_gradient(w, dy, shape, outputs))?),
            false => None,
        };
        Ok(vec![dx, Some(dw), Some(column_sums(dy, outputs))])
    };
    record(&[Some(x.clone()), leaf(kernel), leaf(bias)], y, (n, h, w, outputs), Box::new(backward))
}

fn weight_gradient(x: &[f32], dy: &[f32], shape: Unfold, outputs: usize) -> Vec<f32> {
    let (pixels, columns) = (shape.h * shape.w, shape.columns());
    let (su, sy) = (Strides::row_major(columns), Strides::row_major(outputs));
    let zero = || (vec![0.0; columns * outputs], vec![0.0; pixels * columns]);
    let images = x.par_chunks_exact(pixels * shape.c).zip(dy.par_chunks_exact(pixels * outputs)).with_min_len(8);
    let add = |(mut dw, mut patches): (Vec<f32>, Vec<f32>), (x, dy): (&[f32], &[f32])| {
        shape.unfold(x, &mut patches);
        matmul([columns, pixels, outputs], (&patches, su.transposed()), (dy, sy), (&mut dw, sy), true);
        (dw, patches)
    };
    let parts: Vec<Vec<f32>> = images.fold(zero, add).map(|(dw, _)| dw).collect();
    let mut total = vec![0.0; columns * outputs];
    parts.iter().for_each(|part| total.iter_mut().zip(part).for_each(|(t, p)| *t += p));
    total
}

fn input_gradient(kernel: &[f32], dy: &[f32], shape: Unfold, outputs: usize) -> Vec<f32> {
    let (pixels, columns) = (shape.h * shape.w, shape.columns());
    let (su, sy) = (Strides::row_major(columns), Strides::row_major(outputs));
    let mut dx = vec![0.0; dy.len() / outputs * shape.c];
    let images = dx.par_chunks_exact_mut(pixels * shape.c).zip(dy.par_chunks_exact(pixels * outputs));
    images.for_each_init(
        || vec![0.0; pixels * columns],
        |patches, (dx, dy)| {
            matmul([pixels, outputs, columns], (dy, sy), (kernel, sy.transposed()), (patches, su), false);
            shape.fold(patches, dx);
        },
    );
    dx
}

/// How the patches around each pixel of an image [h, w, c] lie in a matrix [h * w, k * k * c].
#[derive(Clone, Copy)]
struct Unfold {
    h: usize,
    w: usize,
    c: usize,
    k: usize,
}

impl Unfold {
    fn columns(self) -> usize {
        self.k * self.k * self.c
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
        let Self { h, w, c, k } = self;
        let pad = k / 2;
        for (row, col) in (0..h).flat_map(|row| (0..w).map(move |col| (row, col))) {
            let base = (row * w + col) * self.columns();
            let (from, to) = (col.saturating_sub(pad), (col + k - pad).min(w));
            for i in 0..k {
                if let Some(source) = (row + i).checked_sub(pad).filter(|&r| r < h) {
                    let pixels = (source * w + from) * c..(source * w + to) * c;
                    f(pixels, base + (i * k + from + pad - col) * c);
                }
            }
        }
    }
}
