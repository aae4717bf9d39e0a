//! Products of a few rows with weights where they lie, without a copy and without allocating: what an actor computes at each step.
#![allow(unsafe_code)]

use multiversion::multiversion;

use super::matmul::Matrix;
#[cfg(target_arch = "x86_64")]
use super::processor;
#[cfg(target_arch = "x86_64")]
use super::tile::{self, LANES, Tile, tiles};

/// `out = lhs * rhs`, or `out += …` with `add`, for a row-major `rhs`; rows of `out` lie `stride` elements apart. Panics if shapes do
/// not match or `out` is too short.
pub fn product(lhs: Matrix, rhs: Matrix, out: &mut [f32], stride: usize, add: bool) {
    let ((m, k), (k2, n)) = (lhs.shape(), rhs.shape());
    assert_eq!(k, k2, "inner axes of a matrix product differ");
    assert!(m == 0 || (n <= stride && (m - 1) * stride + n <= out.len()), "result does not fit its slice");
    assert_eq!(rhs.parts().2, 1, "the right operand is not row-major");
    if n == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if processor::avx512() {
        return by_tiles(lhs, rhs, out, stride, add);
    }
    by_rows(lhs, rhs, out, stride, add);
}

#[cfg(target_arch = "x86_64")]
fn by_tiles(lhs: Matrix, rhs: Matrix, out: &mut [f32], stride: usize, add: bool) {
    let ((m, depth), cols) = (lhs.shape(), rhs.shape().1);
    let ((a, a_row, a_col), (b, b_row, _)) = (lhs.parts(), rhs.parts());
    let out = out.as_mut_ptr();
    for (row, rows) in tiles(m) {
        let mut first = 0;
        while first < cols {
            let lines = tile::widest(rows, cols - first);
            let mask = tile::mask((cols - first).min(lines * LANES));
            // SAFETY: there is AVX-512; `row < m` and `first < cols` lie inside their matrices, whose extents `Matrix::new` and
            // `product` checked; masked columns are not touched. With no depth nothing of the operands is read.
            unsafe {
                let (a, b) = (a.as_ptr().wrapping_add(row * a_row), b.as_ptr().wrapping_add(first));
                let out = out.add(row * stride + first);
                tile::run(rows, lines, Tile { depth, a, a_row, a_col, b, b_row, out, stride, add, mask });
            }
            first += lines * LANES;
        }
    }
}

/// The same for processors without AVX-512.
#[multiversion(targets("x86_64+avx2+fma"))]
fn by_rows(lhs: Matrix, rhs: Matrix, out: &mut [f32], stride: usize, add: bool) {
    let (cols, (b, b_row, _)) = (rhs.shape().1, rhs.parts());
    for (row, out) in out.chunks_mut(stride).take(lhs.shape().0).enumerate() {
        let out = &mut out[..cols];
        if !add {
            out.fill(0.0);
        }
        for i in 0..lhs.shape().1 {
            let x = lhs.at(row, i);
            out.iter_mut().zip(&b[i * b_row..][..cols]).for_each(|(out, w)| *out += x * w);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::numbers as noise;

    proptest! {
        #[test]
        fn products_are_sums_in_every_shape(
            (m, k, n) in (0usize..14, 0usize..70, 0usize..300), gaps in (0usize..4, 0usize..20, 0usize..20), add: bool,
        ) {
            let (x, w) = (noise(m * (k + gaps.0), 1), noise(k * (n + gaps.1), 2));
            let (lhs, rhs) = (Matrix::new(&x, m, k, k + gaps.0), Matrix::new(&w, k, n, n + gaps.1));
            let stride = n + gaps.2;
            let before = noise(m * stride, 3);
            let ways = [product, by_rows];
            for way in ways.into_iter().skip((stride == 0) as usize * 2) {
                let mut out = before.clone();
                way(lhs, rhs, &mut out, stride, add);
                for (i, (found, before)) in out.iter().zip(&before).enumerate() {
                    let (row, col) = (i / stride, i % stride);
                    if col >= n {
                        prop_assert_eq!(found, before);
                        continue;
                    }
                    let start = if add { f64::from(*before) } else { 0.0 };
                    let sum: f64 = (0..k).map(|j| f64::from(lhs.at(row, j)) * f64::from(rhs.at(j, col))).sum();
                    prop_assert!((f64::from(*found) - start - sum).abs() < 1e-5 * (1.0 + k as f64).sqrt());
                }
            }
        }
    }
}
