//! Convolutions of 16 images side by side, one in each lane of a 512-bit register: no number of channels and no width wastes lanes,
//! nothing is loaded unaligned, and borders need no shuffling.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::math::{sigmoid, silu};
use super::processor;

/// Images in a group.
pub const LANES: usize = 16;
/// Fewer images than this leave too many lanes empty.
const LEAST: usize = 8;
/// Output channels of a tile.
const CHANNELS: usize = 4;
/// Bytes of input and gradient that a part of the weight gradient works on: what the second cache holds beside its sums.
const CACHE: usize = 1 << 19;

/// Whether these kernels may be used here.
pub fn available() -> bool {
    processor::avx512()
}

/// Whether they may, and pay for this many images.
pub fn suits(images: usize) -> bool {
    available() && images >= LEAST
}

/// 16 numbers, one of each image.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Vector(pub [f32; LANES]);

/// Images of one size, 16 side by side: [H + 2 * border, W + 2 * border, C] vectors.
pub struct Images {
    height: usize,
    width: usize,
    channels: usize,
    border: usize,
    values: Vec<Vector>,
}

/// Memory of images that are gone, by its length: an update needs the same again, and new pages would cost more than what is computed
/// in them. It grows to what is in use at once, and no further.
static SPARE: Mutex<BTreeMap<usize, Vec<Vec<Vector>>>> = Mutex::new(BTreeMap::new());

impl Drop for Images {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        SPARE.lock().entry(values.len()).or_default().push(values);
    }
}

impl Images {
    /// Zeros at the border, and anything inside.
    pub fn new([height, width, channels]: [usize; 3], border: usize) -> Self {
        let count = (height + 2 * border) * (width + 2 * border) * channels;
        let spare = SPARE.lock().get_mut(&count).and_then(Vec::pop);
        let values = spare.unwrap_or_else(|| vec![Vector::ZERO; count]);
        let mut images = Self { height, width, channels, border, values };
        images.clear_border();
        images
    }

    fn clear_border(&mut self) {
        let (row, side) = (self.width * self.channels, self.border * self.channels);
        let (inside, end) = (self.border * self.pitch(), self.values.len() - self.border * self.pitch());
        self.values[..inside].fill(Vector::ZERO);
        self.values[end..].fill(Vector::ZERO);
        if side > 0 {
            for line in self.values[inside..end].chunks_exact_mut(row + 2 * side) {
                line[..side].fill(Vector::ZERO);
                line[side + row..].fill(Vector::ZERO);
            }
        }
    }

    /// Height, width and channels.
    pub fn sides(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// Pixels around them.
    pub fn border(&self) -> usize {
        self.border
    }

    /// With the border, [H + 2 * border, W + 2 * border, C].
    pub fn values(&self) -> &[Vector] {
        &self.values
    }

    /// With the border, which is to stay as it is.
    pub fn values_mut(&mut self) -> &mut [Vector] {
        &mut self.values
    }

    /// Every pixel inside gets these channels.
    pub fn fill(&mut self, channels: &[f32]) {
        for y in 0..self.height {
            let start = self.row(y);
            let row = &mut self.values[start..start + self.width * self.channels];
            row.iter_mut().zip(channels.iter().cycle()).for_each(|(out, x)| *out = Vector([*x; LANES]));
        }
    }

    /// Where the pixels of a row begin.
    pub fn row(&self, y: usize) -> usize {
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

    /// The inside to the inside of `out`.
    pub fn copy_to(&self, out: &mut Images) {
        assert_eq!([self.height, self.width, self.channels], [out.height, out.width, out.channels], "images differ");
        let row = self.width * self.channels;
        for y in 0..self.height {
            let (from, to) = (self.row(y), out.row(y));
            out.values[to..to + row].copy_from_slice(&self.values[from..from + row]);
        }
    }

    /// Adds all pixels, each of as many channels as there are sums: channels beyond them are those of further pixels.
    pub fn add_pixels(&self, sums: &mut [Vector]) {
        for y in 0..self.height {
            let start = self.row(y);
            for pixel in self.values[start..start + self.width * self.channels].chunks_exact(sums.len()) {
                for (sum, x) in sums.iter_mut().zip(pixel) {
                    (0..LANES).for_each(|i| sum.0[i] += x.0[i]);
                }
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

/// Which pixels of a 2 x 2 cell are its largest, row by row: a bit for each image.
pub type Largest = [u16; 4];

/// [`convolve`], then the largest of each 2 x 2 cell, to `out` with half the sides and no border; the sides of `x` are even.
pub fn convolve_pooled(x: &Images, kernel: &[f32], bias: &[f32], out: &mut Images, largest: &mut [Largest]) {
    let k = 2 * x.border + 1;
    assert_eq!([x.height, x.width], [2 * out.height, 2 * out.width], "images of a convolution differ");
    assert_eq!(kernel.len(), k * k * x.channels * out.channels, "kernel does not fit");
    assert!(out.border == 0 && largest.len() == out.values.len() && bias.len() == out.channels && available());
    for y in 0..out.height {
        for channel in (0..out.channels).step_by(CHANNELS) {
            for col in 0..out.width {
                let at = out.row(y) + col * out.channels + channel;
                let tile = Tile {
                    k,
                    inputs: x.channels,
                    x: &raw const x.values[2 * y * x.pitch() + 2 * col * x.channels],
                    pitch: x.pitch(),
                    kernel: &raw const kernel[channel],
                    bias: Some(&raw const bias[channel]),
                    outputs: out.channels,
                    out_pitch: out.pitch(),
                    out: &raw mut out.values[at],
                };
                let largest = &raw mut largest[at];
                // SAFETY: as in `convolve`, for the 2 x 2 pixels of the cell; the channels lie inside `out` and `largest`, which has one
                // entry for each of its vectors.
                unsafe {
                    match CHANNELS.min(out.channels - channel) {
                        1 => pooled_tile::<1>(tile, largest),
                        2 => pooled_tile::<2>(tile, largest),
                        3 => pooled_tile::<3>(tile, largest),
                        _ => pooled_tile::<CHANNELS>(tile, largest),
                    }
                }
            }
        }
    }
}

/// Pixels of four times the channels as 2 x 2 cells of pixels: [h, w, 4 * c] to the inside of [2h, 2w, c].
pub fn depth_to_space(x: &Images, out: &mut Images) {
    for [deep, wide, count] in cells(x, out) {
        out.values[wide..wide + count].copy_from_slice(&x.values[deep..deep + count]);
    }
}

/// The other way round: [2h, 2w, c] to the inside of [h, w, 4 * c].
pub fn space_to_depth(x: &Images, out: &mut Images) {
    for [deep, wide, count] in cells(out, x) {
        out.values[deep..deep + count].copy_from_slice(&x.values[wide..wide + count]);
    }
}

/// Where the two pixels of each row of a cell lie in images [h, w, 4 * c] and [2h, 2w, c], and how many vectors they have.
fn cells(deep: &Images, wide: &Images) -> Vec<[usize; 3]> {
    let c = wide.channels;
    assert_eq!([2 * deep.height, 2 * deep.width, deep.channels], [wide.height, wide.width, 4 * c], "images differ");
    let mut cells = Vec::with_capacity(2 * deep.height * deep.width);
    for y in 0..deep.height {
        for col in 0..deep.width {
            for row in 0..2 {
                let (deep, wide) = (deep.row(y) + (4 * col + 2 * row) * c, wide.row(2 * y + row) + 2 * col * c);
                cells.push([deep, wide, 2 * c]);
            }
        }
    }
    cells
}

/// The gradient of the cells' largest values, spread over the pixels that are largest in equal shares, to `out` with twice the sides.
pub fn unpool(d: &Images, largest: &[Largest], out: &mut Images) {
    assert!([out.height, out.width, out.channels] == [2 * d.height, 2 * d.width, d.channels]);
    assert!(d.border == 0 && largest.len() == d.values.len() && available());
    for y in 0..d.height {
        for col in 0..d.width {
            let from = d.row(y) + col * d.channels;
            let to = [0, 1].map(|row| out.row(2 * y + row) + 2 * col * d.channels);
            for c in 0..d.channels {
                let places = [to[0] + c, to[0] + d.channels + c, to[1] + c, to[1] + d.channels + c];
                // SAFETY: the processor has AVX-512 (checked above).
                let shares = unsafe { shares(&d.values[from + c], largest[from + c]) };
                places.into_iter().zip(shares).for_each(|(place, share)| out.values[place] = share);
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
fn shares(d: &Vector, largest: Largest) -> [Vector; 4] {
    let one = _mm512_set1_ps(1.0);
    let counts = largest.map(|mask| _mm512_maskz_mov_ps(mask, one));
    let count = _mm512_add_ps(_mm512_add_ps(counts[0], counts[1]), _mm512_add_ps(counts[2], counts[3]));
    // SAFETY: a vector is 64 bytes, aligned to 64.
    let share = _mm512_div_ps(unsafe { _mm512_load_ps(d.0.as_ptr()) }, count);
    largest.map(|mask| {
        let mut out = Vector::ZERO;
        // SAFETY: a vector is 64 bytes, aligned to 64.
        unsafe { _mm512_store_ps(out.0.as_mut_ptr(), _mm512_maskz_mov_ps(mask, share)) };
        out
    })
}

/// RMS norm over the channels and SiLU, into the inside of `out`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl"))]
pub fn norm_silu(x: &Images, scale: &[f32], eps: f32, out: &mut Images) {
    for y in 0..x.height {
        let (from, to, row) = (x.row(y), out.row(y), x.width * x.channels);
        let pixels = x.values[from..from + row].chunks_exact(scale.len());
        for (x, out) in pixels.zip(out.values[to..to + row].chunks_exact_mut(scale.len())) {
            let r = rms(x, eps);
            for ((out, x), s) in out.iter_mut().zip(x).zip(scale) {
                (0..LANES).for_each(|i| out.0[i] = silu(x.0[i] * (r.0[i] * s)));
            }
        }
    }
}

/// `d`, the gradient of [`norm_silu`]'s result, becomes that of `x`; neither has a border. Adds to the gradient of the scale and to that
/// of a bias behind `x`.
// Indexed, so that loops over lanes vectorise.
#[allow(clippy::needless_range_loop)]
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl"))]
pub fn norm_silu_backward(
    x: &Images,
    scale: &[f32],
    eps: f32,
    d: &mut Images,
    dscale: &mut [Vector],
    dbias: &mut [Vector],
) {
    for (x, d) in x.values.chunks_exact(scale.len()).zip(d.values.chunks_exact_mut(scale.len())) {
        let r = rms(x, eps);
        let mut shift = [0.0; LANES];
        for (c, (x, d)) in x.iter().zip(d.iter_mut()).enumerate() {
            for i in 0..LANES {
                let h = x.0[i] * (r.0[i] * scale[c]);
                let sig = sigmoid(h);
                let dh = d.0[i] * sig * (1.0 + h * (1.0 - sig));
                dscale[c].0[i] += dh * x.0[i] * r.0[i];
                d.0[i] = dh * scale[c];
                shift[i] += d.0[i] * x.0[i];
            }
        }
        let count = scale.len() as f32;
        (0..LANES).for_each(|i| shift[i] *= r.0[i] * r.0[i] * r.0[i] / count);
        for (c, (x, d)) in x.iter().zip(d.iter_mut()).enumerate() {
            for i in 0..LANES {
                d.0[i] = d.0[i] * r.0[i] - x.0[i] * shift[i];
                dbias[c].0[i] += d.0[i];
            }
        }
    }
}

#[inline(always)]
fn rms(x: &[Vector], eps: f32) -> Vector {
    let mut sums = [0.0; LANES];
    for x in x {
        (0..LANES).for_each(|i| sums[i] += x.0[i] * x.0[i]);
    }
    Vector(sums.map(|sum| 1.0 / (sum / x.len() as f32 + eps).sqrt()))
}

impl Vector {
    /// Zeros.
    pub const ZERO: Self = Self([0.0; LANES]);

    /// Sum over the images.
    pub fn sum(&self) -> f32 {
        self.0.iter().sum()
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

#[target_feature(enable = "avx512f")]
unsafe fn tile<const H: usize, const W: usize, const C: usize>(t: Tile) {
    // SAFETY: the caller's.
    unsafe {
        let sums = sums::<H, W, C>(t);
        for (h, row) in sums.into_iter().enumerate() {
            for (w, pixel) in row.into_iter().enumerate() {
                for (c, sum) in pixel.into_iter().enumerate() {
                    _mm512_store_ps(t.out.add(h * t.out_pitch + w * t.outputs + c).cast(), sum);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn pooled_tile<const C: usize>(t: Tile, largest: *mut Largest) {
    // SAFETY: the caller's.
    unsafe {
        let [[a, b], [c, d]] = sums::<2, 2, C>(t);
        for i in 0..C {
            let cell = [a[i], b[i], c[i], d[i]];
            let top = _mm512_max_ps(_mm512_max_ps(cell[0], cell[1]), _mm512_max_ps(cell[2], cell[3]));
            _mm512_store_ps(t.out.add(i).cast(), top);
            *largest.add(i) = cell.map(|x| _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(x, top));
        }
    }
}

// Indexed, so that all loops unroll and the sums stay in registers.
#[allow(clippy::needless_range_loop)]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn sums<const H: usize, const W: usize, const C: usize>(t: Tile) -> [[[__m512; C]; W]; H] {
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
        sums
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
        Self { k, inputs, outputs, sums: vec![Vector::ZERO; k * k * inputs * outputs] }
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

    /// Numbers of the kernel.
    pub fn count(&self) -> usize {
        self.sums.len()
    }

    /// Adds the gradient to `out` [k, k, in, out].
    pub fn finish(&self, out: &mut [f32]) {
        out.iter_mut().zip(&self.sums).for_each(|(out, sum)| *out += sum.sum());
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
