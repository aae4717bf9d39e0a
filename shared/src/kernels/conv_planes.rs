//! Convolution, max pooling, RMS norm and SiLU, several times, one image at a time, with weights where they lie and without
//! allocating once there are buffers: what an actor computes at each step. A register holds neighbouring pixels of one channel.
#![allow(unsafe_code)]

use multiversion::multiversion;

use super::math::silu;
#[cfg(target_arch = "x86_64")]
use super::processor;

/// Pixels of a register.
const LANES: usize = 16;
/// Registers of pixels that one pass works on.
const WIDE: usize = 3;
/// Channels that one pass works on, at most: with so many pixels, as many results as registers hold.
const DEEP: usize = 8;

/// Weights of one stage, read where they are.
#[derive(Clone, Copy)]
pub struct Stage<'a> {
    /// Side of the kernel, odd.
    pub k: usize,
    /// [k, k, in, out].
    pub kernel: &'a [f32],
    /// [out].
    pub bias: &'a [f32],
    /// Of the norm, [out].
    pub scale: &'a [f32],
    /// Of the norm.
    pub eps: f32,
}

/// An image by channels. Rows have zeros before them, which serve as those behind the row before; so a convolution is the same for
/// all pixels, those between two rows included, and needs no case for borders.
#[derive(Clone, Debug, Default)]
struct Planes {
    values: Vec<f32>,
    height: usize,
    width: usize,
    border: usize,
}

/// Buffers for images of one shape, to be used again.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    /// What goes into each stage, and what comes out of the last.
    images: Vec<Planes>,
    convolved: Vec<f32>,
    pooled: Vec<f32>,
    norms: Vec<f32>,
}

impl Planes {
    fn new([height, width, channels]: [usize; 3], border: usize) -> Self {
        let mut planes = Self { values: vec![], height, width, border };
        planes.values = vec![0.0; channels * planes.size()];
        planes
    }

    /// From one row to the next.
    fn pitch(&self) -> usize {
        self.width + self.border
    }

    /// Numbers of a channel: rows, and what the last register may read behind them.
    fn size(&self) -> usize {
        (self.height + 2 * self.border) * self.pitch() + 2 * self.border + LANES
    }

    /// Where row `y` of channel `c` begins.
    fn start(&self, c: usize, y: usize) -> usize {
        c * self.size() + (y + self.border) * self.pitch() + self.border
    }

    fn row_mut(&mut self, c: usize, y: usize) -> &mut [f32] {
        let start = self.start(c, y);
        &mut self.values[start..start + self.width]
    }
}

impl Buffers {
    /// For images [height, width, channels] through these stages.
    pub fn new<'a>([mut height, mut width, mut channels]: [usize; 3], stages: impl Iterator<Item = Stage<'a>>) -> Self {
        let mut buffers = Self::default();
        for stage in stages {
            let image = Planes::new([height, width, channels], stage.k / 2);
            channels = stage.bias.len();
            buffers.convolved.resize(buffers.convolved.len().max(channels * Self::plane(&image)), 0.0);
            buffers.pooled.resize(buffers.pooled.len().max(channels * width / 2), 0.0);
            buffers.norms.resize(buffers.norms.len().max(width / 2), 0.0);
            buffers.images.push(image);
            (height, width) = (height / 2, width / 2);
        }
        buffers.images.push(Planes::new([height, width, channels], 0));
        buffers
    }

    /// Numbers of a channel of the convolution of an image: its rows with what is between them, in whole registers.
    fn plane(image: &Planes) -> usize {
        (image.height * image.pitch()).next_multiple_of(LANES)
    }

    /// Write bytes of an image [height, width, C] to the channels from `first` on of what goes into the first stage.
    pub fn load(&mut self, bytes: &[u8], first: usize) {
        let image = &mut self.images[0];
        let channels = bytes.len() / (image.height * image.width);
        for (y, row) in bytes.chunks_exact(image.width * channels).enumerate() {
            for c in 0..channels {
                let pixels = row[c..].iter().step_by(channels);
                image.row_mut(first + c, y).iter_mut().zip(pixels).for_each(|(x, b)| *x = f32::from(*b) / 255.0 - 0.5);
            }
        }
    }

    /// The loaded image through the stages, to `out` [height, width, channels of the last].
    pub fn run<'a>(&mut self, stages: impl Iterator<Item = Stage<'a>>, out: &mut [f32]) {
        let Self { images, convolved, pooled, norms } = self;
        for (i, stage) in stages.enumerate() {
            let (before, after) = images.split_at_mut(i + 1);
            let plane = Self::plane(&before[i]);
            convolve(&before[i], &stage, convolved, plane);
            let next = &mut after[0];
            for y in 0..next.height {
                let row = &convolved[2 * y * before[i].pitch()..];
                pool_row(row, before[i].pitch(), plane, next.width, stage.bias.len(), pooled, norms);
                for (c, pooled) in pooled.chunks_exact(next.width).take(stage.bias.len()).enumerate() {
                    norm_row(pooled, norms, (stage.bias.len() as f32, stage.eps), stage.scale[c], next.row_mut(c, y));
                }
            }
        }
        let Some(last) = images.last() else { return };
        let channels = out.len() / (last.height * last.width);
        for (i, pixel) in out.chunks_exact_mut(channels).enumerate() {
            let (y, x) = (i / last.width, i % last.width);
            pixel.iter_mut().enumerate().for_each(|(c, out)| *out = last.values[last.start(c, y) + x]);
        }
    }
}

/// The convolution of `x`: channels of `plane` numbers, whose rows are as far apart as those of `x`.
fn convolve(x: &Planes, stage: &Stage, out: &mut [f32], plane: usize) {
    let outputs = stage.bias.len();
    let inputs = x.values.len() / x.size();
    assert_eq!(stage.kernel.len(), stage.k * stage.k * inputs * outputs, "a kernel does not fit its image");
    assert!(stage.k / 2 == x.border && out.len() >= outputs * plane, "an image does not fit its stage");
    assert_eq!(plane, Buffers::plane(x), "a result does not fit its image");
    assert!(plane + 2 * x.border * (x.pitch() + 1) <= x.size(), "an image is too small for its last register");
    #[cfg(target_arch = "x86_64")]
    if processor::avx512() {
        let pass = avx512::Pass { x: &x.values, pitch: x.pitch(), size: x.size(), inputs, stage, out, plane };
        return pass.run();
    }
    by_taps(x, stage, out, plane);
}

/// The same for processors without AVX-512.
#[multiversion(targets("x86_64+avx2+fma"))]
fn by_taps(x: &Planes, stage: &Stage, out: &mut [f32], plane: usize) {
    let (outputs, inputs, pixels) = (stage.bias.len(), x.values.len() / x.size(), x.height * x.pitch());
    for (c, out) in out.chunks_exact_mut(plane).take(outputs).enumerate() {
        out.fill(stage.bias[c]);
        for (tap, kernel) in stage.kernel.chunks_exact(inputs * outputs).enumerate() {
            let shift = tap / stage.k * x.pitch() + tap % stage.k;
            for i in 0..inputs {
                let (weight, x) = (kernel[i * outputs + c], &x.values[i * x.size() + shift..][..pixels]);
                out.iter_mut().zip(x).for_each(|(out, x)| *out += weight * x);
            }
        }
    }
}

/// Largest of each two by two pixels of `channels` channels, `plane` apart, from a row and the one below it, [channels, width], and
/// for each pixel the sum of squares over channels.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn pool_row(
    row: &[f32],
    pitch: usize,
    plane: usize,
    width: usize,
    channels: usize,
    out: &mut [f32],
    squares: &mut [f32],
) {
    squares[..width].fill(0.0);
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    for (c, out) in out.chunks_exact_mut(width).take(channels).enumerate() {
        let above = row[c * plane..][..2 * width].as_chunks::<2>().0;
        let below = row[c * plane + pitch..][..2 * width].as_chunks::<2>().0;
        let pairs = above.iter().zip(below);
        out.iter_mut().zip(pairs).for_each(|(o, (a, b))| *o = larger(larger(a[0], b[0]), larger(a[1], b[1])));
        squares.iter_mut().zip(out.iter()).for_each(|(s, x)| *s += x * x);
    }
}

/// Norm and activation of one channel of a row of pixels, from the sums of squares over all channels.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn norm_row(x: &[f32], squares: &[f32], (channels, eps): (f32, f32), scale: f32, out: &mut [f32]) {
    let pixels = out.iter_mut().zip(x).zip(squares);
    pixels.for_each(|((out, x), s)| *out = silu(*x * (scale / (s / channels + eps).sqrt())));
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{DEEP, LANES, Stage, WIDE};

    /// One convolution; sizes were checked.
    pub struct Pass<'a> {
        pub x: &'a [f32],
        pub pitch: usize,
        pub size: usize,
        pub inputs: usize,
        pub stage: &'a Stage<'a>,
        pub out: &'a mut [f32],
        pub plane: usize,
    }

    impl Pass<'_> {
        pub fn run(mut self) {
            let outputs = self.stage.bias.len();
            let parts = outputs.div_ceil(DEEP);
            for part in 0..parts {
                let (first, end) = (outputs * part / parts, outputs * (part + 1) / parts);
                for pixel in (0..self.plane).step_by(WIDE * LANES) {
                    let wide = WIDE.min((self.plane - pixel) / LANES);
                    // SAFETY: the caller has found AVX-512. `wide` registers of pixels from `pixel` on lie in a plane of the result,
                    // and channels `first..end` in the result. Shifted by at most k - 1 rows and k - 1 pixels, they lie in a channel
                    // of `x`: the last of them, less than LANES behind the last row, inside what `Planes::size` adds for it.
                    unsafe { self.part(end - first, wide, first, pixel) }
                }
            }
        }

        unsafe fn part(&mut self, deep: usize, wide: usize, first: usize, pixel: usize) {
            macro_rules! dispatch {
                ($($c:literal)*) => {
                    match (deep, wide) {
                        $(($c, 1) => self.tile::<$c, 1>(first, pixel), ($c, 2) => self.tile::<$c, 2>(first, pixel),
                          ($c, 3) => self.tile::<$c, 3>(first, pixel),)*
                        _ => unreachable!("a tile of {deep} channels and {wide} registers"),
                    }
                };
            }
            // SAFETY: the caller's word.
            unsafe { dispatch!(1 2 3 4 5 6 7 8) }
        }

        // Indexed, so that all loops unroll and the sums stay in registers.
        #[allow(clippy::needless_range_loop)]
        #[target_feature(enable = "avx512f")]
        unsafe fn tile<const C: usize, const V: usize>(&mut self, first: usize, pixel: usize) {
            let Stage { k, kernel, bias, .. } = *self.stage;
            let outputs = bias.len();
            let mut sums: [[__m512; V]; C] = std::array::from_fn(|c| [_mm512_set1_ps(bias[first + c]); V]);
            // SAFETY: the caller's word.
            unsafe {
                let mut weights = kernel.as_ptr().add(first);
                for tap in 0..k * k {
                    let mut x = self.x.as_ptr().add(pixel + tap / k * self.pitch + tap % k);
                    for _ in 0..self.inputs {
                        let pixels: [__m512; V] = std::array::from_fn(|v| _mm512_loadu_ps(x.add(v * LANES)));
                        for c in 0..C {
                            let weight = _mm512_set1_ps(*weights.add(c));
                            for v in 0..V {
                                sums[c][v] = _mm512_fmadd_ps(weight, pixels[v], sums[c][v]);
                            }
                        }
                        weights = weights.wrapping_add(outputs);
                        x = x.wrapping_add(self.size);
                    }
                }
                for c in 0..C {
                    let out = self.out.as_mut_ptr().add((first + c) * self.plane + pixel);
                    for v in 0..V {
                        _mm512_storeu_ps(out.add(v * LANES), sums[c][v]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::weight;
    use crate::kernels::{Precision, conv2d, max_pool2, rms_silu};
    use crate::params::Weight;

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn stages_give_what_the_single_operations_give(
            (h, w, channels) in (1usize..5, 1usize..5, 1usize..5), depths in (1usize..20, 1usize..20), half in 0usize..4,
        ) {
            let (height, width, k) = (4 * h, 4 * w, 2 * half + 1);
            let bytes: Vec<u8> = (0..height * width * channels).map(|i| (i * 7919 % 251) as u8).collect();
            let weights: Vec<[Weight; 3]> = [(channels, depths.0), (depths.0, depths.1)].iter().zip(1u64..).map(|((i, o), n)| {
                [weight(n, &[k, k, *i, *o]), weight(n + 5, &[*o]), weight(n + 9, &[*o])]
            }).collect();
            let pixels: Vec<f32> = bytes.iter().map(|b| f32::from(*b) / 255.0 - 0.5).collect();
            let image = Tensor::from_vec(pixels, (1, height, width, channels), &Device::Cpu).unwrap();
            let expected = weights.iter().try_fold(image, |x, [kernel, bias, scale]| {
                let x = max_pool2(&conv2d(&x, kernel, bias, 1, Precision::Float32)?)?;
                rms_silu(&x, scale, 1e-4, Precision::Float32)
            });
            let expected = values(&expected.unwrap());
            let copies: Vec<[Vec<f32>; 3]> = weights.iter().map(|w| w.each_ref().map(|w| w.to_vec().unwrap())).collect();
            let stages: Vec<Stage> =
                copies.iter().map(|[kernel, bias, scale]| Stage { k, kernel, bias, scale, eps: 1e-4 }).collect();
            let mut buffers = Buffers::new([height, width, channels], stages.iter().copied());
            let mut found = vec![0.0; expected.len()];
            // A second image must not see anything of the first.
            for image in [&bytes.iter().rev().copied().collect(), &bytes] {
                buffers.load(image, 0);
                buffers.run(stages.iter().copied(), &mut found);
            }
            let size = expected.iter().fold(0.0, |m: f32, x| m.max(x.abs()));
            prop_assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-4 * size), "{found:?} {expected:?}");
            let x = &buffers.images[1];
            let plane = Buffers::plane(x);
            let mut ways = [vec![0.0; plane * depths.1], vec![0.0; plane * depths.1]];
            convolve(x, &stages[1], &mut ways[0], plane);
            by_taps(x, &stages[1], &mut ways[1], plane);
            let rows = |way: &[f32]| -> Vec<f32> {
                way.chunks_exact(plane).flat_map(|c| c[..x.height * x.pitch()].to_vec()).collect()
            };
            prop_assert!(rows(&ways[0]).iter().zip(rows(&ways[1])).all(|(a, b)| (a - b).abs() < 1e-3));
        }
    }
}
