//! Matrix products in the precision of a network: with weights, laid out once for many products, and between activations.

use std::cell::RefCell;

use rayon::prelude::*;

use super::bfloat16::{self, Begin, Left, LeftBlock, Parts, Right, View};
use super::matmul::{Matrix, linear, matmul};
use super::packed::{self, Packed};
use super::precision::Precision;

/// Weights [rows, cols] as the right operand of products, themselves or transposed.
#[derive(Clone, Debug)]
pub(crate) struct Factor {
    values: Vec<f32>,
    rows: usize,
    cols: usize,
    precision: Precision,
    laid_out: LaidOut,
}

/// The values, and transposed, in the layout of the fastest products that this processor has.
#[derive(Clone, Debug)]
enum LaidOut {
    Plain,
    Panels(Box<[Packed; 2]>),
    Pairs(Box<[Operand; 2]>),
}

thread_local! {
    /// Operands that are laid out anew for each product.
    static OPERANDS: RefCell<(Left, Right)> = RefCell::default();
    /// Of a product, until something is made of them.
    static RESULTS: RefCell<Vec<f32>> = RefCell::default();
}

impl Factor {
    /// From row-major `values`, which are rounded.
    pub fn new(mut values: Vec<f32>, cols: usize, precision: Precision) -> Self {
        precision.round(&mut values);
        let rows = values.len() / cols;
        let matrix = Matrix::new(&values, rows, cols, cols);
        let laid_out = match (Operand::new(matrix, precision), Operand::new(matrix.t(), precision)) {
            (Some(itself), Some(transposed)) => LaidOut::Pairs(Box::new([itself, transposed])),
            _ if packed::available() => LaidOut::Panels(Box::new([Packed::new(matrix), Packed::new(matrix.t())])),
            _ => LaidOut::Plain,
        };
        Self { rows, cols, precision, laid_out, values }
    }

    /// These of its rows.
    pub fn part(&self, rows: std::ops::Range<usize>) -> Self {
        Self::new(self.values[rows.start * self.cols..rows.end * self.cols].to_vec(), self.cols, self.precision)
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    fn matrix(&self) -> Matrix<'_> {
        Matrix::new(&self.values, self.rows, self.cols, self.cols)
    }

    /// `out = lhs * self`, or `out += …` with `add`; rows of `out` lie `stride` elements apart.
    pub fn forward(&self, lhs: Matrix, out: &mut [f32], stride: usize, add: bool) {
        match &self.laid_out {
            LaidOut::Pairs(pairs) => pairs[0].multiply(lhs, out, stride, Begin::adding(add)),
            LaidOut::Panels(panels) => panels[0].multiply(lhs, out, stride, add),
            LaidOut::Plain => matmul(lhs, self.matrix(), out, stride, add, 1),
        }
    }

    /// `out = lhs * self^T`, or `out += …` with `add`: from the gradient of the product to that of its left operand.
    pub fn backward(&self, lhs: Matrix, out: &mut [f32], stride: usize, add: bool) {
        match &self.laid_out {
            LaidOut::Pairs(pairs) => pairs[1].multiply(lhs, out, stride, Begin::adding(add)),
            LaidOut::Panels(panels) => panels[1].multiply(lhs, out, stride, add),
            LaidOut::Plain => matmul(lhs, self.matrix().t(), out, stride, add, 1),
        }
    }
}

/// `out += x^T * d` for inputs x [N, rows] and gradients d [N, cols]: the gradient of weights.
pub(crate) fn add_gradient(x: Matrix, d: Matrix, out: &mut [f32], stride: usize, precision: Precision) {
    let Some(parts) = precision.products() else {
        return matmul(x.t(), d, out, stride, true, 1);
    };
    OPERANDS.with_borrow_mut(|(left, right)| {
        left.set(x.t(), parts);
        right.set(d, parts);
        right.multiply(left.all(), out, stride, Begin::Add);
    });
}

/// A right operand that is laid out for products in a precision, itself only.
#[derive(Clone, Debug)]
pub(crate) struct Operand(Right, Parts);

impl Operand {
    /// None if products in this precision take the matrix as it is.
    pub fn new(matrix: Matrix, precision: Precision) -> Option<Self> {
        let parts = precision.products()?;
        let mut right = Right::default();
        right.set(matrix, parts);
        Some(Self(right, parts))
    }

    /// `out += lhs * self`; rows of `out` lie `stride` elements apart.
    pub fn add_product(&self, lhs: Matrix, out: &mut [f32], stride: usize) {
        self.multiply(lhs, out, stride, Begin::Add);
    }

    fn multiply(&self, lhs: Matrix, out: &mut [f32], stride: usize, begin: Begin) {
        OPERANDS.with_borrow_mut(|(left, _)| {
            left.set(lhs, self.1);
            self.0.multiply(left.all(), out, stride, begin);
        });
    }
}

/// A kernel [inputs, outputs] laid out for products in this precision, as numbers that mean nothing by themselves; none if they take
/// the kernel as it is.
pub(crate) fn laid_out(kernel: &[f32], outputs: usize, precision: Precision) -> Option<Vec<f32>> {
    let operand = Operand::new(Matrix::new(kernel, kernel.len() / outputs, outputs, outputs), precision)?;
    Some(operand.0.into_numbers())
}

/// How many numbers [`laid_out`] gives.
pub(crate) fn laid_out_len([inputs, outputs]: [usize; 2], precision: Precision) -> Option<usize> {
    Some(View::numbers(inputs, outputs, precision.products()?))
}

/// Most rows that one thread takes at a time.
const ROWS: usize = 512;
/// Rows of a band.
pub(crate) const BAND: usize = bfloat16::TILE;
/// Columns of results that are computed, used and forgotten before the next ones: of as many rows, they stay in the second cache.
const COLUMNS: usize = 384;

/// Rows of activations [rows, cols], as products with kernels take them.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    rows: usize,
    cols: usize,
    parts: Option<Parts>,
    plain: Vec<f32>,
    left: Left,
}

/// Some of the [`Rows`], to be set.
#[derive(Debug)]
pub(crate) enum RowsBlock<'a> {
    Plain(&'a mut [f32]),
    Laid(LeftBlock<'a>),
}

impl Rows {
    /// Make room for [rows, cols] and products in this precision.
    pub fn resize(&mut self, rows: usize, cols: usize, precision: Precision) {
        (self.rows, self.cols, self.parts) = (rows, cols, precision.products());
        match self.parts {
            Some(parts) => self.left.resize(rows, cols, parts),
            None => self.plain.resize(rows * cols, 0.0),
        }
    }

    /// How many rows a thread takes at a time.
    pub fn block(&self, threads: usize) -> usize {
        bfloat16::whole(self.rows.div_ceil(threads.max(1)).clamp(1, ROWS))
    }

    /// Blocks of [`Rows::block`] rows.
    pub fn blocks(&mut self, threads: usize) -> Vec<RowsBlock<'_>> {
        let size = self.block(threads);
        match self.parts {
            Some(_) => self.left.blocks(size).map(RowsBlock::Laid).collect(),
            None => self.plain.chunks_mut(size * self.cols).map(RowsBlock::Plain).collect(),
        }
    }

    /// Take `values` [rows, cols].
    pub fn set(&mut self, values: &[f32], threads: usize) {
        let values = values.chunks(self.block(threads) * self.cols);
        let blocks = values.zip(self.blocks(threads)).collect();
        each(blocks, threads, |(values, mut block)| block.set(values));
    }
}

impl RowsBlock<'_> {
    /// Take `values`, row by row.
    pub fn set(&mut self, values: &[f32]) {
        match self {
            Self::Plain(plain) => plain.copy_from_slice(values),
            Self::Laid(left) => left.set_rows(values),
        }
    }

    /// Bands of a few rows of `width` columns: what is made of one, step by step, stays in the first cache.
    pub fn bands(&mut self, width: usize) -> impl Iterator<Item = RowsBlock<'_>> {
        let (plain, laid) = match self {
            Self::Plain(plain) => (Some(plain.chunks_mut(BAND * width).map(RowsBlock::Plain)), None),
            Self::Laid(left) => (None, Some(left.bands().map(RowsBlock::Laid))),
        };
        plain.into_iter().flatten().chain(laid.into_iter().flatten())
    }

    /// Take what `f` writes, row by row; `spare` is where it does if it cannot write into the rows themselves.
    pub fn fill(&mut self, spare: &mut [f32], f: impl FnOnce(&mut [f32])) {
        match self {
            Self::Plain(plain) => f(plain),
            Self::Laid(left) => {
                f(spare);
                left.set_rows(spare);
            }
        }
    }
}

/// `f` of every item, by that many threads.
pub(crate) fn each<T: Send>(items: Vec<T>, threads: usize, f: impl Fn(T) + Sync + Send) {
    if threads > 1 { items.into_par_iter().for_each(f) } else { items.into_iter().for_each(f) }
}

/// A kernel [inputs, outputs], as it is or what [`laid_out`] gave of it, and bias [outputs].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear<'a> {
    pub kernel: &'a [f32],
    pub bias: &'a [f32],
    pub precision: Precision,
}

impl Linear<'_> {
    /// `out = x * kernel + bias`. Panics if sizes do not match.
    pub fn apply(self, x: &Rows, out: &mut [f32], threads: usize) {
        let blocks = out.chunks_mut(x.block(threads) * self.bias.len()).enumerate().collect();
        each(blocks, threads, |(i, out)| self.block(x, i, threads, out));
    }

    /// Compute `x * kernel + bias` in [blocks](Rows::block) of rows, and give each to `take` with its target.
    pub fn then<T: Send>(
        self,
        x: &Rows,
        targets: impl IntoIterator<Item = T>,
        threads: usize,
        take: impl Fn(T, &mut [f32]) + Sync + Send,
    ) {
        let block = |(i, target): (usize, T)| {
            self.with_results(x, i, threads, |results| {
                self.block(x, i, threads, results);
                take(target, results);
            });
        };
        each(targets.into_iter().enumerate().collect(), threads, block);
    }

    /// `out = f(x * kernel + bias)`, with `f` in place, of some columns at a time.
    pub fn fill(self, x: &Rows, out: &mut Rows, threads: usize, f: impl Fn(&mut [f32]) + Sync + Send) {
        let block = |(i, block): (usize, RowsBlock)| match block {
            RowsBlock::Plain(out) => {
                self.block(x, i, threads, out);
                f(out);
            }
            RowsBlock::Laid(mut out) => RESULTS.with_borrow_mut(|results| {
                let (first, outputs) = (i * x.block(threads), self.bias.len());
                let rows = x.left.rows(first, x.block(threads).min(x.rows - first));
                for left in (0..outputs).step_by(COLUMNS) {
                    let cols = COLUMNS.min(outputs - left);
                    results.resize(results.len().max(rows.count() * cols), 0.0);
                    let results = &mut results[..rows.count() * cols];
                    self.view(x).columns(left, cols).multiply(
                        rows,
                        results,
                        cols,
                        Begin::Row(&self.bias[left..][..cols]),
                    );
                    // In bands, which are still in the first cache when they are laid out.
                    for (results, mut band) in results.chunks_mut(BAND * cols).zip(out.bands()) {
                        f(results);
                        band.set_columns(left, Matrix::new(results, band.count(), cols, cols));
                    }
                }
            }),
        };
        each(out.blocks(threads).into_iter().enumerate().collect(), threads, block);
    }

    /// `f` with room for the results of a block.
    fn with_results(self, x: &Rows, i: usize, threads: usize, f: impl FnOnce(&mut [f32])) {
        RESULTS.with_borrow_mut(|results| {
            let size = x.block(threads);
            let len = size.min(x.rows - i * size) * self.bias.len();
            results.resize(results.len().max(len), 0.0);
            f(&mut results[..len]);
        });
    }

    fn block(self, x: &Rows, i: usize, threads: usize, out: &mut [f32]) {
        let (first, count) = (i * x.block(threads), out.len() / self.bias.len());
        if x.parts.is_none() {
            assert!(self.precision.products().is_none(), "rows and kernel are of two precisions");
            return linear(&x.plain[first * x.cols..][..count * x.cols], self.kernel, self.bias, out, 1);
        }
        self.view(x).multiply(x.left.rows(first, count), out, self.bias.len(), Begin::Row(self.bias));
    }

    /// The kernel, laid out for products with such rows.
    fn view(&self, x: &Rows) -> View<'_> {
        let parts = self.precision.products().filter(|parts| x.parts == Some(*parts));
        let parts = parts.expect("rows and kernel are of one precision");
        View::new(self.kernel, x.cols, self.bias.len(), parts).expect("a laid-out kernel has its sizes")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::numbers as noise;

    /// The largest difference of what was found from sums in float64, relative to the sum of magnitudes.
    fn worst(
        [m, k, n]: [usize; 3],
        a: impl Fn(usize, usize) -> f32,
        b: impl Fn(usize, usize) -> f32,
        found: impl Fn(usize, usize) -> f32,
    ) -> f64 {
        let mut worst: f64 = 0.0;
        for i in 0..m {
            for j in 0..n {
                let terms = (0..k).map(|x| f64::from(a(i, x)) * f64::from(b(x, j)));
                let (sum, size) = terms.fold((0.0, 1.0), |(sum, size), t| (sum + t, size + t.abs()));
                worst = worst.max((f64::from(found(i, j)) - sum).abs() / size);
            }
        }
        worst
    }

    proptest! {
        #[test]
        fn products_are_sums_over_rounded_operands(
            (m, k, n) in (1usize..30, 1usize..280, 1usize..140), gap in 0usize..5, which in 0usize..4,
        ) {
            let precision = [Precision::Float32, Precision::Split, Precision::Bf16, Precision::Bfloat16][which];
            let rounded = |mut x: Vec<f32>| {
                if precision != Precision::Split {
                    precision.round(&mut x);
                }
                if precision == Precision::Bf16 {
                    Precision::Bfloat16.round(&mut x);
                }
                x
            };
            let allowed = if precision == Precision::Split { 2e-5 } else { 2e-6 };
            let x = rounded(noise(m * (k + gap), 1));
            let (w, d) = (rounded(noise(k * n, 2)), rounded(noise(m * (n + gap), 3)));
            let factor = Factor::new(w.clone(), n, precision);
            let (xs, ds) = (Matrix::new(&x, m, k, k + gap), Matrix::new(&d, m, n, n + gap));
            let mut y = vec![7.0; m * (n + gap)];
            factor.forward(xs, &mut y, n + gap, false);
            prop_assert!(worst([m, k, n], |i, j| xs.at(i, j), |i, j| w[i * n + j], |i, j| y[i * (n + gap) + j]) < allowed);
            prop_assert!((0..m).all(|i| (n..n + gap).all(|j| y[i * (n + gap) + j] == 7.0)));
            let mut dx = vec![1.0; m * k];
            factor.backward(ds, &mut dx, k, true);
            prop_assert!(worst([m, n, k], |i, j| ds.at(i, j), |i, j| w[j * n + i], |i, j| dx[i * k + j] - 1.0) < allowed);
            let mut dw = vec![0.0; k * n];
            add_gradient(xs, ds, &mut dw, n, precision);
            add_gradient(xs, ds, &mut dw, n, precision);
            prop_assert!(worst([k, m, n], |i, j| xs.at(j, i), |i, j| ds.at(i, j), |i, j| dw[i * n + j] / 2.0) < allowed);
        }
    }
}
