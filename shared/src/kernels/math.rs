//! Element-wise functions that vectorise, and matrix products over strided slices.

use multiversion::multiversion;

use super::matmul::{self, Matrix};

/// `a * b + c`, rounded once if `FUSED`: for code that runs only where the processor has an instruction for it, without which it is slow.
#[inline(always)]
pub(crate) fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// e^x within 2 ulp on the float32 range, without branches so that loops over it vectorise.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    exp_with::<false>(x)
}

/// [`exp`] by [`mul_add`].
#[inline(always)]
pub(crate) fn exp_with<const FUSED: bool>(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the lowest bits. (A cast to an integer does not vectorise,
    // since Rust's saturates.)
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let rounded = mul_add::<FUSED>(x, LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = mul_add::<FUSED>(-n, LN2_LOW, mul_add::<FUSED>(-n, LN2_HIGH, x));
    let p = 1.987_569_1e-4;
    let p = mul_add::<FUSED>(p, r, 1.398_199_9e-3);
    let p = mul_add::<FUSED>(p, r, 8.333_452e-3);
    let p = mul_add::<FUSED>(p, r, 4.166_579_6e-2);
    let p = mul_add::<FUSED>(p, r, 1.666_666_5e-1);
    let p = mul_add::<FUSED>(p, r, 0.5);
    let p = mul_add::<FUSED>(p * r, r, r) + 1.0;
    p * f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

/// Natural logarithm of a positive normal number within 2 ulp, without branches so that loops over it vectorise.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let bits = x.to_bits();
    let exponent = ((bits >> 23) as i32 - 126) as f32;
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let low = mantissa < std::f32::consts::FRAC_1_SQRT_2;
    let exponent = if low { exponent - 1.0 } else { exponent };
    let m = if low { mantissa + mantissa - 1.0 } else { mantissa - 1.0 };
    let z = m * m;
    let p = 7.037_683_6e-2;
    let p = p * m - 1.151_461e-1;
    let p = p * m + 1.167_699_9e-1;
    let p = p * m - 1.242_014_1e-1;
    let p = p * m + 1.424_932_3e-1;
    let p = p * m - 1.666_805_8e-1;
    let p = p * m + 2.000_071_5e-1;
    let p = p * m - 2.499_999_4e-1;
    let p = p * m + 3.333_333e-1;
    let tail = m * z * p + LN2_LOW * exponent - 0.5 * z;
    m + tail + LN2_HIGH * exponent
}

/// Lanes of a sum: as wide as the widest registers, so that sums vectorise, and the same everywhere, so that they do not depend
/// on the processor.
pub(crate) const LANES: usize = 16;

/// Sum of `f` over a slice.
#[inline(always)]
pub fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += f(chunk[i]);
        }
    }
    total(lanes) + rest.iter().map(|x| f(*x)).sum::<f32>()
}

/// Sum of `f` over pairs of two slices of one length.
#[inline(always)]
pub fn sum2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for i in 0..LANES {
            lanes[i] += f(x[i], y[i]);
        }
    }
    total(lanes) + x_rest.iter().zip(y_rest).map(|(x, y)| f(*x, *y)).sum::<f32>()
}

/// Largest value of a slice.
#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks(x, f32::NEG_INFINITY) {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    halved(lanes, |a, b| if b > a { b } else { a })
}

/// A slice in arrays of [`LANES`], the last filled up, so that loops over them vectorise to the end.
#[inline(always)]
fn chunks(x: &[f32], fill: f32) -> impl Iterator<Item = [f32; LANES]> {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut last = [fill; LANES];
    last[..rest.len()].copy_from_slice(rest);
    chunks.iter().copied().chain((!rest.is_empty()).then_some(last))
}

/// Sum of the lanes.
#[inline(always)]
pub(crate) fn total(lanes: [f32; LANES]) -> f32 {
    halved(lanes, |a, b| a + b)
}

/// One number of all lanes: the upper half of them joins the lower one, until there is one lane.
#[inline(always)]
fn halved(lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    // In memory once: else the compiler, seeing pairs at the end, takes the lanes in pairs throughout the loop before.
    let mut lanes = std::hint::black_box(lanes);
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = join(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// x * sigmoid(x).
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// tanh from [`exp`], odd and without cancellation near 0.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let e = exp(-2.0 * a);
    let large = (1.0 - e) / (1.0 + e);
    let s = x * x;
    let small = a * (1.0 + s * (-0.333_333_34 + s * (0.133_333_34 - s * 0.053_968_254)));
    let y = if a < 0.1 { small } else { large };
    y.copysign(x)
}

/// log(1 + e^x) without overflow.
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// sign(x) log(1 + |x|).
#[inline(always)]
pub fn symlog(x: f32) -> f32 {
    x.abs().ln_1p().copysign(x)
}

/// Inverse of [`symlog`].
#[inline(always)]
pub fn symexp(x: f32) -> f32 {
    x.abs().exp_m1().copysign(x)
}

/// Softmax of a row into `out`; returns log(sum(e^x)).
pub fn softmax(row: &[f32], out: &mut [f32]) -> f32 {
    scaled_softmax(row, 1.0, out)
}

/// `scale` times the softmax of a row into `out`; returns log(sum(e^x)).
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn scaled_softmax(row: &[f32], scale: f32, out: &mut [f32]) -> f32 {
    let top = max(row);
    let mut lanes = [0.0; LANES];
    for (out, x) in out.chunks_mut(LANES).zip(chunks(row, f32::NEG_INFINITY)) {
        let mut weights = [0.0; LANES];
        for i in 0..LANES {
            weights[i] = weight(x[i] - top);
            lanes[i] += weights[i];
        }
        out.copy_from_slice(&weights[..out.len()]);
    }
    let all = total(lanes);
    let scale = scale / all;
    out.iter_mut().for_each(|o| *o *= scale);
    top + all.ln()
}

/// e^x, or 0 where x is too small for [`exp`], as for what fills up a row.
#[inline(always)]
pub(crate) fn weight(x: f32) -> f32 {
    if x < -87.0 { 0.0 } else { exp(x) }
}

/// A matrix in a slice: element (i, j) lies at `i * rows + j * cols`.
#[derive(Clone, Copy)]
pub struct Strides {
    /// Step from one row to the next.
    pub rows: usize,
    /// Step from one column to the next.
    pub cols: usize,
}

impl Strides {
    /// Row-major with this many elements between rows.
    pub fn row_major(rows: usize) -> Self {
        Self { rows, cols: 1 }
    }

    /// The same memory read as the transpose.
    pub fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows }
    }

    /// The matrix [rows, cols] of these strides.
    fn matrix(self, data: &[f32], rows: usize, cols: usize) -> Matrix<'_> {
        match self.cols {
            // The stride between rows of a single row does not matter, and may be anything.
            1 => Matrix::new(data, rows, cols, if rows == 1 { cols } else { self.rows }),
            stride => Matrix::new(data, cols, rows, if cols == 1 { rows } else { stride }).t(),
        }
    }
}

/// `out[m, n] = a[m, k] b[k, n]`, or `out += …` if `accumulate`.
pub fn matmul(
    [m, k, n]: [usize; 3],
    (a, sa): (&[f32], Strides),
    (b, sb): (&[f32], Strides),
    (out, so): (&mut [f32], Strides),
    accumulate: bool,
) {
    // Products of less than about 50 µs stay on one thread.
    let threads = if m * k * n < 4 << 20 { 1 } else { rayon::current_num_threads() };
    matmul::matmul(sa.matrix(a, m, k), sb.matrix(b, k, n), out, so.rows, accumulate, threads);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_matches_the_library() {
        for i in -8000..800 {
            let x = i as f32 * 0.01;
            assert!((exp(x) / x.exp() - 1.0).abs() < 3e-7, "exp({x})");
        }
    }

    #[test]
    fn ln_matches_the_library() {
        for i in 1..200_000u32 {
            let x = f32::from_bits(0x0080_0000 + i * 10_000);
            let (found, exact) = (f64::from(ln(x)), f64::from(x).ln());
            assert!((found - exact).abs() <= 2e-7 * exact.abs().max(0.5), "ln({x})");
        }
    }

    #[test]
    fn sums_and_maxima_take_every_element() {
        let x: Vec<f32> = (0..37).map(|i| ((i * 7) % 37) as f32).collect();
        assert_eq!((sum(&x, |x| 2.0 * x), sum2(&x, &x, |a, b| a - b), max(&x)), (1332.0, 0.0, 36.0));
        assert_eq!(max(&x[..3]), 14.0);
    }

    #[test]
    fn tanh_and_sigmoid_match_the_library() {
        for i in -3000..3000 {
            let x = i as f32 * 0.01;
            assert!((tanh(x) - x.tanh()).abs() < 3e-7, "tanh({x})");
            let exact = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(sigmoid(x)) / exact - 1.0).abs() < 1e-6, "sigmoid({x})");
        }
    }
}
