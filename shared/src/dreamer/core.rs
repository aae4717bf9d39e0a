//! The RSSM's recurrent core on slices, with copied weights: one step for a block of rows, forward and backward.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::rssm::Parts;
use crate::kernels::factor::{Factor, add_gradient};
use crate::kernels::matmul::Matrix;
use crate::kernels::stack::Dense;
use crate::kernels::{
    Precision, add_columns, gru_backward, gru_step, rms_silu_rows_backward, rms_silu_to, with_weight,
};

/// Weights of the core: three inputs, a block-diagonal hidden layer, block-diagonal gates.
pub(super) struct Core {
    pub deter: usize,
    blocks: usize,
    inputs: [Dense; 3],
    /// Per block [deter/g, deter/g]: from the block of deter itself.
    own: Vec<Factor>,
    /// [3 * hidden, deter]: from what all blocks share.
    shared: Factor,
    bias: Vec<f32>,
    norm: (Vec<f32>, f32),
    /// Per block [deter/g, 3 * deter/g].
    gates: Vec<Factor>,
    gates_bias: Vec<f32>,
    precision: Precision,
    /// The same weights as parts of the graph, in the order of [`CoreGrads::flat`].
    source: Vec<Tensor>,
}

/// What the layers gave before norm and activation, or the gradients with respect to that: one row per step and state.
pub(super) struct CoreStep {
    /// [rows, hidden] each.
    embedded: [Vec<f32>; 3],
    /// [rows, deter].
    hidden: Vec<f32>,
    /// [rows, 3 * deter].
    gates: Vec<f32>,
}

/// What goes into a step: one row per state, with the step between two rows.
#[derive(Clone, Copy)]
pub(super) struct CoreInput<'a> {
    /// deter, then stoch.
    pub features: (&'a [f32], usize),
    pub action: (&'a [f32], usize),
}

/// Buffers of a step, to be used again.
#[derive(Default)]
pub(super) struct CoreScratch {
    shared: Vec<f32>,
    hidden: Vec<f32>,
}

/// Gradients with respect to what goes into a step.
#[derive(Default)]
pub(super) struct CoreBack {
    /// [rows, deter].
    pub deter: Vec<f32>,
    /// [rows, stoch].
    pub stoch: Vec<f32>,
}

/// Gradients of the core's weights.
pub(super) struct CoreGrads {
    inputs: [Vec<f32>; 3],
    own: Vec<f32>,
    shared: Vec<f32>,
    bias: Vec<f32>,
    scale: Vec<f32>,
    gates: Vec<f32>,
    gates_bias: Vec<f32>,
}

impl Core {
    /// None if the network has other layers than the official configs.
    pub fn new(parts: &Parts) -> Result<Option<Self>> {
        let [(hidden, norm)] = parts.hidden else { return Ok(None) };
        let dense = |i: usize| parts.inputs[i].0.dense_with(&parts.inputs[i].1);
        let (Some(first), Some(second), Some(third)) = (dense(0)?, dense(1)?, dense(2)?) else { return Ok(None) };
        let Some((scale, eps)) = norm.rms_silu() else { return Ok(None) };
        let ((kernel, bias), (gates, gates_bias)) = (hidden.weights(), parts.gates.weights());
        let [blocks, inputs, outputs] = [0, 1, 2].map(|i| kernel.shape()[i]);
        let (mut own, mut shared) = (vec![], vec![0.0; (inputs - outputs) * outputs * blocks]);
        with_weight(kernel, |kernel| {
            for (g, block) in kernel.chunks_exact(inputs * outputs).enumerate() {
                let (first, rest) = block.split_at(outputs * outputs);
                own.extend_from_slice(first);
                for (i, row) in rest.chunks_exact(outputs).enumerate() {
                    shared[(i * blocks + g) * outputs..][..outputs].copy_from_slice(row);
                }
            }
        })?;
        let copy = |weight| with_weight(weight, <[f32]>::to_vec);
        let precision = parts.precision;
        let rounded = |mut values: Vec<f32>| {
            precision.round(&mut values);
            values
        };
        // One [outputs, width] per block.
        let factors = |values: Vec<f32>, width: usize| -> Vec<Factor> {
            values.chunks_exact(outputs * width).map(|block| Factor::new(block.to_vec(), width, precision)).collect()
        };
        let inputs = [first, second, third];
        let mut source: Vec<Tensor> = inputs.iter().flat_map(Dense::source).cloned().collect();
        for weight in [kernel, bias, scale, gates, gates_bias] {
            source.push(weight.tensor()?);
        }
        Ok(Some(Self {
            deter: outputs * blocks,
            blocks,
            inputs,
            own: factors(own, outputs),
            shared: Factor::new(shared, outputs * blocks, precision),
            bias: rounded(copy(bias)?),
            norm: (copy(scale)?, eps),
            gates: factors(copy(gates)?, 3 * outputs),
            gates_bias: rounded(copy(gates_bias)?),
            precision,
            source,
        }))
    }

    /// The weights as parts of the graph.
    pub fn source(&self) -> &[Tensor] {
        &self.source
    }

    fn units(&self) -> usize {
        self.inputs[0].outputs()
    }

    /// Width of a block.
    fn size(&self) -> usize {
        self.deter / self.blocks
    }

    /// What each of the three inputs sees.
    fn seen<'a>(&self, input: CoreInput<'a>) -> [(&'a [f32], usize); 3] {
        let (features, width) = input.features;
        [(features, width), (&features[self.deter..], width), input.action]
    }

    /// Room for `rows` rows.
    pub fn steps(&self, rows: usize) -> CoreStep {
        CoreStep {
            embedded: [(); 3].map(|()| vec![0.0; rows * self.units()]),
            hidden: vec![0.0; rows * self.deter],
            gates: vec![0.0; 3 * rows * self.deter],
        }
    }

    /// One step, kept in the rows `at` of `steps`: the next deter into the first columns of `next`, whose rows are as far apart as
    /// the features'.
    pub fn forward(
        &self,
        input: CoreInput,
        (steps, at): (&mut CoreStep, Range<usize>),
        next: &mut [f32],
        scratch: &mut CoreScratch,
    ) {
        let CoreScratch { shared, hidden } = scratch;
        let (deter, size, rows, (features, width)) = (self.deter, self.size(), at.len(), input.features);
        for ((dense, seen), out) in self.inputs.iter().zip(self.seen(input)).zip(&mut steps.embedded) {
            dense.linear(seen, rows_of_mut(out, &at, self.units()));
        }
        self.embed(steps, at.clone(), shared);
        let linear = rows_of_mut(&mut steps.hidden, &at, deter);
        repeat(&self.bias, linear);
        let embedded = Matrix::new(shared, rows, 3 * self.units(), 3 * self.units());
        self.shared.forward(embedded, linear, deter, true);
        for g in 0..self.blocks {
            let block = Matrix::new(&features[g * size..], rows, size, width);
            self.own[g].forward(block, &mut linear[g * size..], deter, true);
        }
        self.precision.round(linear);
        self.activate(steps, at.clone(), hidden);
        let gates = rows_of_mut(&mut steps.gates, &at, 3 * deter);
        repeat(&self.gates_bias, gates);
        for g in 0..self.blocks {
            let block = Matrix::new(&hidden[g * size..], rows, size, deter);
            self.gates[g].forward(block, &mut gates[3 * g * size..], 3 * deter, true);
        }
        self.precision.round(gates);
        let rows = next.chunks_mut(width).zip(gates.chunks_exact(3 * deter)).zip(features.chunks(width));
        rows.for_each(|((next, gates), before)| {
            gru_step(gates, &before[..deter], size, &mut next[..deter]);
            self.precision.round(&mut next[..deter]);
        });
    }

    /// The three inputs after norm and activation, side by side [R, 3 * hidden].
    fn embed(&self, steps: &CoreStep, at: Range<usize>, out: &mut Vec<f32>) {
        let units = self.units();
        out.resize(3 * at.len() * units, 0.0);
        for (i, (dense, embedded)) in self.inputs.iter().zip(&steps.embedded).enumerate() {
            dense.activate_to(rows_of(embedded, &at, units), &mut out[i * units..], 3 * units);
        }
    }

    /// The hidden layer after norm and activation, [R, deter].
    fn activate(&self, steps: &CoreStep, at: Range<usize>, out: &mut Vec<f32>) {
        out.resize(at.len() * self.deter, 0.0);
        rms_silu_to(rows_of(&steps.hidden, &at, self.deter), &self.norm.0, self.norm.1, out, self.deter);
        self.precision.round(out);
    }

    /// From the gradient `d` [R, deter] of the next deter to those of the rows `at` of `steps`, into `back`, and of the input, into
    /// `input_back`; adds to the norms' gradients.
    pub fn backward(
        &self,
        input: CoreInput,
        (steps, back, at): (&CoreStep, &mut CoreStep, Range<usize>),
        d: &[f32],
        input_back: &mut CoreBack,
        grads: &mut CoreGrads,
    ) {
        let (deter, size, units) = (self.deter, self.size(), self.units());
        let (rows, (features, width)) = (at.len(), input.features);
        input_back.deter.resize(rows * deter, 0.0);
        let gates = rows_of_mut(&mut back.gates, &at, 3 * deter);
        let given = rows_of(&steps.gates, &at, 3 * deter);
        for (r, d) in d.chunks_exact(deter).enumerate() {
            let (before, dgates) = (&features[r * width..][..deter], &mut gates[3 * r * deter..][..3 * deter]);
            let given = &given[3 * r * deter..][..3 * deter];
            gru_backward(given, before, d, size, dgates, &mut input_back.deter[r * deter..][..deter]);
        }
        let hidden = rows_of_mut(&mut back.hidden, &at, deter);
        for g in 0..self.blocks {
            let block = Matrix::new(&gates[3 * g * size..], rows, 3 * size, 3 * deter);
            self.gates[g].backward(block, &mut hidden[g * size..], deter, false);
        }
        let linear = rows_of(&steps.hidden, &at, deter);
        rms_silu_rows_backward(linear, &self.norm.0, self.norm.1, hidden, &mut grads.scale);
        for g in 0..self.blocks {
            let block = Matrix::new(&hidden[g * size..], rows, size, deter);
            self.own[g].backward(block, &mut input_back.deter[g * size..], deter, true);
        }
        let mut shared = vec![0.0; 3 * rows * units];
        self.shared.backward(Matrix::new(hidden, rows, deter, deter), &mut shared, 3 * units, false);
        for (i, dense) in self.inputs.iter().enumerate() {
            let embedded = rows_of_mut(&mut back.embedded[i], &at, units);
            for (to, from) in embedded.chunks_exact_mut(units).zip(shared.chunks_exact(3 * units)) {
                to.copy_from_slice(&from[i * units..][..units]);
            }
            dense.activate_backward(rows_of(&steps.embedded[i], &at, units), embedded, &mut grads.inputs[i]);
        }
        self.inputs[0].backward_input(rows_of(&back.embedded[0], &at, units), &mut input_back.deter, true);
        input_back.stoch.resize(rows * self.inputs[1].inputs(), 0.0);
        self.inputs[1].backward_input(rows_of(&back.embedded[1], &at, units), &mut input_back.stoch, false);
    }

    /// Adds to the gradients of kernels and biases, from all rows of `steps` and `back`.
    pub fn weight_gradients(&self, input: CoreInput, steps: &CoreStep, back: &CoreStep, grads: &mut CoreGrads) {
        let (deter, size, units) = (self.deter, self.size(), self.units());
        let (rows, (features, width)) = (steps.hidden.len() / deter, input.features);
        let (mut shared, mut activated) = (vec![], vec![]);
        self.embed(steps, 0..rows, &mut shared);
        self.activate(steps, 0..rows, &mut activated);
        for (i, (dense, seen)) in self.inputs.iter().zip(self.seen(input)).enumerate() {
            dense.weight_gradients(seen, &back.embedded[i], &mut grads.inputs[i]);
        }
        let d = Matrix::new(&back.hidden, rows, deter, deter);
        let embedded = Matrix::new(&shared, rows, 3 * units, 3 * units);
        add_gradient(embedded, d, &mut grads.shared, deter, self.precision);
        for g in 0..self.blocks {
            let (own, dgates) = (&mut grads.own[g * size * size..], &mut grads.gates[3 * g * size * size..]);
            let d = Matrix::new(&back.hidden[g * size..], rows, size, deter);
            add_gradient(Matrix::new(&features[g * size..], rows, size, width), d, own, size, self.precision);
            let d = Matrix::new(&back.gates[3 * g * size..], rows, 3 * size, 3 * deter);
            let hidden = Matrix::new(&activated[g * size..], rows, size, deter);
            add_gradient(hidden, d, dgates, 3 * size, self.precision);
        }
        add_columns(&back.hidden, &mut grads.bias);
        add_columns(&back.gates, &mut grads.gates_bias);
    }

    /// Zeros.
    pub fn grads(&self) -> CoreGrads {
        CoreGrads {
            inputs: [0, 1, 2].map(|i| vec![0.0; self.inputs[i].parameters()]),
            own: vec![0.0; self.deter * self.size()],
            shared: vec![0.0; 3 * self.units() * self.deter],
            bias: vec![0.0; self.bias.len()],
            scale: vec![0.0; self.bias.len()],
            gates: vec![0.0; 3 * self.deter * self.size()],
            gates_bias: vec![0.0; 3 * self.deter],
        }
    }
}

impl CoreGrads {
    /// In the order of [`Core::source`].
    pub fn flat(&self, core: &Core, out: &mut Vec<f32>) {
        self.inputs.iter().for_each(|input| out.extend_from_slice(input));
        let (size, units) = (core.size(), core.units());
        for (g, own) in self.own.chunks_exact(size * size).enumerate() {
            out.extend_from_slice(own);
            let rows = (0..3 * units).map(|i| &self.shared[i * core.deter + g * size..][..size]);
            rows.for_each(|row| out.extend_from_slice(row));
        }
        [&self.bias, &self.scale, &self.gates, &self.gates_bias]
            .into_iter()
            .for_each(|part| out.extend_from_slice(part));
    }
}

/// The same row everywhere.
pub(super) fn repeat(row: &[f32], out: &mut [f32]) {
    out.chunks_exact_mut(row.len()).for_each(|out| out.copy_from_slice(row));
}

/// Rows of a matrix with this width.
pub(super) fn rows_of<'a>(x: &'a [f32], at: &Range<usize>, width: usize) -> &'a [f32] {
    &x[at.start * width..at.end * width]
}

/// Rows of a matrix with this width.
pub(super) fn rows_of_mut<'a>(x: &'a mut [f32], at: &Range<usize>, width: usize) -> &'a mut [f32] {
    &mut x[at.start * width..at.end * width]
}
