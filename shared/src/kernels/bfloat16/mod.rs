//! Matrix products of operands rounded to bfloat16, or of operands split into two such numbers, summed in float32, where the
//! processor has instructions for them that are faster than float32's.
#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
pub mod conv;

use super::matmul::Matrix;

/// Lanes of the widest registers.
const LANES: usize = 16;
/// Pairs of a tile's row.
pub const TILE: usize = 16;
/// Columns of a panel without tiles: with six rows, as many results as registers hold.
const PANEL: usize = 4 * LANES;

/// Whether [`Right::multiply`] may be used here.
pub fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    return amx::available() || avx512::available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether operands are laid out for tiles: only there do three products of bfloat16 take less time than one of float32.
pub fn tiled() -> bool {
    #[cfg(target_arch = "x86_64")]
    return amx::available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Pairs of an inner axis of `k`, padded with zeros to whole tiles where those are used.
fn pairs(k: usize) -> usize {
    if tiled() { k.div_ceil(2).next_multiple_of(TILE) } else { k.div_ceil(2) }
}

/// Columns of a panel. With tiles they are a tile's, so that a tile's rows follow each other.
fn panel() -> usize {
    if tiled() { TILE } else { PANEL }
}

/// `rows` of a left operand, or as many more as fill a tile.
pub fn whole(rows: usize) -> usize {
    rows.next_multiple_of(if tiled() { TILE } else { 1 })
}

/// What operands become in bfloat16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parts {
    /// Rounded.
    #[default]
    Rounded,
    /// The sum of a rounded number and of the rounded rest. Of the four products of two such sums the least is left out; the others
    /// are one product of operands that are three times as long: [high, high, low] and [high, low, high]. Needs [`tiled`].
    Split,
}

impl Parts {
    fn count(self) -> usize {
        match self {
            Parts::Rounded => 1,
            Parts::Split => 3,
        }
    }
}

/// What the sums of a product begin with.
#[derive(Clone, Copy, Debug)]
pub enum Begin<'a> {
    /// Nothing.
    Zero,
    /// What the result's place holds.
    Add,
    /// In every row the same numbers.
    Row(&'a [f32]),
}

impl Begin<'_> {
    /// Nothing, or what the result's place holds.
    pub fn adding(add: bool) -> Self {
        if add { Begin::Add } else { Begin::Zero }
    }
}

/// Two numbers that follow each other along the inner axis, in bfloat16: the first in the lower half.
type Pair = u32;

/// One cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
struct Line([Pair; LANES]);

/// A right operand [k, n] in panels of 64 columns, with tiles 16. A panel holds a row of pairs for every two rows of the operand, padded
/// with zeros to whole lines.
#[derive(Clone, Debug, Default)]
pub struct Right {
    lines: Vec<Line>,
    rows: usize,
    cols: usize,
    /// Rows of pairs.
    pairs: usize,
}

/// A left operand [m, k]. With tiles, 16 rows by 16 pairs of columns lie together, a tile's row after the other, and along the columns
/// tile after tile. Without, the pair of columns 2j and 2j + 1 in row i lies at `i * row + j * col`.
#[derive(Clone, Debug, Default)]
pub struct Left {
    pairs: Vec<Pair>,
    rows: usize,
    cols: usize,
    /// Pairs along a row.
    depth: usize,
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

/// What rounding takes away.
#[inline(always)]
fn rest(x: f32) -> f32 {
    x - f32::from_bits(round(x) & 0xffff_0000)
}

impl Right {
    /// Take the values of `matrix`.
    pub fn set(&mut self, matrix: Matrix, parts: Parts) {
        (self.rows, self.cols) = matrix.shape();
        self.pairs = parts.count() * pairs(self.rows);
        self.lines.clear();
        for first in (0..self.cols).step_by(panel()) {
            let count = panel().min(self.cols - first);
            let start = self.lines.len();
            self.panel(matrix, first, count, false);
            if parts == Parts::Split {
                let high = start..self.lines.len();
                self.panel(matrix, first, count, true);
                self.lines.extend_from_within(high);
            }
        }
    }

    /// Add the columns from `first` on, rounded, or with `low` what rounding takes away.
    fn panel(&mut self, matrix: Matrix, first: usize, count: usize, low: bool) {
        let (values, row_stride, col_stride) = matrix.parts();
        let row = |row: usize, out: &mut [f32]| {
            match col_stride {
                1 => out.copy_from_slice(&values[row * row_stride + first..][..out.len()]),
                _ => {
                    let column = |i: usize| values[row * row_stride + (first + i) * col_stride];
                    out.iter_mut().enumerate().for_each(|(i, x)| *x = column(i));
                }
            }
            if low {
                out.iter_mut().for_each(|x| *x = rest(*x));
            }
        };
        for upper_row in (0..self.rows).step_by(2) {
            let (mut upper, mut lower) = ([0.0; PANEL], [0.0; PANEL]);
            row(upper_row, &mut upper[..count]);
            if upper_row + 1 < self.rows {
                row(upper_row + 1, &mut lower[..count]);
            }
            self.interleave(&upper[..count], &lower[..count]);
        }
        let padding = pairs(self.rows) - self.rows.div_ceil(2);
        let end = self.lines.len() + padding * count.div_ceil(LANES);
        self.lines.resize(end, Line([0; LANES]));
    }

    fn interleave(&mut self, upper: &[f32], lower: &[f32]) {
        for (upper, lower) in upper.chunks(LANES).zip(lower.chunks(LANES)) {
            let mut line = [0; LANES];
            interleave(upper, lower, &mut line[..upper.len()]);
            self.lines.push(Line(line));
        }
    }

    /// See [`View::multiply`].
    pub fn multiply(&self, lhs: LeftRows, out: &mut [f32], stride: usize, begin: Begin) {
        let Self { rows, cols, pairs, .. } = *self;
        View { lines: bytemuck::cast_slice(&self.lines), rows, cols, pairs }.multiply(lhs, out, stride, begin);
    }

    /// What is laid out, as numbers that mean nothing by themselves.
    pub fn into_numbers(self) -> Vec<f32> {
        self.lines.into_iter().flat_map(|line| line.0).map(f32::from_bits).collect()
    }
}

/// A right operand whose lines lie elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    lines: &'a [[Pair; LANES]],
    rows: usize,
    cols: usize,
    pairs: usize,
}

impl<'a> View<'a> {
    /// How many numbers [`Right::into_numbers`] gives for an operand [rows, cols].
    pub fn numbers(rows: usize, cols: usize, parts: Parts) -> usize {
        cols.div_ceil(LANES) * LANES * parts.count() * pairs(rows)
    }

    /// What [`Right::into_numbers`] gave for an operand [rows, cols]; none if there are more or less.
    pub fn new(numbers: &'a [f32], rows: usize, cols: usize, parts: Parts) -> Option<Self> {
        let lines = bytemuck::try_cast_slice(numbers).ok()?;
        let whole = numbers.len() == Self::numbers(rows, cols, parts);
        whole.then_some(Self { lines, rows, cols, pairs: parts.count() * pairs(rows) })
    }

    /// Up to `count` of its columns, from `first` on; both are multiples of a panel.
    pub fn columns(self, first: usize, count: usize) -> Self {
        let cols = count.min(self.cols - first);
        let lines = &self.lines[first / LANES * self.pairs..][..cols.div_ceil(LANES) * self.pairs];
        Self { lines, cols, ..self }
    }

    /// `out = begin + lhs * self`; rows of `out` lie `stride` elements apart. Panics if shapes do not match, `out` is too short, or this
    /// is not [`available`].
    pub fn multiply(self, lhs: LeftRows, out: &mut [f32], stride: usize, begin: Begin) {
        assert_eq!(lhs.cols, self.rows, "inner axes of a matrix product differ");
        assert_eq!(lhs.depth, self.pairs, "one operand is split and the other is not");
        let fits = lhs.rows == 0 || (lhs.rows - 1) * stride + self.cols <= out.len();
        assert!(self.cols <= stride && fits, "result does not fit its slice");
        if let Begin::Row(values) = begin {
            assert_eq!(values.len(), self.cols, "a row to begin with has other columns than the result");
        }
        #[cfg(target_arch = "x86_64")]
        if amx::available() {
            return amx::multiply(self, lhs, out, stride, begin);
        }
        #[cfg(target_arch = "x86_64")]
        if avx512::available() {
            if let Begin::Row(values) = begin {
                out.chunks_mut(stride).take(lhs.rows).for_each(|row| row[..values.len()].copy_from_slice(values));
            }
            return avx512::multiply(self, lhs, out, stride, !matches!(begin, Begin::Zero));
        }
        panic!("products in bfloat16 need a processor that has them");
    }

    /// First column, lines of a row and all lines of each panel.
    fn panels(self) -> impl Iterator<Item = (usize, usize, &'a [[Pair; LANES]])> {
        (0..self.cols).step_by(panel()).map(move |first| {
            let lines = (self.cols - first).min(panel()).div_ceil(LANES);
            let start = first / LANES * self.pairs;
            (first, lines, &self.lines[start..start + lines * self.pairs])
        })
    }
}

impl Left {
    /// Take the values of `matrix`. Panics if they are to be split and there are no tiles.
    pub fn set(&mut self, matrix: Matrix, parts: Parts) {
        let (rows, cols) = matrix.shape();
        let (values, row_stride, col_stride) = matrix.parts();
        // A transposed matrix: what is a row here is a column of the memory, and pairs are made of two of its rows.
        assert!(col_stride == 1 || row_stride == 1, "an operand has rows or columns that lie next to each other");
        self.resize(rows, cols, parts);
        if tiled() || col_stride == 1 {
            self.blocks(rows).for_each(|mut block| block.set(matrix));
            return;
        }
        (self.row, self.col) = (1, rows);
        let zeros = vec![0.0; rows];
        let column = |j: usize| if j < cols { &values[j * col_stride..][..rows] } else { &zeros };
        for (j, out) in self.pairs.chunks_exact_mut(rows.max(1)).enumerate() {
            interleave(column(2 * j), column(2 * j + 1), out);
        }
    }

    /// Make room for [rows, cols], to be set by [`Left::blocks`].
    pub fn resize(&mut self, rows: usize, cols: usize, parts: Parts) {
        assert!(parts == Parts::Rounded || tiled(), "split products need a processor with tiles");
        let depth = parts.count() * pairs(cols);
        // Only what pads tiles must be zeros, and is if the shape was the same.
        if (self.rows, self.cols, self.depth) != (rows, cols, depth) {
            (self.rows, self.cols, self.depth) = (rows, cols, depth);
            self.pairs.clear();
            self.pairs.resize(whole(rows) * depth, 0);
        }
        (self.row, self.col) = (depth, 1);
    }

    /// Blocks of so many of its rows, the last one of what is left. Panics if a tile would be cut.
    pub fn blocks(&mut self, rows: usize) -> impl Iterator<Item = LeftBlock<'_>> {
        assert!(rows >= self.rows || whole(rows) == rows, "blocks of rows cut tiles");
        LeftBlock { pairs: &mut self.pairs, rows: self.rows, cols: self.cols, depth: self.depth }.cut(rows)
    }

    /// All rows.
    pub fn all(&self) -> LeftRows<'_> {
        self.rows(0, self.rows)
    }

    /// So many rows from `first` on, which is a tile's first one where there are tiles.
    pub fn rows(&self, first: usize, count: usize) -> LeftRows<'_> {
        let Self { cols, depth, row, col, .. } = *self;
        assert!(first + count <= self.rows && whole(first) == first, "no such rows, or a cut tile");
        LeftRows { pairs: &self.pairs[first * row..], rows: count, cols, depth, row, col }
    }
}

/// Some rows of a left operand.
#[derive(Clone, Copy, Debug)]
pub struct LeftRows<'a> {
    pairs: &'a [Pair],
    rows: usize,
    cols: usize,
    depth: usize,
    row: usize,
    col: usize,
}

impl LeftRows<'_> {
    /// How many.
    pub fn count(&self) -> usize {
        self.rows
    }
}

/// Some rows of a left operand, to be set.
#[derive(Debug)]
pub struct LeftBlock<'a> {
    pairs: &'a mut [Pair],
    rows: usize,
    cols: usize,
    depth: usize,
}

impl<'a> LeftBlock<'a> {
    /// Blocks of so many of its rows, the last one of what is left.
    fn cut(self, rows: usize) -> impl Iterator<Item = LeftBlock<'a>> {
        let Self { rows: all, cols, depth, .. } = self;
        let block = move |(i, pairs)| LeftBlock { pairs, rows: rows.min(all - i * rows), cols, depth };
        self.pairs.chunks_mut((whole(rows) * depth).max(1)).enumerate().map(block)
    }

    /// Its rows in bands that a tile's rows fill, the last one of what is left.
    pub fn bands(&mut self) -> impl Iterator<Item = LeftBlock<'_>> {
        LeftBlock { pairs: &mut *self.pairs, ..*self }.cut(TILE)
    }

    /// How many rows.
    pub fn count(&self) -> usize {
        self.rows
    }

    /// Take the values of `matrix`, which without tiles has rows that lie next to each other.
    pub fn set(&mut self, matrix: Matrix) {
        assert_eq!(matrix.shape(), (self.rows, self.cols), "rows of a left operand have other sizes");
        self.set_columns(0, matrix);
    }

    /// Take `values`, row by row.
    pub fn set_rows(&mut self, values: &[f32]) {
        self.set(Matrix::new(values, self.rows, self.cols, self.cols));
    }

    /// As [`LeftBlock::set`], for the columns from `left` on, a multiple of a panel, and not beyond the last.
    pub fn set_columns(&mut self, left: usize, matrix: Matrix) {
        let (values, row_stride, col_stride) = matrix.parts();
        let (rows, cols) = matrix.shape();
        assert!(rows == self.rows && left + cols <= self.cols, "columns of a left operand have other sizes");
        if self.depth == 0 {
            return;
        }
        if tiled() {
            return self.set_tiles(left, matrix);
        }
        assert_eq!(col_stride, 1, "a row of the matrix lies in pieces");
        for (row, out) in self.pairs.chunks_exact_mut(self.depth).enumerate() {
            neighbours(&values[row * row_stride..][..cols], &mut out[left / 2..], false);
        }
    }

    fn set_tiles(&mut self, left: usize, matrix: Matrix) {
        let (part, (rows, cols)) = (pairs(self.cols) * TILE, matrix.shape());
        let (values, row_stride, col_stride) = matrix.parts();
        let place = left / 2 * TILE..(left + cols).div_ceil(2 * TILE) * TILE * TILE;
        for (i, out) in self.pairs.chunks_exact_mut(self.depth * TILE).enumerate() {
            let first_row = i * TILE;
            let count = TILE.min(rows - first_row);
            let tiles = |out: &mut [Pair], low: bool| {
                for (j, out) in out.as_chunks_mut::<{ TILE * TILE }>().0.iter_mut().enumerate() {
                    let first = 2 * j * TILE;
                    let width = (2 * TILE).min(cols.saturating_sub(first));
                    let at = |row: usize| (first_row + row) * row_stride + first;
                    if col_stride == 1 && width == 2 * TILE && !low && rounds() {
                        #[cfg(target_arch = "x86_64")]
                        avx512::round_rows(&values[at(0)..], row_stride, &mut out.as_chunks_mut().0[..count]);
                    } else if col_stride == 1 {
                        for (row, out) in out.as_chunks_mut::<TILE>().0.iter_mut().take(count).enumerate() {
                            neighbours(&values[at(row)..][..width], out, low);
                        }
                    } else {
                        turn(|c| &values[(first + c) * col_stride + first_row..][..count], width, out, low);
                    }
                }
            };
            tiles(&mut out[place.clone()], false);
            if out.len() > part {
                tiles(&mut out[2 * part..][place.clone()], true);
                out.copy_within(place.clone(), part + place.start);
            }
        }
    }
}

/// A tile of pairs of `width` columns, which hold its rows.
#[inline(always)]
fn turn<'a>(column: impl Fn(usize) -> &'a [f32], width: usize, out: &mut [Pair; TILE * TILE], low: bool) {
    for j in 0..width.div_ceil(2) {
        let upper = column(2 * j);
        let mut pairs = [0; TILE];
        let rest_of = |x: f32| if low { rest(x) } else { x };
        if 2 * j + 1 < width {
            let both = upper.iter().zip(column(2 * j + 1));
            pairs.iter_mut().zip(both).for_each(|(out, (a, b))| *out = pair(rest_of(*a), rest_of(*b)));
        } else {
            pairs.iter_mut().zip(upper).for_each(|(out, a)| *out = pair(rest_of(*a), 0.0));
        }
        (0..TILE).for_each(|i| out[i * TILE + j] = pairs[i]);
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn interleave(upper: &[f32], lower: &[f32], out: &mut [Pair]) {
    out.iter_mut().zip(upper.iter().zip(lower)).for_each(|(out, (a, b))| *out = pair(*a, *b));
}

/// Pairs of numbers that lie next to each other, rounded, or with `low` of what rounding takes away.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn neighbours(values: &[f32], out: &mut [Pair], low: bool) {
    let (pairs, last) = values.as_chunks::<2>();
    if low {
        out.iter_mut().zip(pairs).for_each(|(out, [a, b])| *out = pair(rest(*a), rest(*b)));
    } else {
        out.iter_mut().zip(pairs).for_each(|(out, [a, b])| *out = pair(*a, *b));
    }
    if let [last] = last {
        out[pairs.len()] = pair(if low { rest(*last) } else { *last }, 0.0);
    }
}

/// Whether the processor has instructions that round whole rows of a tile.
fn rounds() -> bool {
    #[cfg(target_arch = "x86_64")]
    return avx512::rounds();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Precision;
    use crate::kernels::testing::numbers;

    #[test]
    fn tiles_are_used_where_the_system_lists_them() {
        let listed = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| {
            let has = |flag: &str| text.split_whitespace().any(|word| word == flag);
            has("amx_bf16") && has("amx_tile") && has("avx512f")
        });
        let kept_from = std::env::var_os("LUCID_KERNELS").is_some();
        assert_eq!(tiled(), listed && !kept_from);
    }

    /// Sizes below and above a tile, a panel, and what is taken of an operand at a time; edges of one row, column or pair.
    #[test]
    fn products_of_every_size_are_sums_over_rounded_operands() {
        if available() {
            check(Parts::Rounded, 1e-6);
        }
    }

    /// Without rounding operands: what is left out is the product of two rests, and what rounding takes away from these.
    #[test]
    fn split_products_are_sums_of_nearly_float32_precision() {
        if tiled() {
            check(Parts::Split, 8e-6);
        }
    }

    fn check(parts: Parts, tolerance: f64) {
        for (m, k, n) in
            [(0, 5, 4), (5, 0, 4), (1, 1, 1), (16, 32, 16), (17, 33, 15), (31, 65, 97), (33, 1061, 64), (290, 70, 49)]
        {
            let rounded = |len: usize, seed: usize| {
                let mut values = numbers(len, seed);
                if parts == Parts::Rounded {
                    Precision::Bfloat16.round(&mut values);
                }
                values
            };
            let (x, w, before) = (rounded(m * k, 1), rounded(k * n, 2), numbers(m * (n + 3), 3));
            let (xs, ws) = (Matrix::new(&x, m, k, k), Matrix::new(&w, k, n, n));
            let (x_columns, w_columns): (Vec<f32>, Vec<f32>) = (
                (0..k).flat_map(|j| (0..m).map(move |i| (i, j))).map(|(i, j)| xs.at(i, j)).collect(),
                (0..n).flat_map(|j| (0..k).map(move |i| (i, j))).map(|(i, j)| ws.at(i, j)).collect(),
            );
            let turned = (Matrix::new(&x_columns, k, m, m).t(), Matrix::new(&w_columns, n, k, k).t());
            for (xs, ws, add) in
                [(xs, ws, false), (turned.0, ws, true), (xs, turned.1, true), (turned.0, turned.1, false)]
            {
                let (mut left, mut right, mut out) = (Left::default(), Right::default(), before.clone());
                left.set(xs, parts);
                right.set(ws, parts);
                let row = numbers(n, 4);
                let begin = if m % 2 == 0 { Begin::adding(add) } else { Begin::Row(&row) };
                right.multiply(left.all(), &mut out, n + 3, begin);
                for (at, found) in out.iter().enumerate() {
                    let (i, j) = (at / (n + 3), at % (n + 3));
                    if j >= n {
                        assert_eq!(*found, before[at], "beyond the result's columns");
                        continue;
                    }
                    let start = match begin {
                        Begin::Zero => 0.0,
                        Begin::Add => f64::from(before[at]),
                        Begin::Row(row) => f64::from(row[j]),
                    };
                    let sum: f64 = (0..k).map(|p| f64::from(xs.at(i, p)) * f64::from(ws.at(p, j))).sum();
                    let allowed = tolerance * (k as f64 + 1.0);
                    assert!(
                        (f64::from(*found) - start - sum).abs() < allowed,
                        "{m} x {k} x {n} at {i}, {j}: {found}, not {}",
                        start + sum
                    );
                }
            }
        }
    }
}
