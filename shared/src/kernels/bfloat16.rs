//! Matrix products of operands rounded to bfloat16, summed in float32, where the processor has instructions for them that are
//! faster than float32's.
#![allow(unsafe_code)]

use super::matmul::Matrix;

/// Lanes of the widest registers.
const LANES: usize = 16;
/// Columns of a panel: with six rows, as many results as registers hold.
const PANEL: usize = 4 * LANES;

/// Whether [`Right::multiply`] may be used here.
pub fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    return avx512::available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Two numbers that follow each other along the inner axis, in bfloat16: the first in the lower half.
type Pair = u32;

/// One cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
struct Line([Pair; LANES]);

/// A right operand [k, n] in panels of up to 64 columns. A panel holds a row of pairs for every two rows of the operand, padded
/// with zeros to whole lines.
#[derive(Clone, Debug, Default)]
pub struct Right {
    lines: Vec<Line>,
    rows: usize,
    cols: usize,
}

/// A left operand [m, k]: the pair of columns 2j and 2j + 1 in row i lies at `i * row + j * col`.
#[derive(Clone, Debug, Default)]
pub struct Left {
    pairs: Vec<Pair>,
    rows: usize,
    cols: usize,
    row: usize,
    col: usize,
}

/// To bfloat16, to the nearest, ties to even.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    bits.wrapping_add(0x7fff + (bits >> 16 & 1))
}

#[inline(always)]
fn pair(first: f32, second: f32) -> Pair {
    round(first) >> 16 | round(second) & 0xffff_0000
}

impl Right {
    /// Take the values of `matrix`.
    pub fn set(&mut self, matrix: Matrix) {
        (self.rows, self.cols) = matrix.shape();
        self.lines.clear();
        let (values, row_stride, col_stride) = matrix.parts();
        let zeros = [0.0; PANEL];
        for first in (0..self.cols).step_by(PANEL) {
            let count = PANEL.min(self.cols - first);
            for row in (0..self.rows).step_by(2) {
                let last = row + 1 == self.rows;
                if col_stride == 1 {
                    let upper = &values[row * row_stride + first..][..count];
                    let lower = if last { &zeros[..count] } else { &values[(row + 1) * row_stride + first..][..count] };
                    self.interleave(upper, lower);
                } else {
                    let column = |i: usize, of: usize| values[of * row_stride + (first + i) * col_stride];
                    let (mut upper, mut lower) = ([0.0; PANEL], [0.0; PANEL]);
                    (0..count).for_each(|i| upper[i] = column(i, row));
                    if !last {
                        (0..count).for_each(|i| lower[i] = column(i, row + 1));
                    }
                    self.interleave(&upper[..count], &lower[..count]);
                }
            }
        }
    }

    fn interleave(&mut self, upper: &[f32], lower: &[f32]) {
        for (upper, lower) in upper.chunks(LANES).zip(lower.chunks(LANES)) {
            let mut line = [0; LANES];
            interleave(upper, lower, &mut line[..upper.len()]);
            self.lines.push(Line(line));
        }
    }

    /// `out = lhs * self`, or `out += …` with `add`; rows of `out` lie `stride` elements apart. Panics if shapes do not match, `out`
    /// is too short, or this is not [`available`].
    pub fn multiply(&self, lhs: &Left, out: &mut [f32], stride: usize, add: bool) {
        assert_eq!(lhs.cols, self.rows, "inner axes of a matrix product differ");
        let fits = lhs.rows == 0 || (lhs.rows - 1) * stride + self.cols <= out.len();
        assert!(self.cols <= stride && fits, "result does not fit its slice");
        #[cfg(target_arch = "x86_64")]
        if avx512::available() {
            return avx512::multiply(self, lhs, out, stride, add);
        }
        panic!("products in bfloat16 need a processor that has them");
    }

    /// First column, lines of a row and all lines of each panel.
    fn panels(&self) -> impl Iterator<Item = (usize, usize, &[Line])> {
        let pairs = self.rows.div_ceil(2);
        (0..self.cols).step_by(PANEL).map(move |first| {
            let lines = (self.cols - first).min(PANEL).div_ceil(LANES);
            let start = first / LANES * pairs;
            (first, lines, &self.lines[start..start + lines * pairs])
        })
    }
}

impl Left {
    /// Take the values of `matrix`.
    pub fn set(&mut self, matrix: Matrix) {
        (self.rows, self.cols) = matrix.shape();
        let (values, row_stride, col_stride) = matrix.parts();
        let pairs = self.cols.div_ceil(2);
        self.pairs.clear();
        self.pairs.resize(self.rows * pairs, 0);
        if col_stride == 1 {
            (self.row, self.col) = (pairs, 1);
            for (row, out) in self.pairs.chunks_exact_mut(pairs.max(1)).enumerate() {
                neighbours(&values[row * row_stride..][..self.cols], out);
            }
        } else {
            // A transposed matrix: what is a row here is a column of the memory, and pairs are made of two of its rows.
            assert_eq!(row_stride, 1, "an operand has rows or columns that lie next to each other");
            (self.row, self.col) = (1, self.rows);
            let zeros = vec![0.0; self.rows];
            for (j, out) in self.pairs.chunks_exact_mut(self.rows.max(1)).enumerate() {
                let upper = &values[2 * j * col_stride..][..self.rows];
                let last = 2 * j + 1 == self.cols;
                let lower = if last { &zeros[..] } else { &values[(2 * j + 1) * col_stride..][..self.rows] };
                interleave(upper, lower, out);
            }
        }
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn interleave(upper: &[f32], lower: &[f32], out: &mut [Pair]) {
    out.iter_mut().zip(upper.iter().zip(lower)).for_each(|(out, (a, b))| *out = pair(*a, *b));
}

/// Pairs of numbers that lie next to each other.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn neighbours(values: &[f32], out: &mut [Pair]) {
    let (pairs, rest) = values.as_chunks::<2>();
    out.iter_mut().zip(pairs).for_each(|(out, [a, b])| *out = pair(*a, *b));
    if let ([last], Some(out)) = (rest, out.last_mut()) {
        *out = pair(*last, 0.0);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;
    use std::sync::LazyLock;

    use super::{LANES, Left, Pair, Right};
    use crate::kernels::processor;
    use crate::kernels::tile::{mask, tiles};

    /// Pairs of rows of the right operand taken at a time: as much of a panel as the first cache holds.
    const DEPTH: usize = 64;

    /// Intel's processors have the instruction too, but at half the rate of float32's.
    pub fn available() -> bool {
        static FAST: LazyLock<bool> = LazyLock::new(|| {
            let vendor = __cpuid(0);
            let amd = [vendor.ebx, vendor.edx, vendor.ecx]
                == [b"Auth", b"enti", b"cAMD"].map(|part| u32::from_le_bytes(*part));
            amd && processor::avx512() && is_x86_feature_detected!("avx512bf16")
        });
        *FAST
    }

    /// The operands of a tile: `depth` pairs of the left operand from `a` on, rows of a panel from `b` on.
    #[derive(Clone, Copy)]
    struct Tile {
        depth: usize,
        a: *const Pair,
        a_row: usize,
        a_col: usize,
        b: *const Pair,
        out: *mut f32,
        stride: usize,
        add: bool,
        /// Which of the last line's columns exist.
        mask: u16,
    }

    pub fn multiply(rhs: &Right, lhs: &Left, out: &mut [f32], stride: usize, add: bool) {
        let pairs = rhs.rows.div_ceil(2);
        let out = out.as_mut_ptr();
        // An empty sum is written too: one pass with depth 0.
        for top in (0..pairs.max(1)).step_by(DEPTH) {
            let depth = DEPTH.min(pairs - top);
            for (first, lines, panel) in rhs.panels() {
                let mask = mask((rhs.cols - first).min(lines * LANES));
                for (row, rows) in tiles(lhs.rows) {
                    // SAFETY: `row + rows <= m`, `top + depth <= pairs` and `first < cols` lie inside their matrices, whose extents
                    // `Right::multiply` compared; both operands hold all pairs of their extents, by construction; masked columns
                    // are not touched; `available` was true, so the instructions exist.
                    unsafe {
                        let result = out.add(row * stride + first);
                        let a = lhs.pairs.as_ptr().add(row * lhs.row + top * lhs.col);
                        let b = panel.as_ptr().cast::<Pair>().add(top * lines * LANES);
                        let add = add || top > 0;
                        let tile = Tile { depth, a, a_row: lhs.row, a_col: lhs.col, b, out: result, stride, add, mask };
                        run(rows, lines, tile);
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
        // SAFETY: by the caller's word the processor has the instructions and the tile lies inside its matrices.
        unsafe { dispatch!(1 2 3 4 5 6) }
    }

    // Indexed, so that all loops unroll and the sums stay in registers.
    #[allow(clippy::needless_range_loop)]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn tile<const R: usize, const L: usize>(t: Tile) {
        let mut sums = [[_mm512_setzero_ps(); L]; R];
        let mask = |line: usize| if line + 1 == L { t.mask } else { u16::MAX };
        // SAFETY: rows and columns of the tile lie inside their matrices by the caller's word; a masked load or store does not
        // touch what its mask leaves out; any 512 bits are a vector of 32 bfloat16.
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
                let line: [__m512bh; L] =
                    std::array::from_fn(|l| std::mem::transmute(_mm512_load_si512(b.add(l * LANES).cast())));
                for r in 0..R {
                    let x: __m512bh = std::mem::transmute(_mm512_set1_epi32(*a.add(r * t.a_row) as i32));
                    for l in 0..L {
                        sums[r][l] = _mm512_dpbf16_ps(sums[r][l], x, line[l]);
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
