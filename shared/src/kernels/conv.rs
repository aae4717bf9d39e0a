//! Convolution of NHWC images, SAME padding: 16 images at a time where the processor has registers for it, else by unfolding one
//! image at a time.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::conv_lanes;
use super::linear::column_sums;
use super::math::{Strides, matmul};
use super::plain::{self, plain};
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
    if plain(x) {
        return plain::conv2d(x, kernel, bias, stride, [h, w].map(|side| shape.paddings(side)));
    }
    let mut y = precision.with_weight(bias, |bias| {
        precision.with_weight(kernel, |kernel| read(x, |x| shape.method(n).forward(x, kernel, bias)))
    })???;
    precision.round(&mut y);
    let (input, weight) = (x.clone(), kernel.clone());
    let backward = move |dy: &[f32]| {
        let method = shape.method(n);
        let (dw, db) = read(&input, |x| method.weight_gradients(x, dy, outputs))?;
        let dx = match input.track_op() {
            true => Some(precision.with_weight(&weight, |w| method.input_gradient(w, dy, outputs))?),
            false => None,
        };
        Ok(vec![dx, Some(dw), Some(db)])
    };
    record(
        &[Some(x.clone()), leaf(kernel), leaf(bias)],
        y,
        (n, h.div_ceil(stride), w.div_ceil(stride), outputs),
        Box::new(backward),
    )
}

/// How a convolution is computed.
enum Method {
    /// By matrix products with unfolded images.
    Unfolded(Unfold),
    /// 16 images at a time.
    #[cfg(target_arch = "x86_64")]
    Lanes(Unfold),
}

impl Method {
    /// [N, H', W', out] of x [N, H, W, in].
    fn forward(&self, x: &[f32], kernel: &[f32], bias: &[f32]) -> Vec<f32> {
        match self {
            Method::Unfolded(shape) => shape.forward(x, kernel, bias),
            #[cfg(target_arch = "x86_64")]
            Method::Lanes(shape) => shape.by_groups(x, kernel, Some(bias), bias.len()),
        }
    }

    /// Of kernel and bias, from the gradient of the result.
    fn weight_gradients(&self, x: &[f32], dy: &[f32], outputs: usize) -> (Vec<f32>, Vec<f32>) {
        match self {
            Method::Unfolded(shape) => shape.weight_gradients(x, dy, outputs, Unfold::add_weight_gradient),
            #[cfg(target_arch = "x86_64")]
            Method::Lanes(shape) => shape.weight_gradients(x, dy, outputs, Unfold::add_weight_gradient_by_groups),
        }
    }

    /// Of the images, from that of the result.
    fn input_gradient(&self, kernel: &[f32], dy: &[f32], outputs: usize) -> Vec<f32> {
        match self {
            Method::Unfolded(shape) => shape.input_gradient(kernel, dy, outputs),
            #[cfg(target_arch = "x86_64")]
            Method::Lanes(shape) => {
                let turned = conv_lanes::turned(kernel, shape.k, shape.c, outputs);
                Unfold { c: outputs, ..*shape }.by_groups(dy, &turned, None, shape.c)
            }
        }
    }
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
    fn method(self, images: usize) -> Method {
        #[cfg(not(target_arch = "x86_64"))]
        let _ = images;
        #[cfg(target_arch = "x86_64")]
        if self.stride == 1 && conv_lanes::suits(images) {
            return Method::Lanes(self);
        }
        Method::Unfolded(self)
    }

    fn forward(self, x: &[f32], kernel: &[f32], bias: &[f32]) -> Vec<f32> {
        let (columns, pixels, outputs) = (self.columns(), self.pixels(), bias.len());
        let (su, sw) = (Strides::row_major(columns), Strides::row_major(outputs));
        let mut y = bias.repeat(x.len() / self.size() * pixels);
        let images = y.par_chunks_exact_mut(pixels * outputs).zip(x.par_chunks_exact(self.size()));
        images.for_each_init(
            || vec![0.0; pixels * columns],
            |patches, (y, x)| {
                self.unfold(x, patches);
                matmul([pixels, columns, outputs], (patches, su), (kernel, sw), (y, sw), true);
            },
        );
        y
    }

    /// Gradients of kernel and bias; `add(x, dy, dw)` adds to the kernel's what some images give.
    fn weight_gradients(
        self,
        x: &[f32],
        dy: &[f32],
        outputs: usize,
        add: fn(Unfold, &[f32], &[f32], &mut [f32]),
    ) -> (Vec<f32>, Vec<f32>) {
        // Parts of a fixed number of images: the sum must not depend on how threads share the work.
        let parts = x.par_chunks(PART * self.size()).zip(dy.par_chunks(PART * self.pixels() * outputs));
        let sum = |(x, dy): (&[f32], &[f32])| {
            let mut dw = vec![0.0; self.columns() * outputs];
            add(self, x, dy, &mut dw);
            (dw, column_sums(dy, outputs))
        };
        let parts: Vec<(Vec<f32>, Vec<f32>)> = parts.map(sum).collect();
        let mut total = (vec![0.0; self.columns() * outputs], vec![0.0; outputs]);
        for (dw, db) in parts {
            total.0.iter_mut().zip(dw).for_each(|(t, p)| *t += p);
            total.1.iter_mut().zip(db).for_each(|(t, p)| *t += p);
        }
        total
    }

    fn add_weight_gradient(self, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        let (pixels, columns) = (self.pixels(), self.columns());
        let outputs = dw.len() / columns;
        let (su, sy) = (Strides::row_major(columns), Strides::row_major(outputs));
        let mut patches = vec![0.0; pixels * columns];
        for (x, dy) in x.chunks_exact(self.size()).zip(dy.chunks_exact(pixels * outputs)) {
            self.unfold(x, &mut patches);
            matmul([columns, pixels, outputs], (&patches, su.transposed()), (dy, sy), (dw, sy), true);
        }
    }

    fn input_gradient(self, kernel: &[f32], dy: &[f32], outputs: usize) -> Vec<f32> {
        let (pixels, columns) = (self.pixels(), self.columns());
        let (su, sy) = (Strides::row_major(columns), Strides::row_major(outputs));
        let mut dx = vec![0.0; dy.len() / (pixels * outputs) * self.size()];
        let images = dx.par_chunks_exact_mut(self.size()).zip(dy.par_chunks_exact(pixels * outputs));
        images.for_each_init(
            || vec![0.0; pixels * columns],
            |patches, (dx, dy)| {
                matmul([pixels, outputs, columns], (dy, sy), (kernel, sy.transposed()), (patches, su), false);
                self.fold(patches, dx);
            },
        );
        dx
    }

    /// A convolution of images [N, H, W, C] that keeps their sides, 16 images at a time.
    #[cfg(target_arch = "x86_64")]
    fn by_groups(self, x: &[f32], kernel: &[f32], bias: Option<&[f32]>, outputs: usize) -> Vec<f32> {
        use conv_lanes::{Images, LANES, convolve};
        let result = self.h * self.w * outputs;
        let mut y = vec![0.0; x.len() / self.size() * result];
        let buffers = || {
            let x = Images::new([self.h, self.w, self.c], self.k / 2);
            (x, Images::new([self.h, self.w, outputs], 0))
        };
        let groups = y.par_chunks_mut(LANES * result).zip(x.par_chunks(LANES * self.size()));
        groups.for_each_init(buffers, |(images, out), (y, x)| {
            images.load(x);
            convolve(images, kernel, bias, out);
            out.store(y);
        });
        y
    }

    #[cfg(target_arch = "x86_64")]
    fn add_weight_gradient_by_groups(self, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        use conv_lanes::{Images, KernelGradient, LANES};
        let outputs = dw.len() / self.columns();
        let mut gradient = KernelGradient::new(self.k, self.c, outputs);
        let mut images = Images::new([self.h, self.w, self.c], self.k / 2);
        let mut d = Images::new([self.h, self.w, outputs], 0);
        let groups = x.chunks(LANES * self.size()).zip(dy.chunks(LANES * self.pixels() * outputs));
        for (x, dy) in groups {
            images.load(x);
            d.load(dy);
            gradient.add(&images, &d);
        }
        gradient.finish(dw);
    }

    /// Numbers of an image.
    fn size(self) -> usize {
        self.h * self.w * self.c
    }

    fn columns(self) -> usize {
        self.k * self.k * self.c
    }

    /// Pixels of the result.
    fn pixels(self) -> usize {
        self.h.div_ceil(self.stride) * self.w.div_ceil(self.stride)
    }

    /// Zeros before and after a side of this length.
    fn paddings(self, side: usize) -> [usize; 2] {
        let covered = (side.div_ceil(self.stride) - 1) * self.stride + self.k;
        let all = covered.saturating_sub(side);
        [all / 2, all - all / 2]
    }

    /// Zeros before a side of this length.
    fn padding(self, side: usize) -> usize {
        self.paddings(side)[0]
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

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::numbers as noise;

    fn close(a: &[f32], b: &[f32]) -> bool {
        let size = b.iter().fold(1.0, |m: f32, x| m.max(x.abs()));
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * size)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn sixteen_images_at_a_time_give_what_one_at_a_time_gives(
            (n, h, w) in (1usize..40, 1usize..9, 1usize..9), (c, outputs, half) in (1usize..7, 1usize..10, 0usize..3),
        ) {
            if !conv_lanes::available() {
                return Ok(());
            }
            let shape = Unfold { h, w, c, k: 2 * half + 1, stride: 1 };
            let (x, kernel) = (noise(n * shape.size(), 1), noise(shape.columns() * outputs, 2));
            let (bias, dy) = (noise(outputs, 3), noise(n * h * w * outputs, 4));
            let (fast, slow) = (Method::Lanes(shape), Method::Unfolded(shape));
            prop_assert!(close(&fast.forward(&x, &kernel, &bias), &slow.forward(&x, &kernel, &bias)));
            let ((dw, db), (dw_slow, db_slow)) =
                (fast.weight_gradients(&x, &dy, outputs), slow.weight_gradients(&x, &dy, outputs));
            prop_assert!(close(&dw, &dw_slow) && close(&db, &db_slow));
            prop_assert!(close(&fast.input_gradient(&kernel, &dy, outputs), &slow.input_gradient(&kernel, &dy, outputs)));
        }
    }
}
