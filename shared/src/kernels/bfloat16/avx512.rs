//! The products with AVX-512 of AMD's processors, and its rounding to bfloat16, which Intel's have too.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::sync::LazyLock;

use super::{LANES, LeftRows, Pair, View};
use crate::kernels::processor;
use crate::kernels::tile::{mask, tiles};

/// Pairs of rows of the right operand taken at a time: as much of a panel as the first cache holds.
const DEPTH: usize = 64;

/// Intel's processors have the instruction too, but at half the rate of float32's.
pub fn available() -> bool {
    static FAST: LazyLock<bool> = LazyLock::new(|| {
        let vendor = __cpuid(0);
        let amd =
            [vendor.ebx, vendor.edx, vendor.ecx] == [b"Auth", b"enti", b"cAMD"].map(|part| u32::from_le_bytes(*part));
        amd && processor::avx512() && is_x86_feature_detected!("avx512bf16")
    });
    *FAST
}

/// Whether [`round_rows`] can be used.
pub fn rounds() -> bool {
    static ROUNDS: LazyLock<bool> = LazyLock::new(|| processor::avx512() && is_x86_feature_detected!("avx512bf16"));
    *ROUNDS
}

/// The first numbers of rows that lie `stride` apart, as pairs, rounded to the nearest, ties to even; numbers below the smallest normal
/// one become zero. Panics unless the processor [`rounds`] and there are such rows.
pub fn round_rows(values: &[f32], stride: usize, out: &mut [[Pair; LANES]]) {
    assert!(rounds(), "rounding needs a processor that has instructions for it");
    assert!(out.is_empty() || (out.len() - 1) * stride + 2 * LANES <= values.len(), "rows to round end too early");
    // SAFETY: the processor has the instructions, and the rows exist.
    unsafe { every_row(values.as_ptr(), stride, out) }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn every_row(values: *const f32, stride: usize, out: &mut [[Pair; LANES]]) {
    for (row, out) in out.iter_mut().enumerate() {
        // SAFETY: of each row there are two vectors, by the caller's word, and its pairs are as many bits as 32 bfloat16.
        unsafe {
            let values = values.add(row * stride);
            let (first, second) = (_mm512_loadu_ps(values), _mm512_loadu_ps(values.add(LANES)));
            let rounded = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
            _mm512_storeu_si512(out.as_mut_ptr().cast(), rounded);
        }
    }
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

pub fn multiply(rhs: View, lhs: LeftRows, out: &mut [f32], stride: usize, add: bool) {
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
                std::array::from_fn(|l| std::mem::transmute(_mm512_loadu_si512(b.add(l * LANES).cast())));
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
