//! Element-wise functions that vectorise, and matrix products over strided slices.

use multiversion::multiversion;

use super::matmul::{self, Matrix};

/// e^x within 2 ulp on the float32 range, without branches so that loops over it vectorise.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let n = (x * LOG2_E + ROUND) - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
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
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn softmax(row: &[f32], out: &mut [f32]) -> f32 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (o, &x) in out.iter_mut().zip(row) {
        *o = exp(x - max);
        sum += *o;
    }
    let scale = 1.0 / sum;
    out.iter_mut().for_each(|o| *o *= scale);
    max + sum.ln()
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
    fn tanh_and_sigmoid_match_the_library() {
        for i in -3000..3000 {
            let x = i as f32 * 0.01;
            assert!((tanh(x) - x.tanh()).abs() < 3e-7, "tanh({x})");
            let exact = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(sigmoid(x)) / exact - 1.0).abs() < 1e-6, "sigmoid({x})");
        }
    }
}
