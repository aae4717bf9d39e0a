//! Convolutions of 16 images side by side with tiles. A line of the images' numbers holds one channel of all 16; weights are the left
//! operand, and the window of an output pixel is the right one: in each of its rows, columns and channels follow each other in memory.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::amx::{Block, Shape, Start, Tiles};
use super::{LANES, Line, Pair, TILE, amx, pair};
use crate::kernels::conv_lanes::{Images, Largest, Vector};

/// Output channels, or channels of either image of a gradient, of one block.
const CHANNELS: usize = 2 * TILE;
/// Pairs of one channel of one pixel along its images.
const PAIRS: usize = LANES / 2;
/// Bytes of both operands that a part of a gradient works on: what the second cache holds.
const CACHE: usize = 1 << 20;
/// Bytes of a line.
const LINE: usize = size_of::<Line>();

thread_local! {
    static OPERANDS: RefCell<Operands> = RefCell::default();
}

/// Images in bfloat16, in the orders that products need.
#[derive(Default)]
struct Operands {
    windows: Vec<Line>,
    planes: Vec<[Pair; PAIRS]>,
    turned: Vec<Pair>,
}

/// A kernel [k, k, inputs, outputs] as the left operand: a row for each output channel.
pub struct Kernel {
    k: usize,
    inputs: usize,
    outputs: usize,
    /// Pairs of a row of the window, with zeros behind up to whole tiles.
    depth: usize,
    pairs: Vec<Pair>,
}

impl Kernel {
    /// Of a convolution with odd k.
    pub fn new(values: &[f32], [k, inputs, outputs]: [usize; 3]) -> Self {
        assert_eq!(values.len(), k * k * inputs * outputs, "kernel does not fit");
        let channels = inputs.div_ceil(2);
        let depth = (k * channels).next_multiple_of(TILE);
        let mut pairs = vec![0; outputs * k * depth];
        for (at, out) in pairs.chunks_exact_mut(depth).enumerate() {
            let (output, row) = (at / k, at % k);
            for (i, out) in out[..k * channels].iter_mut().enumerate() {
                let (col, channel) = (i / channels, 2 * (i % channels));
                let weight = |c: usize| values[((row * k + col) * inputs + c) * outputs + output];
                *out = pair(weight(channel), if channel + 1 < inputs { weight(channel + 1) } else { 0.0 });
            }
        }
        Self { k, inputs, outputs, depth, pairs }
    }

    /// `out = bias + x * kernel` with a border of `x` of k / 2. Panics if shapes do not match.
    pub fn convolve(&self, x: &Images, bias: Option<&[f32]>, out: &mut Images) {
        let ([height, width, channels], border) = (out.sides(), out.border());
        assert_eq!([height, width], [x.sides()[0], x.sides()[1]], "images of a convolution differ");
        assert!(bias.is_none_or(|bias| bias.len() == channels));
        self.check(x, channels);
        if let Some(bias) = bias {
            out.fill(bias);
        }
        let pitch = (width + 2 * border) * channels;
        let first = border * pitch + border * channels;
        self.with_windows(x, |rows| {
            let out = out.values_mut();
            for y in 0..height {
                for channel in (0..channels).step_by(CHANNELS) {
                    for col in (0..width).step_by(2) {
                        let at = first + y * pitch + col * channels + channel;
                        let pixels = 2.min(width - col);
                        let to = (&mut out[at..], channels);
                        rows.pixels([y, col, pixels], channel, to, bias.is_some());
                    }
                }
            }
        });
    }

    /// [`Kernel::convolve`], then the largest of each 2 x 2 cell, to `out` with half the sides and no border; the sides of `x` are even.
    pub fn convolve_pooled(&self, x: &Images, bias: &[f32], out: &mut Images, largest: &mut [Largest]) {
        let [height, width, channels] = out.sides();
        assert_eq!([2 * height, 2 * width], [x.sides()[0], x.sides()[1]], "images of a convolution differ");
        assert!(out.border() == 0 && largest.len() == out.values().len() && bias.len() == channels);
        self.check(x, channels);
        self.with_windows(x, |rows| {
            let mut cell = [Vector::ZERO; 4 * CHANNELS];
            for y in 0..height {
                for channel in (0..channels).step_by(CHANNELS) {
                    let count = CHANNELS.min(channels - channel);
                    for col in 0..width {
                        for (row, cell) in cell.chunks_exact_mut(2 * CHANNELS).enumerate() {
                            rows.pixels([2 * y + row, 2 * col, 2], channel, (cell, CHANNELS), false);
                        }
                        let at = (y * width + col) * channels + channel;
                        let to = (&mut out.values_mut()[at..at + count], &mut largest[at..at + count]);
                        // SAFETY: where there are tiles, there is AVX-512.
                        unsafe { pool(&cell, &bias[channel..channel + count], to.0, to.1) }
                    }
                }
            }
        });
    }

    fn check(&self, x: &Images, outputs: usize) {
        assert_eq!((x.sides()[2], outputs), (self.inputs, self.outputs), "channels of a convolution differ");
        assert!(x.border() == self.k / 2 && amx::available());
    }

    fn with_windows(&self, x: &Images, f: impl FnOnce(&mut Rows)) {
        OPERANDS.with_borrow_mut(|operands| {
            let (sides, border) = (x.sides(), x.border());
            windows(x.values(), self.inputs, &mut operands.windows);
            let pitch = (sides[1] + 2 * border) * self.inputs.div_ceil(2);
            f(&mut Rows { kernel: self, lines: &operands.windows, pitch, tiles: Tiles::new() });
        });
    }
}

/// Windows of an image [H + 2 * border, W + 2 * border, channels / 2] of lines of pairs.
struct Rows<'a> {
    kernel: &'a Kernel,
    lines: &'a [Line],
    pitch: usize,
    tiles: Tiles,
}

impl Rows<'_> {
    /// One or two neighbouring output pixels from (y, col) on, for up to 32 channels, into `out`, whose pixels are `stride` vectors apart.
    fn pixels(
        &mut self,
        [y, col, pixels]: [usize; 3],
        channel: usize,
        (out, stride): (&mut [Vector], usize),
        add: bool,
    ) {
        let Kernel { k, inputs, outputs, depth, ref pairs } = *self.kernel;
        let (channels, count) = (inputs.div_ceil(2), CHANNELS.min(outputs - channel));
        let first = y * self.pitch + col * channels;
        let last = first + (k - 1) * self.pitch + (pixels - 1) * channels + depth;
        assert!(last <= self.lines.len() && (pixels - 1) * stride + count <= out.len(), "a pixel outside its image");
        let shape = Shape::new(count, pixels * LANES);
        let out: *mut u8 = out.as_mut_ptr().cast();
        let block = Block {
            shape,
            turns: k,
            depth,
            a: pairs[channel * k * depth..].as_ptr().cast(),
            a_row: 4 * k * depth,
            a_next: 4 * k * depth * TILE,
            a_step: 4 * TILE,
            a_turn: 4 * depth,
            b: self.lines[first..].as_ptr().cast(),
            b_row: LINE,
            b_next: LINE * channels,
            b_turn: LINE * self.pitch,
            out,
            out_row: LINE,
            out_next: LINE * stride,
            start: add.then_some(Start { from: out, row: LINE, next: LINE * stride }),
        };
        // SAFETY: no other tiles are in use. The windows of both pixels lie inside the lines and
        // the channels inside `out` (checked above); the kernel has `count` rows of k * depth pairs from `channel` on.
        unsafe { self.tiles.run(block) }
    }
}

/// Neighbouring channels of each pixel as pairs, with a line of zeros for every one that a window's last tile reads beyond the end.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl"))]
fn windows(x: &[Vector], channels: usize, out: &mut Vec<Line>) {
    let count = x.len() / channels * channels.div_ceil(2);
    out.resize(count + TILE, Line([0; LANES]));
    out[count..].fill(Line([0; LANES]));
    for (x, out) in x.chunks_exact(channels).zip(out.chunks_exact_mut(channels.div_ceil(2))) {
        for (x, out) in x.chunks(2).zip(out) {
            let (first, second) = (&x[0].0, x.get(1).unwrap_or(&Vector::ZERO).0);
            (0..LANES).for_each(|i| out.0[i] = pair(first[i], second[i]));
        }
    }
}

/// The largest of the four pixels of a cell, [4, 32], with the bias, and which they were.
#[target_feature(enable = "avx512f")]
fn pool(cell: &[Vector; 4 * CHANNELS], bias: &[f32], out: &mut [Vector], largest: &mut [Largest]) {
    for (i, ((out, largest), bias)) in out.iter_mut().zip(largest).zip(bias).enumerate() {
        // SAFETY: a vector is 64 bytes, aligned to 64, and `i` is below 32.
        unsafe {
            let pixels = [0, 1, 2, 3].map(|p| _mm512_load_ps(cell[p * CHANNELS + i].0.as_ptr()));
            let top = _mm512_max_ps(_mm512_max_ps(pixels[0], pixels[1]), _mm512_max_ps(pixels[2], pixels[3]));
            *largest = pixels.map(|x| _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(x, top));
            _mm512_store_ps(out.0.as_mut_ptr(), _mm512_add_ps(top, _mm512_set1_ps(*bias)));
        }
    }
}

/// Sums of a kernel's gradient, [k, k, in, out].
pub struct KernelGradient {
    k: usize,
    inputs: usize,
    outputs: usize,
    sums: Vec<f32>,
}

impl KernelGradient {
    /// Zeros.
    pub fn new(k: usize, inputs: usize, outputs: usize) -> Self {
        Self { k, inputs, outputs, sums: vec![0.0; k * k * inputs * outputs] }
    }

    /// Adds what the images `x`, with a border of k / 2, and the gradient `d` of the result give.
    pub fn add(&mut self, x: &Images, d: &Images) {
        let [height, width, outputs] = d.sides();
        assert_eq!(x.sides(), [height, width, self.inputs], "images of a convolution differ");
        assert!(x.border() == self.k / 2 && outputs == self.outputs && amx::available());
        OPERANDS.with_borrow_mut(|operands| {
            let wide = width + 2 * x.border();
            planes(x.values(), [wide, self.inputs], &mut operands.planes);
            let (cols, pixels) = (outputs.next_multiple_of(TILE), width.next_multiple_of(2));
            operands.turned.clear();
            operands.turned.resize(height * pixels * PAIRS * cols, 0);
            for (y, out) in operands.turned.chunks_exact_mut(pixels * PAIRS * cols).enumerate() {
                let start = d.row(y);
                turn(&d.values()[start..start + width * outputs], outputs, cols, out);
            }
            let mut parts = Parts {
                gradient: self,
                planes: &operands.planes,
                turned: &operands.turned,
                wide,
                pixels,
                cols,
                tiles: Tiles::new(),
            };
            parts.add(height);
        });
    }

    /// [k, k, in, out].
    pub fn sums(&self) -> &[f32] {
        &self.sums
    }
}

/// Operands of a gradient: sums over pixels and images.
struct Parts<'a> {
    gradient: &'a mut KernelGradient,
    /// [rows with border, inputs, columns with border], the images of one channel of a pixel each.
    planes: &'a [[Pair; PAIRS]],
    /// [rows, columns, pairs of images, outputs], columns even and outputs whole tiles.
    turned: &'a [Pair],
    wide: usize,
    pixels: usize,
    cols: usize,
    tiles: Tiles,
}

impl Parts<'_> {
    fn add(&mut self, height: usize) {
        let KernelGradient { k, inputs, outputs, .. } = *self.gradient;
        let bytes = 4 * PAIRS * (self.wide * inputs + self.pixels * self.cols);
        let rows = (CACHE / bytes).clamp(1, height);
        for first in (0..height).step_by(rows) {
            for tap in 0..k * k {
                for input in (0..inputs).step_by(CHANNELS) {
                    for output in (0..outputs).step_by(CHANNELS) {
                        self.block([first, rows.min(height - first)], tap, input, output);
                    }
                }
            }
        }
    }

    fn block(&mut self, [first, rows]: [usize; 2], tap: usize, input: usize, output: usize) {
        let KernelGradient { k, inputs, outputs, ref mut sums } = *self.gradient;
        let (depth, cell) = (self.pixels * PAIRS, size_of::<[Pair; PAIRS]>());
        let shape = Shape::new(CHANNELS.min(inputs - input), CHANNELS.min(outputs - output));
        let at = ((first + tap / k) * inputs + input) * self.wide + tap % k;
        let end = ((first + tap / k + rows - 1) * inputs + inputs - 1) * self.wide + tap % k + self.pixels;
        assert!(end <= self.planes.len(), "a tap outside its image");
        let out: *mut u8 = sums[(tap * inputs + input) * outputs + output..].as_mut_ptr().cast();
        let block = Block {
            shape,
            turns: rows,
            depth,
            a: self.planes[at..].as_ptr().cast(),
            a_row: cell * self.wide,
            a_next: cell * self.wide * TILE,
            a_step: 4 * TILE,
            a_turn: cell * self.wide * inputs,
            b: self.turned[first * depth * self.cols + output..].as_ptr().cast(),
            b_row: 4 * self.cols,
            b_next: 4 * TILE,
            b_turn: 4 * depth * self.cols,
            out,
            out_row: 4 * outputs,
            out_next: 4 * TILE,
            start: Some(Start { from: out, row: 4 * outputs, next: 4 * TILE }),
        };
        // SAFETY: no other tiles are in use. Rows and channels lie inside the planes
        // (checked above), inside `turned`, which has whole tiles of outputs and `first + rows` rows of `depth` pairs, and inside the sums,
        // by the bounds of the loops in `add`.
        unsafe { self.tiles.run(block) }
    }
}

/// [rows, columns, channels] vectors to [rows, channels, columns] of pairs along images, with a pixel behind the last one.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl"))]
fn planes(x: &[Vector], [wide, channels]: [usize; 2], out: &mut Vec<[Pair; PAIRS]>) {
    out.resize(x.len() + 1, [0; PAIRS]);
    out[x.len()] = [0; PAIRS];
    for (x, out) in x.chunks_exact(wide * channels).zip(out.chunks_exact_mut(wide * channels)) {
        for (col, x) in x.chunks_exact(channels).enumerate() {
            for (c, x) in x.iter().enumerate() {
                (0..PAIRS).for_each(|i| out[c * wide + col][i] = pair(x.0[2 * i], x.0[2 * i + 1]));
            }
        }
    }
}

/// A row of pixels [W, channels] to [W, pairs of images, cols].
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl"))]
fn turn(d: &[Vector], channels: usize, cols: usize, out: &mut [Pair]) {
    for (d, out) in d.chunks_exact(channels).zip(out.chunks_exact_mut(PAIRS * cols)) {
        for (c, d) in d.iter().enumerate() {
            (0..PAIRS).for_each(|i| out[i * cols + c] = pair(d.0[2 * i], d.0[2 * i + 1]));
        }
    }
}
