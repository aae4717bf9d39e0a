//! The products with AMX: tiles of 16 x 16 results, sums over 32 columns of the left operand at a time.
//!
//! Rust has no stable intrinsics for it. Tile registers are state that the compiler neither uses nor sees: between
//! [`Shape::configure`] and the end of [`Tiles`] they hold what the assembly here puts into them, also from one piece to the next.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::ops::Range;
use std::sync::LazyLock;

use super::{Begin, LeftRows, TILE, View};
use crate::kernels::processor;

/// Bytes of a right operand taken at a time: they stay in the second cache while the left operand's rows pass.
const GROUP: usize = 300 << 10;
/// Pairs of the inner axis taken at a time: as many as let two tiles of the left operand's rows stay in the first cache.
const DEPTH: usize = 192;

/// Whether processor and system let this process use tiles.
pub fn available() -> bool {
    static ALLOWED: LazyLock<bool> = LazyLock::new(|| processor::avx512() && exist() && permitted());
    *ALLOWED
}

/// Whether the processor has tiles and products of bfloat16, and the system keeps tiles when it switches threads.
fn exist() -> bool {
    const TILES_AND_BFLOAT16: u32 = 1 << 24 | 1 << 22;
    const SAVED_BY_SYSTEM: u32 = 1 << 27;
    const TILE_STATE: u64 = 0b11 << 17;
    #[target_feature(enable = "xsave")]
    fn enabled() -> u64 {
        // SAFETY: the system has set the bit without which this instruction does not exist, as the caller checked.
        unsafe { _xgetbv(0) }
    }
    if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & TILES_AND_BFLOAT16 != TILES_AND_BFLOAT16 {
        return false;
    }
    // SAFETY: `enabled` runs only where the bit of the instruction is set.
    __cpuid(1).ecx & SAVED_BY_SYSTEM != 0 && unsafe { enabled() } & TILE_STATE == TILE_STATE
}

/// Ask Linux for tiles. It gives them to a process with all its threads, until another program is executed in it; without its word
/// the first instruction on tiles ends the process.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let result: i64;
    // SAFETY: the call takes two numbers, touches no memory of ours, and changes the two registers named.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") TILE_DATA,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Rows and columns of the two by two tiles of results; the second ones may be empty.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Shape {
    rows: [usize; 2],
    cols: [usize; 2],
}

/// What the processor reads to give tiles their shapes.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

impl Shape {
    /// Of up to 32 rows and columns.
    pub fn new(rows: usize, cols: usize) -> Self {
        let two = |all: usize| [all.min(TILE), all.saturating_sub(TILE).min(TILE)];
        Self { rows: two(rows), cols: two(cols) }
    }

    /// Tiles 0 to 3 take the results row by row, 4 and 5 the left operand's rows, 6 and 7 the right one's columns.
    ///
    /// # Safety
    /// Tiles are [`available`].
    unsafe fn configure(self) {
        let (r, c) = (self.rows, self.cols);
        let shapes = [
            (r[0], c[0]),
            (r[0], c[1]),
            (r[1], c[0]),
            (r[1], c[1]),
            (r[0], TILE),
            (r[1], TILE),
            (TILE, c[0]),
            (TILE, c[1]),
        ];
        let mut config = Config { palette: 1, start: 0, reserved: [0; 14], bytes_per_row: [0; 16], rows: [0; 16] };
        for (tile, (rows, cols)) in shapes.into_iter().enumerate().filter(|(_, (rows, cols))| rows * cols > 0) {
            config.rows[tile] = rows as u8;
            config.bytes_per_row[tile] = 4 * cols as u16;
        }
        // SAFETY: the instruction reads the 64 bytes of `config`, whose shapes are within 16 rows of 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, preserves_flags, readonly)) }
    }
}

/// This thread's tiles, in use.
pub struct Tiles {
    shape: Shape,
}

impl Tiles {
    /// Panics if there are none.
    pub fn new() -> Self {
        assert!(available(), "tiles need a processor that has them");
        Self { shape: Shape::default() }
    }

    /// The sums of a block.
    ///
    /// # Safety
    /// Rows and columns of the block lie inside their matrices, and no other [`Tiles`] of this thread are in use.
    #[inline(always)]
    pub unsafe fn run(&mut self, block: Block) {
        // SAFETY: tiles are available, as `new` saw, and get the block's shape; the rest is the caller's word.
        unsafe {
            if block.shape != self.shape {
                block.shape.configure();
                self.shape = block.shape;
            }
            run(block);
        }
    }
}

/// Gives the tiles back: their state need not be kept when threads are switched.
impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: tiles are available, as `new` saw; nothing but tiles changes.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }
}

/// Two by two tiles of results: `depth` pairs of the left operand from `a` on, as many rows of the right one from `b` on, and so
/// on for each of `turns`. Steps in bytes: from row to row, from the first tile's rows or columns to the second's, along the pairs of
/// the left operand from tile to tile, and from turn to turn.
#[derive(Clone, Copy)]
pub struct Block {
    pub shape: Shape,
    pub turns: usize,
    /// A multiple of a tile's pairs.
    pub depth: usize,
    pub a: *const u8,
    pub a_row: usize,
    pub a_next: usize,
    pub a_step: usize,
    pub a_turn: usize,
    pub b: *const u8,
    pub b_row: usize,
    pub b_next: usize,
    pub b_turn: usize,
    pub out: *mut u8,
    pub out_row: usize,
    pub out_next: usize,
    /// What sums begin with; none: zeros.
    pub start: Option<Start>,
}

/// Numbers that sums begin with, and steps as those of the results.
#[derive(Clone, Copy)]
pub struct Start {
    pub from: *const u8,
    pub row: usize,
    pub next: usize,
}

macro_rules! zero {
    ($tile:literal) => {
        asm!(concat!("tilezero tmm", $tile), options(nostack, nomem, preserves_flags))
    };
}

macro_rules! load {
    ($tile:literal, $from:expr, $step:expr) => {
        asm!(concat!("tileloadd tmm", $tile, ", [{} + {}*1]"), in(reg) $from, in(reg) $step,
             options(nostack, preserves_flags, readonly))
    };
}

/// As `load`, of what is not used again before it has left the first cache.
macro_rules! load_once {
    ($tile:literal, $from:expr, $step:expr) => {
        asm!(concat!("tileloaddt1 tmm", $tile, ", [{} + {}*1]"), in(reg) $from, in(reg) $step,
             options(nostack, preserves_flags, readonly))
    };
}

macro_rules! store {
    ($tile:literal, $to:expr, $step:expr) => {
        asm!(concat!("tilestored [{} + {}*1], tmm", $tile), in(reg) $to, in(reg) $step, options(nostack, preserves_flags))
    };
}

macro_rules! dot {
    ($out:literal, $a:literal, $b:literal) => {
        asm!(concat!("tdpbf16ps tmm", $out, ", tmm", $a, ", tmm", $b), options(nostack, nomem, preserves_flags))
    };
}

pub fn multiply(rhs: View, lhs: LeftRows, out: &mut [f32], stride: usize, begin: Begin) {
    let mut tiles = Tiles::new();
    let group = (GROUP / (4 * rhs.pairs.clamp(1, DEPTH))).next_multiple_of(2 * TILE);
    for left in (0..rhs.cols).step_by(group) {
        for top in (0..rhs.pairs.max(1)).step_by(DEPTH) {
            let pairs = top..rhs.pairs.min(top + DEPTH);
            let begin = if top == 0 { begin } else { Begin::Add };
            for row in (0..lhs.rows).step_by(2 * TILE) {
                for first in (left..rhs.cols.min(left + group)).step_by(2 * TILE) {
                    let block = block(rhs, lhs, out, stride, begin, [row, first], pairs.clone());
                    // SAFETY: no other tiles are in use; rows and columns lie inside their matrices, by the word of `block`.
                    unsafe { tiles.run(block) }
                }
            }
        }
    }
}

/// The two by two tiles of results from row `row` and column `first` on, of sums over some pairs. They lie inside the matrices, whose
/// extents `View::multiply` compared, as it did that of a row to begin with; both operands hold all pairs of their extents, in whole
/// tiles, by construction. (Inlined, as what takes it: a block in memory would be read back only after the results before it are stored.)
#[inline(always)]
fn block(
    rhs: View,
    lhs: LeftRows,
    out: &mut [f32],
    stride: usize,
    begin: Begin,
    [row, first]: [usize; 2],
    depth: Range<usize>,
) -> Block {
    let pairs = rhs.pairs;
    let out: *mut u8 = out[row * stride + first..].as_mut_ptr().cast();
    let next = 4 * TILE;
    let start = match begin {
        Begin::Zero => None,
        Begin::Row(values) => Some(Start { from: values[first..].as_ptr().cast(), row: 0, next }),
        Begin::Add => Some(Start { from: out, row: 4 * stride, next }),
    };
    Block {
        shape: Shape::new((lhs.rows - row).min(2 * TILE), (rhs.cols - first).min(2 * TILE)),
        turns: 1,
        depth: depth.len(),
        a: lhs.pairs[row * pairs + depth.start * TILE..].as_ptr().cast(),
        a_row: 4 * TILE,
        a_next: 4 * TILE * pairs,
        a_step: 4 * TILE * TILE,
        a_turn: 0,
        b: rhs.lines[first / TILE * pairs + depth.start..].as_ptr().cast(),
        b_row: 4 * TILE,
        b_next: 4 * TILE * pairs,
        b_turn: 0,
        out,
        out_row: 4 * stride,
        out_next: next,
        start,
    }
}

/// # Safety
/// The tiles have the block's shape, and rows and columns of the block lie inside their matrices.
#[inline(always)]
unsafe fn run(block: Block) {
    let Block { shape, depth, a, a_row, a_next, a_step, b, b_row, b_next, out, out_row, out_next: next, start, .. } =
        block;
    let (two_rows, two_cols) = (shape.rows[1] > 0, shape.cols[1] > 0);
    let below = out.wrapping_add(TILE * out_row);
    let a_below = a.wrapping_add(a_next);
    // SAFETY: a tile is read or written with the rows and bytes of its shape only, which by the caller's word lie inside the
    // matrix; second tiles are left alone where they are empty.
    unsafe {
        if let Some(Start { from, row, next }) = start {
            let below = from.wrapping_add(TILE * row);
            load!(0, from, row);
            if two_cols {
                load!(1, from.add(next), row);
            }
            if two_rows {
                load!(2, below, row);
            }
            if two_rows && two_cols {
                load!(3, below.add(next), row);
            }
        } else {
            zero!(0);
            if two_cols {
                zero!(1);
            }
            if two_rows {
                zero!(2);
            }
            if two_rows && two_cols {
                zero!(3);
            }
        }
        for turn in 0..block.turns {
            let (a_turn, b_turn) = (turn * block.a_turn, turn * block.b_turn);
            for step in 0..depth / TILE {
                let (a_step, b_step) = (a_turn + step * a_step, b_turn + step * TILE * b_row);
                if two_rows && two_cols {
                    load_once!(6, b.add(b_step), b_row);
                    load!(4, a.add(a_step), a_row);
                    load_once!(7, b.add(b_step + b_next), b_row);
                    load!(5, a_below.add(a_step), a_row);
                    dot!(0, 4, 6);
                    dot!(1, 4, 7);
                    dot!(2, 5, 6);
                    dot!(3, 5, 7);
                    continue;
                }
                load!(6, b.add(b_step), b_row);
                load!(4, a.add(a_step), a_row);
                dot!(0, 4, 6);
                if two_cols {
                    load!(7, b.add(b_step + b_next), b_row);
                    dot!(1, 4, 7);
                }
                if two_rows {
                    load!(5, a_below.add(a_step), a_row);
                    dot!(2, 5, 6);
                }
            }
        }
        store!(0, out, out_row);
        if two_cols {
            store!(1, out.add(next), out_row);
        }
        if two_rows {
            store!(2, below, out_row);
        }
        if two_rows && two_cols {
            store!(3, below.add(next), out_row);
        }
    }
}
