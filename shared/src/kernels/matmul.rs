//! Matrix products over slices, through the `gemm` crate (vector width chosen at run time).
#![allow(unsafe_code)]

use gemm::Parallelism;

/// A matrix read from a slice: element (r, c) is `data[r * row_stride + c * col_stride]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix [rows, cols] whose rows lie `row_stride` elements apart. Panics if the slice is too short.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, row_stride), "matrix [{rows}, {cols}] does not fit its slice");
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// Rows and columns.
    pub(crate) fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Elements, and the steps between rows and between columns.
    pub(super) fn parts(&self) -> (&'a [f32], usize, usize) {
        (self.data, self.row_stride, self.col_stride)
    }

    /// Element (row, col).
    pub(super) fn at(&self, row: usize, col: usize) -> f32 {
        self.data[row * self.row_stride + col * self.col_stride]
    }

    /// The same elements with rows and columns exchanged.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

fn fits(len: usize, rows: usize, cols: usize, row_stride: usize) -> bool {
    rows == 0 || cols == 0 || (cols <= row_stride && (rows - 1) * row_stride + cols <= len)
}

/// `out = lhs * rhs`, or `out += lhs * rhs` with `accumulate`; rows of `out` lie `out_stride` elements apart.
/// `threads` above 1 uses rayon's pool. Panics if shapes do not match or `out` is too short.
pub fn matmul(lhs: Matrix, rhs: Matrix, out: &mut [f32], out_stride: usize, accumulate: bool, threads: usize) {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    assert_eq!(k, rhs.rows, "inner axes of a matrix product differ");
    assert!(fits(out.len(), m, n, out_stride), "result [{m}, {n}] does not fit its slice");
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    let alpha = if accumulate { 1.0 } else { 0.0 };
    // SAFETY: every element that the strides reach lies inside its slice (checked here and in `Matrix::new`), the
    // result is borrowed mutably, so it overlaps neither operand, and its elements are distinct (n <= out_stride).
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            alpha,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `out = x * kernel + bias` with x [rows, in], kernel [in, out], bias [out].
pub fn linear(x: &[f32], kernel: &[f32], bias: &[f32], out: &mut [f32], threads: usize) {
    let width = bias.len();
    for row in out.chunks_exact_mut(width) {
        row.copy_from_slice(bias);
    }
    let (rows, inner) = (out.len() / width, kernel.len() / width);
    matmul(Matrix::new(x, rows, inner, inner), Matrix::new(kernel, inner, width, width), out, width, true, threads);
}
