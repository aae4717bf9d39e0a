//! Matrix products whose right operand is laid out once and used for many rows: the networks' layers are 64 to 256 wide, where a
//! general product spends a sixth of its time on laying out operands.
#![allow(unsafe_code)]

use super::matmul::Matrix;
use super::processor;
#[cfg(target_arch = "x86_64")]
use super::tile::{self, Tile, tiles};

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
            return self.by_tiles(lhs, out, stride, add);
        }
        panic!("packed products need a processor with AVX-512");
    }

    #[cfg(target_arch = "x86_64")]
    fn by_tiles(&self, lhs: Matrix, out: &mut [f32], stride: usize, add: bool) {
        let (m, k) = lhs.shape();
        let (data, a_row, a_col) = lhs.parts();
        let out = out.as_mut_ptr();
        // An empty sum is written too: one pass with depth 0.
        for top in (0..k.max(1)).step_by(DEPTH) {
            let depth = DEPTH.min(k - top);
            for (first, width, lines) in self.panels() {
                let mask = tile::mask((self.cols - first).min(width));
                for (row, rows) in tiles(m) {
                    // SAFETY: `row < m`, `top < k` and `first < cols` lie inside their matrices, whose extents `Matrix::new` and
                    // `Packed::multiply` checked; a panel has `rows` rows of `width` floats; masked columns are not touched.
                    unsafe {
                        let result = out.add(row * stride + first);
                        let add = add || top > 0;
                        let a = data.as_ptr().add(row * a_row + top * a_col);
                        let b = lines.as_ptr().cast::<f32>().add(top * width);
                        let t = Tile { depth, a, a_row, a_col, b, b_row: width, out: result, stride, add, mask };
                        tile::run(rows, width / LANES, t);
                    }
                }
            }
        }
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
