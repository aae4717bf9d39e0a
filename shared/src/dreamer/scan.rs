//! Observing along time as one operation: all steps of a few rows of the batch on one thread, weight gradients taken after the last
//! step as single products.

use std::ops::Range;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::core::{Core, CoreBack, CoreGrads, CoreInput, CoreScratch, CoreStep, repeat, rows_of, rows_of_mut};
use super::rssm::{Rssm, State};
use crate::dist::Draws;
use crate::kernels::factor::{Factor, add_gradient};
use crate::kernels::matmul::Matrix;
use crate::kernels::stack::Dense;
use crate::kernels::{Precision, add_columns, joined, one_hot_backward, one_hot_rows, read, record, sum_of};

/// Rows of the batch that one thread takes through time: few enough for every core to get some, enough to use each weight well.
const ROWS: usize = 8;

/// What is observed, row by row of the batch: [B, T, …] each, except for the state before the first step [B, …].
pub struct Observations<'a> {
    /// State before the first step.
    pub state: &'a State,
    /// Encoded observations, [B, T, W].
    pub tokens: &'a Tensor,
    /// Embedded previous actions, masked, [B, T, A].
    pub actions: &'a Tensor,
    /// 0 where an episode begins, [B, T, 1].
    pub keep: &'a Tensor,
}

/// The posterior along time.
pub struct Observed {
    /// [B, T, …].
    pub posterior: State,
    /// Raw logits, [B, T, stoch, classes].
    pub logits: Tensor,
    /// After the last step, without gradient, [B, …].
    pub last: State,
}

impl Rssm {
    /// All T steps of B rows.
    pub fn observe_all(&self, seen: &Observations, draws: &mut dyn Draws) -> Result<Observed> {
        let parts = self.parts();
        let scan = match (Core::new(&parts)?, parts.posterior) {
            (Some(core), (mlp, last)) if !parts.absolute => match mlp.denses()?.as_deref() {
                Some([first]) => {
                    let (unimix, precision) = (parts.unimix, parts.precision);
                    let (first, deter) = (first.clone(), core.deter);
                    let seen = [first.part(0..deter), first.part(deter..first.inputs())];
                    Some(Scan { core, first, seen, last: last.dense()?, unimix, precision })
                }
                _ => None,
            },
            _ => None,
        };
        match scan {
            Some(scan) => scan.run(seen, parts.stoch, parts.classes, draws),
            None => self.observe_plainly(seen, draws),
        }
    }

    /// Step by step, with any layers.
    pub(super) fn observe_plainly(&self, seen: &Observations, draws: &mut dyn Draws) -> Result<Observed> {
        let mut last = seen.state.clone();
        let (mut deters, mut stochs, mut logits) = (vec![], vec![], vec![]);
        for i in 0..seen.tokens.dim(1)? {
            let at = |x: &Tensor| x.narrow(1, i, 1)?.squeeze(1);
            let (next, logit) = self.observe(&last, &at(seen.actions)?, &at(seen.tokens)?, &at(seen.keep)?, draws)?;
            deters.push(next.deter.clone());
            stochs.push(next.stoch.clone());
            logits.push(logit);
            last = next;
        }
        let posterior = State { deter: Tensor::stack(&deters, 1)?, stoch: Tensor::stack(&stochs, 1)? };
        Ok(Observed { posterior, logits: Tensor::stack(&logits, 1)?, last: last.detach() })
    }
}

/// The layers of an observed step, with copied weights.
struct Scan {
    core: Core,
    first: Dense,
    /// The rows of the first layer's kernel for deter, and those for tokens.
    seen: [Factor; 2],
    last: Dense,
    unimix: f32,
    precision: Precision,
}

/// Extents of a scan: rows, steps, and numbers per row and step.
#[derive(Clone, Copy)]
struct Extent {
    steps: usize,
    deter: usize,
    latent: usize,
    classes: usize,
    tokens: usize,
    actions: usize,
}

/// A few rows of what goes in, [rows, T, …] each.
struct Part<'a> {
    rows: usize,
    deter: &'a [f32],
    stoch: &'a [f32],
    tokens: &'a [f32],
    actions: &'a [f32],
    keep: &'a [f32],
    /// Per step, [rows, latent].
    noise: Vec<&'a [f32]>,
}

/// What the steps of a part left behind; the rows of a step after those of the step before.
struct Trace {
    rows: usize,
    /// Tokens and actions in this order.
    tokens: Vec<f32>,
    actions: Vec<f32>,
    keep: Vec<f32>,
    /// Masked features that went in, and features that came out.
    before: Vec<f32>,
    after: Vec<f32>,
    core: CoreStep,
    /// The posterior's layer before norm and activation, and after.
    linear: Vec<f32>,
    active: Vec<f32>,
    logits: Vec<f32>,
}

impl Scan {
    fn run(self, seen: &Observations, stoch: usize, classes: usize, draws: &mut dyn Draws) -> Result<Observed> {
        let (b, t, tokens) = seen.tokens.dims3()?;
        let (deter, latent) = (self.core.deter, stoch * classes);
        let extent = Extent { steps: t, deter, latent, classes, tokens, actions: seen.actions.dim(2)? };
        let noise: Vec<Vec<f32>> = (0..t).map(|_| draws.gumbel(&[b, stoch, classes])).collect();
        let copy = |x: &Tensor| read(x, <[f32]>::to_vec);
        let (first_deter, first_stoch) = (copy(&seen.state.deter)?, copy(&seen.state.stoch)?);
        let (given, actions, keep) =
            (copy(seen.tokens)?, copy(&self.precision.rounded(seen.actions)?)?, copy(seen.keep)?);
        let part = |first: usize| {
            let at = first..b.min(first + ROWS);
            let along = |x, width: usize| rows_of(x, &at, t * width);
            Part {
                rows: at.len(),
                deter: rows_of(&first_deter, &at, deter),
                stoch: rows_of(&first_stoch, &at, latent),
                tokens: along(&given, tokens),
                actions: along(&actions, extent.actions),
                keep: along(&keep, 1),
                noise: noise.iter().map(|noise| rows_of(noise, &at, latent)).collect(),
            }
        };
        let parts: Vec<Part> = (0..b).step_by(ROWS).map(part).collect();
        let traces: Vec<Trace> = parts.into_par_iter().map(|part| self.forward(&part, extent)).collect();

        let width = deter + 2 * latent;
        let mut out = Vec::with_capacity(b * t * width);
        let mut end = (vec![], vec![]);
        for trace in &traces {
            for row in 0..trace.rows {
                for step in 0..t {
                    let at = step * trace.rows + row;
                    out.extend_from_slice(&trace.after[at * (deter + latent)..][..deter + latent]);
                    out.extend_from_slice(&trace.logits[at * latent..][..latent]);
                }
                let (deter, stoch) = out[out.len() - width..out.len() - latent].split_at(deter);
                end.0.extend_from_slice(deter);
                end.1.extend_from_slice(stoch);
            }
        }
        let device = seen.tokens.device();
        let last = State {
            deter: Tensor::from_vec(end.0, (b, deter), device)?,
            stoch: Tensor::from_vec(end.1, (b, stoch, classes), device)?,
        };
        let sources = self.core.source().iter().chain(self.first.source()).chain(self.last.source());
        let flat = joined(sources)?;
        let backward = move |d: &[f32]| Ok(self.backward_all(&traces, extent, d));
        let out = record(&[Some(seen.tokens.clone()), Some(flat)], out, (b, t, width), Box::new(backward))?;
        let latents = |start| out.narrow(2, start, latent)?.reshape((b, t, stoch, classes));
        let posterior = State { deter: out.narrow(2, 0, deter)?, stoch: latents(deter)? };
        Ok(Observed { posterior, logits: latents(deter + latent)?, last })
    }

    fn forward(&self, part: &Part, extent: Extent) -> Trace {
        let Extent { steps, deter, latent, classes, .. } = extent;
        let (rows, all, width) = (part.rows, part.rows * steps, deter + latent);
        let hidden = self.first.outputs();
        let mut trace = Trace {
            rows,
            tokens: by_step(part.tokens, rows, extent.tokens),
            actions: by_step(part.actions, rows, extent.actions),
            keep: by_step(part.keep, rows, 1),
            before: vec![0.0; all * width],
            after: vec![0.0; all * width],
            core: self.core.steps(all),
            linear: vec![0.0; all * hidden],
            active: vec![0.0; all * hidden],
            logits: vec![0.0; all * latent],
        };
        // What the posterior's layer makes of the tokens depends on no state.
        repeat(self.first.bias(), &mut trace.linear);
        let tokens = Matrix::new(&trace.tokens, all, extent.tokens, extent.tokens);
        self.seen[1].forward(tokens, &mut trace.linear, hidden, true);
        let (mut scratch, mut sampling) = (CoreScratch::default(), Default::default());
        for step in 0..steps {
            let at = step * rows..(step + 1) * rows;
            for row in 0..rows {
                let before = &mut trace.before[(at.start + row) * width..][..width];
                match step {
                    0 => {
                        before[..deter].copy_from_slice(&part.deter[row * deter..][..deter]);
                        before[deter..].copy_from_slice(&part.stoch[row * latent..][..latent]);
                    }
                    _ => before.copy_from_slice(&trace.after[(at.start - rows + row) * width..][..width]),
                }
                let keep = trace.keep[at.start + row];
                before.iter_mut().for_each(|x| *x *= keep);
            }
            let input = trace_input(&trace.before, &trace.actions, &at, width, extent.actions);
            let after = rows_of_mut(&mut trace.after, &at, width);
            self.core.forward(input, (&mut trace.core, at.clone()), after, &mut scratch);
            let linear = rows_of_mut(&mut trace.linear, &at, hidden);
            self.seen[0].forward(Matrix::new(after, rows, deter, width), linear, hidden, true);
            self.precision.round(linear);
            let active = rows_of_mut(&mut trace.active, &at, hidden);
            self.first.activate_to(linear, active, hidden);
            let logits = rows_of_mut(&mut trace.logits, &at, latent);
            self.last.linear((active, hidden), logits);
            let latents = (&mut after[deter..], width);
            one_hot_rows((logits, latent), classes, self.unimix, part.noise[step], latents, &mut sampling);
        }
        trace
    }

    /// Gradients of tokens [B, T, W] and of all weights, from `d` [B, T, deter + latent + latent].
    fn backward_all(&self, traces: &[Trace], extent: Extent, d: &[f32]) -> Vec<Option<Vec<f32>>> {
        let width = extent.steps * (extent.deter + 2 * extent.latent);
        let mut starts = vec![0];
        traces.iter().for_each(|trace| starts.push(starts[starts.len() - 1] + trace.rows * width));
        let parts = traces.par_iter().zip(starts.par_iter());
        let gradients: Vec<(Vec<f32>, Vec<f32>)> =
            parts.map(|(trace, start)| self.backward(trace, extent, &d[*start..][..trace.rows * width])).collect();
        let (tokens, weights): (Vec<_>, Vec<_>) = gradients.into_iter().unzip();
        vec![Some(tokens.concat()), Some(sum_of(weights))]
    }

    /// Gradients of tokens [rows, T, W] and weights of one part.
    fn backward(&self, trace: &Trace, extent: Extent, d: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let Extent { steps, deter, latent, classes, .. } = extent;
        let (rows, width, hidden) = (trace.rows, deter + latent, self.first.outputs());
        let d = by_step(d, rows, width + latent);
        let mut core: CoreGrads = self.core.grads();
        let [mut first, mut last] = [&self.first, &self.last].map(|layer| vec![0.0; layer.parameters()]);
        let mut back = self.core.steps(rows * steps);
        let (mut linear, mut logits) = (vec![0.0; trace.linear.len()], vec![0.0; trace.logits.len()]);
        let (mut carried, mut d_deter) = (CoreBack::default(), vec![0.0; rows * deter]);
        carried.deter.resize(rows * deter, 0.0);
        carried.stoch.resize(rows * latent, 0.0);
        for step in (0..steps).rev() {
            let at = step * rows..(step + 1) * rows;
            // The step's own gradients, and what the next step adds to those of its features.
            for row in 0..rows {
                let d = &d[(at.start + row) * (width + latent)..][..width + latent];
                let stoch = &mut carried.stoch[row * latent..][..latent];
                sum(&mut d_deter[row * deter..][..deter], &d[..deter], &carried.deter[row * deter..][..deter]);
                stoch.iter_mut().zip(&d[deter..width]).for_each(|(carried, d)| *carried += d);
                logits[(at.start + row) * latent..][..latent].copy_from_slice(&d[width..]);
            }
            let d_logits = rows_of_mut(&mut logits, &at, latent);
            one_hot_backward(rows_of(&trace.logits, &at, latent), classes, self.unimix, &carried.stoch, d_logits);
            let d_linear = rows_of_mut(&mut linear, &at, hidden);
            self.last.backward_input(d_logits, d_linear, false);
            self.first.activate_backward(rows_of(&trace.linear, &at, hidden), d_linear, &mut first);
            let from = Matrix::new(d_linear, rows, hidden, hidden);
            self.seen[0].backward(from, &mut d_deter, deter, true);
            let input = trace_input(&trace.before, &trace.actions, &at, width, extent.actions);
            let steps = (&trace.core, &mut back, at.clone());
            self.core.backward(input, steps, &d_deter, &mut carried, &mut core);
            for (row, keep) in rows_of(&trace.keep, &at, 1).iter().enumerate() {
                carried.deter[row * deter..][..deter].iter_mut().for_each(|d| *d *= keep);
                carried.stoch[row * latent..][..latent].iter_mut().for_each(|d| *d *= keep);
            }
        }
        let all = 0..rows * steps;
        let input = trace_input(&trace.before, &trace.actions, &all, width, extent.actions);
        self.core.weight_gradients(input, &trace.core, &back, &mut core);
        self.last.weight_gradients((&trace.active, hidden), &logits, &mut last);
        let tokens = self.token_gradients(trace, extent, &linear, &mut first);
        let mut flat = vec![];
        core.flat(&self.core, &mut flat);
        flat.extend(first);
        flat.extend(last);
        (tokens, flat)
    }

    /// From the gradient of the posterior's layer [T * rows, hidden]: adds to those of its kernel and bias, returns that of the tokens
    /// [rows, T, W].
    fn token_gradients(&self, trace: &Trace, extent: Extent, linear: &[f32], grads: &mut [f32]) -> Vec<f32> {
        let (deter, hidden, all) = (extent.deter, self.first.outputs(), trace.rows * extent.steps);
        let d = Matrix::new(linear, all, hidden, hidden);
        let after = Matrix::new(&trace.after, all, deter, deter + extent.latent);
        add_gradient(after, d, grads, hidden, self.precision);
        let tokens = Matrix::new(&trace.tokens, all, extent.tokens, extent.tokens);
        add_gradient(tokens, d, &mut grads[deter * hidden..], hidden, self.precision);
        add_columns(linear, &mut grads[(deter + extent.tokens) * hidden..][..hidden]);
        let mut out = vec![0.0; all * extent.tokens];
        self.seen[1].backward(d, &mut out, extent.tokens, false);
        by_step(&out, extent.steps, extent.tokens)
    }
}

fn trace_input<'a>(
    before: &'a [f32],
    actions: &'a [f32],
    at: &Range<usize>,
    width: usize,
    embedded: usize,
) -> CoreInput<'a> {
    CoreInput { features: (rows_of(before, at, width), width), action: (rows_of(actions, at, embedded), embedded) }
}

/// [M, N, width] as [N, M, width].
fn by_step(x: &[f32], m: usize, width: usize) -> Vec<f32> {
    let n = x.len() / (m * width).max(1);
    let mut out = Vec::with_capacity(x.len());
    for j in 0..n {
        (0..m).for_each(|i| out.extend_from_slice(&x[(i * n + j) * width..][..width]));
    }
    out
}

fn sum(out: &mut [f32], a: &[f32], b: &[f32]) {
    out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a + b);
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::config::Config;
    use crate::dist::Seeded;
    use crate::kernels::Precision;
    use crate::kernels::testing::{assert_close, noise};
    use crate::params::{Params, Scope};

    const SHAPE: [usize; 2] = [ROWS + 3, 5];
    const TOKENS: usize = 7;

    /// A weighted sum of everything that is observed.
    fn sum(observed: &Observed) -> Tensor {
        let parts = [&observed.posterior.deter, &observed.posterior.stoch, &observed.logits];
        let weighted =
            parts.into_iter().zip(20..).map(|(x, seed)| (x * noise(seed, x.dims())).unwrap().sum_all().unwrap());
        weighted.reduce(|a, b| (a + b).unwrap()).unwrap()
    }

    #[test]
    fn all_steps_at_once_are_the_steps_one_by_one() {
        let config = Config::load(&["size1m"], &[] as &[&str]).unwrap().agent().dynamics.rssm;
        let params = Params::new(4);
        let rssm = Rssm::new(&Scope::root(&params), &config, Precision::Float32, 2, TOKENS).unwrap();
        let params = params.seal().unwrap();
        let [b, t] = SHAPE;
        let tokens = Var::from_tensor(&noise(1, &[b, t, TOKENS])).unwrap();
        let state = State {
            deter: noise(2, &[b, config.deter]).tanh().unwrap(),
            stoch: noise(3, &[b, config.stoch, config.classes]),
        };
        let keep: Vec<f32> = (0..b * t).map(|i| (i % 4 != 2) as u8 as f32).collect();
        let keep = Tensor::from_vec(keep, (b, t, 1), &Device::Cpu).unwrap();
        let seen = Observations { state: &state, tokens: &tokens, actions: &noise(5, &[b, t, 2]), keep: &keep };
        let fast = rssm.observe_all(&seen, &mut Seeded::new(6)).unwrap();
        let slow = rssm.observe_plainly(&seen, &mut Seeded::new(6)).unwrap();
        assert_close("deter", &fast.posterior.deter, &slow.posterior.deter);
        assert_close("stoch", &fast.posterior.stoch, &slow.posterior.stoch);
        assert_close("logits", &fast.logits, &slow.logits);
        assert_close("last deter", &fast.last.deter, &slow.last.deter);
        assert_close("last stoch", &fast.last.stoch, &slow.last.stoch);
        let (fast, slow) = (sum(&fast).backward().unwrap(), sum(&slow).backward().unwrap());
        assert_close("tokens", fast.get(&tokens).unwrap(), slow.get(&tokens).unwrap());
        for (path, var) in params.trainable() {
            // What only the prior has gets no gradient from either.
            if let Some(expected) = slow.get(&var) {
                assert_close(&path, fast.get(&var).unwrap(), expected);
            }
        }
    }
}
