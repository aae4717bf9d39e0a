//! Matrix products whose right operand is laid out once and used for many rows: the networks' layers are 64 to 256 wide, where a
//! general product spends a sixth of its time on laying out operands.
#![allow(unsafe_code)]

use super::matmul::Matrix;
use super::processor;

/// Lanes of the widest registers.
const LANES: usize = 16;
/// Columns of a panel: with six rows, as many results as registers hold.
const PANEL: usize = 4 * LANES;
/// Rows of the right operand taken at a time: as much of a panel as the first cache holds.
const DEPTH: usize = 128;

/// One cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
struct Line([f32; LANES]);

/// A matrix [k, n] in panels of up to 64 columns, each row-major and padded with zeros to whole lines.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    lines: Vec<Line>,
    rows: usize,
    cols: usize,
}

/// Whether [`Packed::multiply`] may be used here.
pub fn available() -> bool {
    processor::avx512()
}

impl Packed {
    /// A copy of `matrix`.
    pub fn new(matrix: Matrix) -> Self {
        let (rows, cols) = matrix.shape();
        let mut lines = Vec::with_capacity(rows * cols.div_ceil(LANES));
        for first in (0..cols).step_by(PANEL) {
            for row in 0..rows {
                for line in (first..cols.min(first + PANEL)).step_by(LANES) {
                    let at = |i: usize| if line + i < cols { matrix.at(row, line + i) } else { 0.0 };
                    lines.push(Line(std::array::from_fn(at)));
                }
            }
        }
        Self { lines, rows, cols }
    }

    /// `out = lhs * self`, or `out += …` with `add`; rows of `out` lie `stride` elements apart. Panics if shapes do not match, `out`
    /// is too short, or this is not [`available`].
    pub fn multiply(&self, lhs: Matrix, out: &mut [f32], stride: usize, add: bool) {
        let (m, k) = lhs.shape();
        assert_eq!(k, self.rows, "inner axes of a matrix product differ");
        let fits = m == 0 || (m - 1) * stride + self.cols <= out.len();
        assert!(self.cols <= stride && fits, "result does not fit its slice");
        #[cfg(target_arch = "x86_64")]
        if available() {
            return avx512::multiply(self, lhs, out, stride, add);
        }
        panic!("packed products need a processor with AVX-512");
    }

    /// First column, padded width and lines of each panel.
    fn panels(&self) -> impl Iterator<Item = (usize, usize, &[Line])> {
        (0..self.cols).step_by(PANEL).map(|first| {
            let lines = (self.cols - first).min(PANEL).div_ceil(LANES);
            let start = first / LANES * self.rows;
            (first, lines * LANES, &self.lines[start..start + lines * self.rows])
        })
    }
}

/// First row and number of rows of each tile of results [m, …]: of at most six rows, of nearly one size.
#[cfg(target_arch = "x86_64")]
pub(super) fn tiles(m: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = m.div_ceil(6);
    (0..count).map(move |i| (m * i / count, m * (i + 1) / count - m * i / count))
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{DEPTH, LANES, Packed, tiles};
    use crate::kernels::matmul::Matrix;

    /// The operands of a tile: `depth` columns of the left operand from `a` on, rows of a panel from `b` on.
    #[derive(Clone, Copy)]
    struct Tile {
        depth: usize,
        a: *const f32,
        a_row: usize,
        a_col: usize,
        b: *const f32,
        out: *mut f32,
        stride: usize,
        add: bool,
        /// Which of the last line's columns exist.
        mask: u16,
    }

    pub fn multiply(rhs: &Packed, lhs: Matrix, out: &mut [f32], stride: usize, add: bool) {
        let (m, k) = lhs.shape();
        let (data, a_row, a_col) = lhs.parts();
        let out = out.as_mut_ptr();
        // An empty sum is written too: one pass with depth 0.
        for top in (0..k.max(1)).step_by(DEPTH) {
            let depth = DEPTH.min(k - top);
            for (first, width, lines) in rhs.panels() {
                let mask = u16::MAX >> (width - (rhs.cols - first).min(width));
                for (row, rows) in tiles(m) {
                    // SAFETY: `row < m`, `top < k` and `first < cols` lie inside their matrices, whose extents `Matrix::new` and
                    // `Packed::multiply` checked; a panel has `rows` rows of `width` floats; masked columns are not touched.
                    unsafe {
                        let result = out.add(row * stride + first);
                        let add = add || top > 0;
                        let a = data.as_ptr().add(row * a_row + top * a_col);
                        let b = lines.as_ptr().cast::<f32>().add(top * width);
                        run(rows, width / LANES, Tile { depth, a, a_row, a_col, b, out: result, stride, add, mask });
                    }
                }
            }
        }
    }

    unsafe fn run(rows: usize, lines: usize, t: Tile) {
        macro_rules! dispatch {
            ($($r:literal)*) => {
                match (rows, lines) {
                    $(($r, 1) => tile::<$r, 1>(t), ($r, 2) => tile::<$r, 2>(t),
                      ($r, 3) => tile::<$r, 3>(t), ($r, 4) => tile::<$r, 4>(t),)*
                    _ => unreachable!("a tile of {rows} rows and {lines} lines"),
                }
            };
        }
        // SAFETY: the caller has checked for AVX-512, and that the tile lies inside its matrices.
        unsafe { dispatch!(1 2 3 4 5 6) }
    }

    // Indexed, so that all loops unroll and the sums stay in registers.
    #[allow(clippy::needless_range_loop)]
    #[target_feature(enable = "avx512f")]
    unsafe fn tile<const R: usize, const L: usize>(t: Tile) {
        let mut sums = [[_mm512_setzero_ps(); L]; R];
        let mask = |line: usize| if line + 1 == L { t.mask } else { u16::MAX };
        // SAFETY: rows and columns of the tile lie inside their matrices by the caller's word; a masked load or store does not
        // touch what its mask leaves out.
        unsafe {
            if t.add {
                for r in 0..R {
                    for l in 0..L {
                        sums[r][l] = _mm512_maskz_loadu_ps(mask(l), t.out.add(r * t.stride + l * LANES));
                    }
                }
            }
            let (mut a, mut b) = (t.a, t.b);
            for _ in 0..t.depth {
                let line: [__m512; L] = std::array::from_fn(|l| _mm512_load_ps(b.add(l * LANES)));
                for r in 0..R {
                    let x = _mm512_set1_ps(*a.add(r * t.a_row));
                    for l in 0..L {
                        sums[r][l] = _mm512_fmadd_ps(x, line[l], sums[r][l]);
                    }
                }
                a = a.wrapping_add(t.a_col);
                b = b.wrapping_add(L * LANES);
            }
            for r in 0..R {
                for l in 0..L {
                    _mm512_mask_storeu_ps(t.out.add(r * t.stride + l * LANES), mask(l), sums[r][l]);
                }
            }
        }
    }
}
