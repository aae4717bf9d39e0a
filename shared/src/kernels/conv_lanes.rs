//! Convolutions of 16 images side by side, one in each lane of a 512-bit register: no number of channels and no width wastes lanes,
//! nothing is loaded unaligned, and borders need no shuffling.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

/// Images in a group.
pub const LANES: usize = 16;
/// Output channels of a tile.
const CHANNELS: usize = 4;
/// Bytes of input and gradient that a part of the weight gradient works on: what the second cache holds beside its sums.
const CACHE: usize = 1 << 19;

/// Whether these kernels may be used here.
pub fn available() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// 16 numbers, one of each image.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Vector([f32; LANES]);

/// Images of one size, 16 side by side: [H + 2 * border, W + 2 * border, C] vectors.
pub struct Images {
    height: usize,
    width: usize,
    channels: usize,
    border: usize,
    values: Vec<Vector>,
}

impl Images {
    /// Zeros.
    pub fn new([height, width, channels]: [usize; 3], border: usize) -> Self {
        let count = (height + 2 * border) * (width + 2 * border) * channels;
        Self { height, width, channels, border, values: vec![Vector([0.0; LANES]); count] }
    }

    /// Where the pixels of a row begin.
    fn row(&self, y: usize) -> usize {
        ((y + self.border) * (self.width + 2 * self.border) + self.border) * self.channels
    }

    /// Vectors from one row to the next.
    fn pitch(&self) -> usize {
        (self.width + 2 * self.border) * self.channels
    }

    /// Take up to 16 images [H, W, C], one after another; lanes without one become zero.
    pub fn load(&mut self, images: &[f32]) {
        let (size, row) = (self.height * self.width * self.channels, self.width * self.channels);
        for y in 0..self.height {
            let start = self.row(y);
            let out = &mut self.values[start..start + row];
            let source = |lane: usize| images.get(lane * size + y * row..lane * size + (y + 1) * row);
            let zeros = vec![0.0; row];
            let rows: [&[f32]; LANES] = std::array::from_fn(|lane| source(lane).unwrap_or(&zeros));
            for (i, out) in out.iter_mut().enumerate() {
                *out = Vector(std::array::from_fn(|lane| rows[lane][i]));
            }
        }
    }

    /// Write them as images [H, W, C], one after another, as many as fit.
    pub fn store(&self, images: &mut [f32]) {
        let (size, row) = (self.height * self.width * self.channels, self.width * self.channels);
        for (lane, image) in images.chunks_exact_mut(size).enumerate() {
            for (y, out) in image.chunks_exact_mut(row).enumerate() {
                let start = self.row(y);
                out.iter_mut().zip(&self.values[start..start + row]).for_each(|(out, x)| *out = x.0[lane]);
            }
        }
    }
}

/// `out = bias + x * kernel` (cross-correlation) with `kernel` [k, k, in, out], odd k, and a border of `x` of k / 2. Panics if shapes do
/// not match; use it only where it is [`available`].
pub fn convolve(x: &Images, kernel: &[f32], bias: Option<&[f32]>, out: &mut Images) {
    let k = 2 * x.border + 1;
    assert_eq!([x.height, x.width], [out.height, out.width], "images of a convolution differ");
    assert_eq!(kernel.len(), k * k * x.channels * out.channels, "kernel does not fit");
    assert!(bias.is_none_or(|bias| bias.len() == out.channels) && available());
    for y in (0..out.height).step_by(2) {
        for channel in (0..out.channels).step_by(CHANNELS) {
            for col in (0..out.width).step_by(2) {
                let rows = 2.min(out.height - y);
                let cols = 2.min(out.width - col);
                let channels = CHANNELS.min(out.channels - channel);
                let tile = Tile {
                    k,
                    inputs: x.channels,
                    // The border makes the upper left pixel of the kernel's window that of the tile.
                    x: &raw const x.values[(y * x.pitch()) + col * x.channels],
                    pitch: x.pitch(),
                    kernel: &raw const kernel[channel],
                    bias: bias.map(|bias| &raw const bias[channel]),
                    outputs: out.channels,
                    out_pitch: out.pitch(),
                    out: {
                        let at = out.row(y) + col * out.channels + channel;
                        &raw mut out.values[at]
                    },
                };
                // SAFETY: the processor has AVX-512 (checked above). The tile's pixels and channels lie inside `out` by the bounds of
                // these loops; the window of each pixel lies inside the bordered `x`, whose border is k / 2 and whose sides are those of
                // `out`; the kernel has k * k * inputs rows of `outputs` numbers.
                unsafe { run(rows, cols, channels, tile) }
            }
        }
    }
}

/// Operands of one tile of pixels and channels.
#[derive(Clone, Copy)]
struct Tile {
    k: usize,
    inputs: usize,
    x: *const Vector,
    pitch: usize,
    kernel: *const f32,
    bias: Option<*const f32>,
    outputs: usize,
    out_pitch: usize,
    out: *mut Vector,
}

unsafe fn run(rows: usize, cols: usize, channels: usize, t: Tile) {
    macro_rules! dispatch {
        ($($c:literal)*) => {
            match (rows, cols, channels) {
                $((2, 2, $c) => tile::<2, 2, $c>(t), (2, 1, $c) => tile::<2, 1, $c>(t),
                  (1, 2, $c) => tile::<1, 2, $c>(t), (1, 1, $c) => tile::<1, 1, $c>(t),)*
                _ => unreachable!("a tile of {rows} x {cols} pixels and {channels} channels"),
            }
        };
    }
    // SAFETY: the caller's.
    unsafe { dispatch!(1 2 3 4) }
}

// Indexed, so that all loops unroll and the sums stay in registers.
#[allow(clippy::needless_range_loop)]
#[target_feature(enable = "avx512f")]
unsafe fn tile<const H: usize, const W: usize, const C: usize>(t: Tile) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[[_mm512_setzero_ps(); C]; W]; H];
        if let Some(bias) = t.bias {
            for h in 0..H {
                for w in 0..W {
                    for c in 0..C {
                        sums[h][w][c] = _mm512_set1_ps(*bias.add(c));
                    }
                }
            }
        }
        let mut kernel = t.kernel;
        for i in 0..t.k {
            let mut x = t.x.add(i * t.pitch);
            // The window's columns and the inputs lie next to each other, in the image as in the kernel.
            for _ in 0..t.k * t.inputs {
                let weight: [__m512; C] = std::array::from_fn(|c| _mm512_set1_ps(*kernel.add(c)));
                for h in 0..H {
                    for w in 0..W {
                        let pixel = _mm512_load_ps(x.add(h * t.pitch + w * t.inputs).cast());
                        for c in 0..C {
                            sums[h][w][c] = _mm512_fmadd_ps(pixel, weight[c], sums[h][w][c]);
                        }
                    }
                }
                x = x.add(1);
                kernel = kernel.add(t.outputs);
            }
        }
        for h in 0..H {
            for w in 0..W {
                for c in 0..C {
                    _mm512_store_ps(t.out.add(h * t.out_pitch + w * t.outputs + c).cast(), sums[h][w][c]);
                }
            }
        }
    }
}

/// `kernel` [k, k, in, out] turned by half a turn and with inputs and outputs exchanged: with it, [`convolve`] takes the gradient of a
/// convolution's result to that of its input.
pub fn turned(kernel: &[f32], k: usize, inputs: usize, outputs: usize) -> Vec<f32> {
    let mut out = vec![0.0; kernel.len()];
    for (tap, weights) in kernel.chunks_exact(inputs * outputs).enumerate() {
        let to = &mut out[(k * k - 1 - tap) * inputs * outputs..][..inputs * outputs];
        for (i, row) in weights.chunks_exact(outputs).enumerate() {
            row.iter().enumerate().for_each(|(o, weight)| to[o * inputs + i] = *weight);
        }
    }
    out
}

/// Sums of a kernel's gradient, [k, k, in, out], a vector each.
pub struct KernelGradient {
    k: usize,
    inputs: usize,
    outputs: usize,
    sums: Vec<Vector>,
}

impl KernelGradient {
    /// Zeros.
    pub fn new(k: usize, inputs: usize, outputs: usize) -> Self {
        Self { k, inputs, outputs, sums: vec![Vector([0.0; LANES]); k * k * inputs * outputs] }
    }

    /// Adds what the images `x`, with a border of k / 2, and the gradient `d` of the result give.
    pub fn add(&mut self, x: &Images, d: &Images) {
        assert_eq!([x.height, x.width], [d.height, d.width], "images of a convolution differ");
        assert!(x.border == self.k / 2 && x.channels == self.inputs && d.channels == self.outputs && available());
        let bytes = size_of::<Vector>() * (x.pitch() + d.pitch());
        let rows = (CACHE / bytes).clamp(1, d.height);
        for first in (0..d.height).step_by(rows) {
            for tap in 0..self.k * self.k {
                for input in (0..self.inputs).step_by(CHANNELS) {
                    for output in (0..self.outputs).step_by(CHANNELS) {
                        let outer = Outer {
                            rows: rows.min(d.height - first),
                            cols: d.width,
                            x: &raw const x.values
                                [(first + tap / self.k) * x.pitch() + tap % self.k * x.channels + input],
                            x_pixel: x.channels,
                            x_pitch: x.pitch(),
                            d: &raw const d.values[d.row(first) + output],
                            d_pixel: d.channels,
                            d_pitch: d.pitch(),
                            sums: &raw mut self.sums[(tap * self.inputs + input) * self.outputs + output],
                            outputs: self.outputs,
                        };
                        let (inputs, outputs) = (self.inputs - input, self.outputs - output);
                        // SAFETY: the processor has AVX-512 (checked above). Channels lie inside their images and sums by the bounds of these
                        // loops, and so do the rows of `d`; those of `x` that a tap sees do, since `x` has a border of k / 2.
                        unsafe { outer.run(inputs.min(CHANNELS), outputs.min(CHANNELS)) }
                    }
                }
            }
        }
    }

    /// Adds the gradient to `out` [k, k, in, out].
    pub fn finish(&self, out: &mut [f32]) {
        out.iter_mut().zip(&self.sums).for_each(|(out, sum)| *out += sum.0.iter().sum::<f32>());
    }
}

/// Operands of the sums for some inputs and outputs of one tap.
#[derive(Clone, Copy)]
struct Outer {
    rows: usize,
    cols: usize,
    x: *const Vector,
    x_pixel: usize,
    x_pitch: usize,
    d: *const Vector,
    d_pixel: usize,
    d_pitch: usize,
    sums: *mut Vector,
    outputs: usize,
}

impl Outer {
    unsafe fn run(self, inputs: usize, outputs: usize) {
        macro_rules! dispatch {
            ($($i:literal)*) => {
                match (inputs, outputs) {
                    $(($i, 1) => self.tile::<$i, 1>(), ($i, 2) => self.tile::<$i, 2>(),
                      ($i, 3) => self.tile::<$i, 3>(), ($i, 4) => self.tile::<$i, 4>(),)*
                    _ => unreachable!("a tile of {inputs} inputs and {outputs} outputs"),
                }
            };
        }
        // SAFETY: the caller's.
        unsafe { dispatch!(1 2 3 4) }
    }

    // Indexed, so that all loops unroll and the sums stay in registers.
    #[allow(clippy::needless_range_loop)]
    #[target_feature(enable = "avx512f")]
    unsafe fn tile<const I: usize, const O: usize>(self) {
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); O]; I];
            for i in 0..I {
                for o in 0..O {
                    sums[i][o] = _mm512_load_ps(self.sums.add(i * self.outputs + o).cast());
                }
            }
            for row in 0..self.rows {
                let (mut x, mut d) = (self.x.add(row * self.x_pitch), self.d.add(row * self.d_pitch));
                for _ in 0..self.cols {
                    let given: [__m512; O] = std::array::from_fn(|o| _mm512_load_ps(d.add(o).cast()));
                    for i in 0..I {
                        let pixel = _mm512_load_ps(x.add(i).cast());
                        for o in 0..O {
                            sums[i][o] = _mm512_fmadd_ps(pixel, given[o], sums[i][o]);
                        }
                    }
                    x = x.add(self.x_pixel);
                    d = d.add(self.d_pixel);
                }
            }
            for i in 0..I {
                for o in 0..O {
                    _mm512_store_ps(self.sums.add(i * self.outputs + o).cast(), sums[i][o]);
                }
            }
        }
    }
}
