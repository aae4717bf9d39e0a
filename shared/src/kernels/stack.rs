//! Linear maps, RMS norms and SiLUs one after another, in blocks of rows that stay in cache, each block on one thread from end to
//! end.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::factor::{Factor, add_gradient};
use super::linear::add_columns;
use super::matmul::Matrix;
use super::precision::Precision;
use super::record::{joined, read, record};
use super::rms_silu::{rms_silu_rows, rms_silu_rows_backward, rms_silu_to};
use super::row_loss::RowLoss;
use crate::params::Weight;

/// Rows that one thread takes through a stack at a time.
pub const BLOCK: usize = 256;
/// Sums over rows are taken in this many parts, however many threads there are: results do not depend on their number.
const PARTS: usize = 8;

/// A linear map, with RMS norm and SiLU after it or without.
#[derive(Clone, Debug)]
pub struct Dense {
    kernel: Factor,
    bias: Vec<f32>,
    norm: Option<(Vec<f32>, f32)>,
    /// Kernel, bias and scale as parts of the graph.
    source: Vec<Tensor>,
    precision: Precision,
}

impl Dense {
    /// Copies `kernel` [inputs, outputs], `bias` [outputs], and `norm`: scale [outputs] and epsilon.
    pub fn new(kernel: &Weight, bias: &Weight, norm: Option<(&Weight, f32)>, precision: Precision) -> Result<Self> {
        let mut source = vec![kernel.tensor()?, bias.tensor()?];
        if let Some((scale, _)) = norm {
            source.push(scale.tensor()?);
        }
        Self::from_source(source, norm.map(|(_, eps)| eps), precision)
    }

    /// Maps of the same inputs, without norms, as one: their outputs side by side.
    pub fn joined(parts: &[Dense]) -> Result<Self> {
        let kernels: Vec<&Tensor> = parts.iter().map(|part| &part.source[0]).collect();
        let biases: Vec<&Tensor> = parts.iter().map(|part| &part.source[1]).collect();
        let precision = parts.first().map_or(Precision::Float32, |part| part.precision);
        Self::from_source(vec![Tensor::cat(&kernels, 1)?, Tensor::cat(&biases, 0)?], None, precision)
    }

    fn from_source(source: Vec<Tensor>, eps: Option<f32>, precision: Precision) -> Result<Self> {
        let copy = |tensor: &Tensor| read(tensor, <[f32]>::to_vec);
        let norm = source.get(2).zip(eps).map(|(scale, eps)| Ok::<_, candle_core::Error>((copy(scale)?, eps)));
        let mut bias = copy(&source[1])?;
        precision.round(&mut bias);
        let kernel = Factor::new(copy(&source[0])?, bias.len(), precision);
        Ok(Self { kernel, bias, norm: norm.transpose()?, source, precision })
    }

    /// Numbers per row that go in.
    pub fn inputs(&self) -> usize {
        self.kernel.shape().0
    }

    /// Numbers per row that come out.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Kernel, bias and scale as parts of the graph.
    pub(crate) fn source(&self) -> &[Tensor] {
        &self.source
    }

    /// `rows` rows of `x`, `stride` numbers apart, to `out` [rows, outputs].
    fn forward(&self, x: (&[f32], usize), rows: usize, out: &mut Vec<f32>) {
        out.resize(rows * self.outputs(), 0.0);
        self.linear(x, out);
        self.activate(out);
    }

    /// The linear map alone, [rows, outputs].
    fn linear_rows(&self, x: (&[f32], usize), rows: usize) -> Vec<f32> {
        let mut out = self.bias.repeat(rows);
        self.add_product(x, &mut out);
        out
    }

    /// The linear map alone.
    pub(crate) fn linear(&self, x: (&[f32], usize), out: &mut [f32]) {
        out.chunks_exact_mut(self.outputs()).for_each(|row| row.copy_from_slice(&self.bias));
        self.add_product(x, out);
    }

    fn add_product(&self, (x, stride): (&[f32], usize), out: &mut [f32]) {
        let x = Matrix::new(x, out.len() / self.outputs(), self.inputs(), stride);
        self.kernel.forward(x, out, self.outputs(), true);
        self.precision.round(out);
    }

    /// Norm and activation, in place.
    fn activate(&self, x: &mut [f32]) {
        if let Some((scale, eps)) = &self.norm {
            rms_silu_rows(x, scale, *eps);
            self.precision.round(x);
        }
    }

    /// Norm and activation of `x` [rows, outputs], into rows of `out` that are `stride` apart.
    pub(crate) fn activate_to(&self, x: &[f32], out: &mut [f32], stride: usize) {
        match &self.norm {
            Some((scale, eps)) => {
                rms_silu_to(x, scale, *eps, out, stride);
                out.chunks_mut(stride).for_each(|row| self.precision.round(&mut row[..scale.len()]));
            }
            None => {
                let rows = x.chunks_exact(self.outputs()).zip(out.chunks_mut(stride));
                rows.for_each(|(x, out)| out[..x.len()].copy_from_slice(x));
            }
        }
    }

    /// The rows `rows` of the kernel.
    pub(crate) fn part(&self, rows: std::ops::Range<usize>) -> Factor {
        self.kernel.part(rows)
    }

    /// The bias.
    pub(crate) fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Numbers in kernel, bias and scale.
    pub(crate) fn parameters(&self) -> usize {
        self.inputs() * self.outputs() + self.bias.len() + self.norm.as_ref().map_or(0, |(scale, _)| scale.len())
    }

    /// `d`, the gradient after norm and activation, becomes that of `linear`, the linear map's result. Adds to the scale's gradient,
    /// which lies in `grads` behind kernel and bias.
    pub(crate) fn activate_backward(&self, linear: &[f32], d: &mut [f32], grads: &mut [f32]) {
        if let Some((scale, eps)) = &self.norm {
            rms_silu_rows_backward(linear, scale, *eps, d, &mut grads[(self.inputs() + 1) * self.outputs()..]);
        }
    }

    /// From the gradient `d` of the linear map's result: adds to those of kernel and bias, at the start of `grads`.
    pub(crate) fn weight_gradients(&self, (x, stride): (&[f32], usize), d: &[f32], grads: &mut [f32]) {
        let (kernel, rest) = grads.split_at_mut(self.inputs() * self.outputs());
        let (width, rows) = (self.outputs(), d.len() / self.outputs());
        let x = Matrix::new(x, rows, self.inputs(), stride);
        add_gradient(x, Matrix::new(d, rows, width, width), kernel, width, self.precision);
        add_columns(d, &mut rest[..width]);
    }

    /// From the gradient of the linear map's result to that of its input, written or added to `out`.
    pub(crate) fn backward_input(&self, d: &[f32], out: &mut [f32], add: bool) {
        let (width, rows) = (self.outputs(), d.len() / self.outputs());
        self.kernel.backward(Matrix::new(d, rows, width, width), out, self.inputs(), add);
    }
}

/// Several [`Dense`] layers.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    layers: Vec<Dense>,
}

/// Buffers of a [`Stack`], to be used again.
#[derive(Default)]
pub struct StackScratch {
    now: Vec<f32>,
    next: Vec<f32>,
}

/// What a block of rows left behind on its way through a stack: rows `first`, `first + step`, … of an input.
pub struct Saved {
    first: usize,
    step: usize,
    rows: usize,
    /// What each layer's linear map gave.
    linear: Vec<Vec<f32>>,
}

impl Stack {
    /// These layers in their order.
    pub fn new(layers: Vec<Dense>) -> Self {
        Self { layers }
    }

    /// With one more layer at its end.
    pub fn then(mut self, layer: Dense) -> Self {
        self.layers.push(layer);
        self
    }

    /// Numbers per row that come out.
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, Dense::outputs)
    }

    /// `rows` rows of `x`, `stride` numbers apart; returns [rows, outputs].
    pub fn forward<'a>(&self, x: (&[f32], usize), rows: usize, scratch: &'a mut StackScratch) -> &'a [f32] {
        let StackScratch { now, next } = scratch;
        for (i, layer) in self.layers.iter().enumerate() {
            match i {
                0 => layer.forward(x, rows, next),
                _ => layer.forward((now, now.len() / rows), rows, next),
            }
            std::mem::swap(now, next);
        }
        now
    }

    /// The same for rows `first`, `first + step`, … of x [N, F], keeping what [`Pass`] needs. The last layer has no norm.
    pub fn forward_saving(&self, x: (&[f32], usize), [first, step, rows]: [usize; 3]) -> Saved {
        let mut saved = Saved { first, step, rows, linear: vec![] };
        let mut now = vec![];
        for (i, layer) in self.layers.iter().enumerate() {
            let seen = if i == 0 { saved.input(x) } else { (now.as_slice(), layer.inputs()) };
            let linear = layer.linear_rows(seen, rows);
            if layer.norm.is_some() {
                now.resize(linear.len(), 0.0);
                layer.activate_to(&linear, &mut now, layer.outputs());
            }
            saved.linear.push(linear);
        }
        saved
    }

    /// `f(row of the result)` for every row of x [N, stride], in blocks over all threads.
    pub fn map_rows<R: Send>(&self, x: &[f32], stride: usize, f: impl Fn(&[f32]) -> R + Sync) -> Vec<R> {
        let block = |x: &[f32]| -> Vec<R> {
            let rows = x.len() / stride;
            let mut scratch = StackScratch::default();
            let out = self.forward((x, stride), rows, &mut scratch);
            out.chunks_exact(out.len() / rows).map(&f).collect()
        };
        let blocks: Vec<Vec<R>> = x.par_chunks(BLOCK * stride).map(block).collect();
        blocks.into_iter().flatten().collect()
    }

    /// All rows of x [N, F], so that a loss can follow.
    pub fn pass(self, x: &Tensor) -> Result<Pass> {
        let (rows, width) = x.dims2()?;
        let blocks: Vec<usize> = (0..rows).step_by(BLOCK).collect();
        let saved = read(x, |x| {
            let block = |&first: &usize| self.forward_saving((x, width), [first, 1, BLOCK.min(rows - first)]);
            blocks.par_iter().map(block).collect()
        })?;
        Ok(Pass { stack: self, x: x.clone(), saved })
    }

    /// All parameters as one tensor, layer by layer.
    fn flat(&self) -> Result<Tensor> {
        joined(self.layers.iter().flat_map(|layer| &layer.source))
    }

    /// Adds to the parameters' gradients from `d`, the gradient of the result; returns that of the input if it is wanted.
    fn backward(
        &self,
        x: (&[f32], usize),
        saved: &Saved,
        mut d: Vec<f32>,
        grads: &mut [f32],
        wanted: bool,
    ) -> Option<Vec<f32>> {
        let mut end = grads.len();
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let grads = &mut grads[end - layer.parameters()..end];
            end -= layer.parameters();
            let seen = i.checked_sub(1).map(|before| {
                let mut seen = saved.linear[before].clone();
                self.layers[before].activate(&mut seen);
                seen
            });
            let input = seen.as_ref().map_or(saved.input(x), |seen| (seen, layer.inputs()));
            layer.activate_backward(&saved.linear[i], &mut d, grads);
            layer.weight_gradients(input, &d, grads);
            if i == 0 && !wanted {
                return None;
            }
            let mut before = vec![0.0; saved.rows * layer.inputs()];
            layer.backward_input(&d, &mut before, false);
            d = before;
        }
        Some(d)
    }
}

impl Saved {
    /// This block's rows of an input with this width, and how far they are apart.
    fn input<'a>(&self, (x, width): (&'a [f32], usize)) -> (&'a [f32], usize) {
        (&x[self.first * width..], self.step * width)
    }

    /// The same rows at another place of the input.
    pub fn placed(self, [first, step, rows]: [usize; 3]) -> Self {
        Self { first, step, rows, ..self }
    }

    /// What came out, [rows, outputs].
    pub fn outputs(&self) -> &[f32] {
        self.linear.last().map_or(&[], Vec::as_slice)
    }

    fn row(&self, i: usize) -> usize {
        self.first + i * self.step
    }
}

/// An input after its way through a stack, with what the way back needs.
pub struct Pass {
    stack: Stack,
    x: Tensor,
    saved: Vec<Saved>,
}

impl Pass {
    /// Of x [N, F]: each of its rows is in one of `saved`.
    pub fn new(stack: Stack, x: &Tensor, saved: Vec<Saved>) -> Self {
        Self { stack, x: x.clone(), saved }
    }

    fn rows(&self) -> usize {
        self.saved.iter().map(|saved| saved.rows).sum()
    }

    /// `f(n, row n of the result)` for every row.
    pub fn map_rows<R: Send + Clone + Default>(&self, f: impl Fn(usize, &[f32]) -> R + Sync) -> Vec<R> {
        let width = self.stack.outputs();
        let block = |saved: &Saved| -> Vec<R> {
            saved.outputs().chunks_exact(width).enumerate().map(|(i, row)| f(saved.row(i), row)).collect()
        };
        let blocks: Vec<Vec<R>> = self.saved.par_iter().map(block).collect();
        let mut values = vec![R::default(); self.rows()];
        for (saved, block) in self.saved.iter().zip(blocks) {
            block.into_iter().enumerate().for_each(|(i, value)| values[saved.row(i)] = value);
        }
        values
    }

    /// A number per row: `f(n, row, gradient)` returns the value of row n of the result and adds the gradient with respect to that
    /// row. Gradients reach the parameters, and the input if it has some.
    pub fn loss(&self, f: impl Fn(usize, &[f32], &mut [f32]) -> f32 + Sync) -> Result<RowLoss> {
        let (wanted, flat) = (self.x.track_op(), self.stack.flat()?);
        let width = self.x.dim(1)?;
        let parts: Vec<&[Saved]> = self.saved.chunks(self.saved.len().div_ceil(PARTS).max(1)).collect();
        let parts: Vec<Part> = read(&self.x, |x| {
            parts.into_par_iter().map(|blocks| self.part((x, width), blocks, flat.elem_count(), wanted, &f)).collect()
        })?;
        let mut values = vec![0.0; self.rows()];
        let mut grads = vec![0.0; flat.elem_count()];
        let mut dx = vec![0.0; if wanted { values.len() * width } else { 0 }];
        for part in parts {
            part.values.into_iter().for_each(|(n, value)| values[n] = value);
            part.dx.chunks_exact(width).zip(part.rows).for_each(|(d, n)| dx[n * width..][..width].copy_from_slice(d));
            grads.iter_mut().zip(part.grads).for_each(|(g, p)| *g += p);
        }
        let scaled = |values: &[f32], d: f32| Some(values.iter().map(|g| g * d).collect());
        let backward = move |d: &[f32]| Ok(vec![scaled(&dx, d[0]).filter(|_| wanted), scaled(&grads, d[0])]);
        let inputs = [wanted.then(|| self.x.clone()), Some(flat)];
        let sum = record(&inputs, vec![values.iter().sum()], (), Box::new(backward))?;
        Ok(RowLoss { values, sum })
    }

    fn part(
        &self,
        x: (&[f32], usize),
        blocks: &[Saved],
        parameters: usize,
        wanted: bool,
        f: &(impl Fn(usize, &[f32], &mut [f32]) -> f32 + Sync),
    ) -> Part {
        let mut part = Part { values: vec![], rows: vec![], dx: vec![], grads: vec![0.0; parameters] };
        let width = self.stack.outputs();
        for saved in blocks {
            let mut d = vec![0.0; saved.outputs().len()];
            let rows = saved.outputs().chunks_exact(width).zip(d.chunks_exact_mut(width)).enumerate();
            part.values.extend(rows.map(|(i, (row, d))| (saved.row(i), f(saved.row(i), row, d))));
            if let Some(dx) = self.stack.backward(x, saved, d, &mut part.grads, wanted) {
                part.dx.extend(dx);
                part.rows.extend((0..saved.rows).map(|i| saved.row(i)));
            }
        }
        part
    }
}

/// Values and gradients of some blocks.
struct Part {
    values: Vec<(usize, f32)>,
    /// Rows of `dx`.
    rows: Vec<usize>,
    dx: Vec<f32>,
    grads: Vec<f32>,
}
