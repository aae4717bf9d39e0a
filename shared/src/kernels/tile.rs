//! A few rows by a few registers' width of columns of a float32 matrix product, with AVX-512: all results stay in registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

/// Lanes of the widest registers.
pub const LANES: usize = 16;

/// The operands of a tile: `depth` columns of the left operand from `a` on, and as many rows of the right one from `b` on.
#[derive(Clone, Copy)]
pub struct Tile {
    pub depth: usize,
    pub a: *const f32,
    pub a_row: usize,
    pub a_col: usize,
    pub b: *const f32,
    pub b_row: usize,
    pub out: *mut f32,
    pub stride: usize,
    pub add: bool,
    /// Which of the last register's columns exist.
    pub mask: u16,
}

/// First row and number of rows of each tile of results [m, …]: of at most six rows, of nearly one size.
pub fn tiles(m: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = m.div_ceil(6);
    (0..count).map(move |i| (m * i / count, m * (i + 1) / count - m * i / count))
}

/// The last register's columns of `cols` (at least one).
pub fn mask(cols: usize) -> u16 {
    u16::MAX >> (cols.next_multiple_of(LANES) - cols)
}

/// The widest tile of `rows` rows within `cols` columns, in registers.
pub fn widest(rows: usize, cols: usize) -> usize {
    let widths: &[usize] = match rows {
        1 => &[16, 8, 4, 3, 2],
        2 => &[8, 4, 3, 2],
        _ => &[4, 3, 2],
    };
    widths.iter().copied().find(|w| *w <= cols.div_ceil(LANES)).unwrap_or(1)
}

/// `out = a * b`, or `out += …`, for `rows` rows and `lines` registers' width of columns.
///
/// # Safety
/// There is AVX-512, and the tile lies inside its matrices, whose last columns may be missing as `mask` says.
pub unsafe fn run(rows: usize, lines: usize, t: Tile) {
    macro_rules! dispatch {
        ($($r:literal)*) => {
            match (rows, lines) {
                $(($r, 1) => tile::<$r, 1>(t), ($r, 2) => tile::<$r, 2>(t),
                  ($r, 3) => tile::<$r, 3>(t), ($r, 4) => tile::<$r, 4>(t),)*
                (1, 8) => tile::<1, 8>(t),
                (1, 16) => tile::<1, 16>(t),
                (2, 8) => tile::<2, 8>(t),
                _ => unreachable!("a tile of {rows} rows and {lines} registers"),
            }
        };
    }
    // SAFETY: the caller's word.
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
            let line: [__m512; L] = std::array::from_fn(|l| match l + 1 == L {
                true => _mm512_maskz_loadu_ps(t.mask, b.add(l * LANES)),
                false => _mm512_loadu_ps(b.add(l * LANES)),
            });
            for r in 0..R {
                let x = _mm512_set1_ps(*a.add(r * t.a_row));
                for l in 0..L {
                    sums[r][l] = _mm512_fmadd_ps(x, line[l], sums[r][l]);
                }
            }
            a = a.wrapping_add(t.a_col);
            b = b.wrapping_add(t.b_row);
        }
        for r in 0..R {
            for l in 0..L {
                _mm512_mask_storeu_ps(t.out.add(r * t.stride + l * LANES), mask(l), sums[r][l]);
            }
        }
    }
}
