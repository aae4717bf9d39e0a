//! DreamerV3's optimizer: adaptive gradient clipping per tensor, RMS normalisation, momentum of the normalised gradient,
//! decoupled weight decay, warm-up (official `opt.py`).
//!
//! It is given handles of trainable parameters and holds state for these alone: a frozen parameter cannot be reached.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;
use regex::Regex;
use shared::array::Array;
use shared::config::OptConfig;
use shared::kernels::read;

/// Why an optimizer was refused.
#[derive(Debug, thiserror::Error)]
pub enum OptError {
    /// An option that the optimizer does not have.
    #[error("agent.opt.{key} = {value} is not known; {help}")]
    Unknown {
        /// Which key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is possible.
        help: &'static str,
    },
    /// A pattern that selects nothing.
    #[error("agent.opt.wdregex `{pattern}` matches no trainable parameter; there are {existing}")]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// Modules that exist.
        existing: String,
    },
    /// Saved state that does not fit.
    #[error("optimizer state `{key}` is missing or does not fit its parameter")]
    State {
        /// Key of the state.
        key: String,
    },
    /// From candle.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// One trainable tensor with its state.
struct Slot {
    path: String,
    var: Var,
    decay: bool,
    mean_square: Vec<f32>,
    momentum: Vec<f32>,
}

/// Size of gradients, updates and parameters over all tensors of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepSize {
    /// Norm of the raw gradients.
    pub grad_norm: f32,
    /// Root mean square of the raw gradients.
    pub grad_rms: f32,
    /// Root mean square of the change.
    pub update_rms: f32,
    /// Root mean square of the parameters after it.
    pub param_rms: f32,
}

/// The optimizer.
pub struct Optimizer {
    config: OptConfig,
    slots: Vec<Slot>,
    step: u64,
}

impl Optimizer {
    /// An optimizer of these parameters, by path.
    pub fn new(config: &OptConfig, params: Vec<(String, Var)>) -> Result<Self, OptError> {
        if !["const", "linear", "cosine"].contains(&config.schedule.as_str()) {
            let help = "use const, linear or cosine";
            return Err(OptError::Unknown { key: "schedule", value: config.schedule.clone(), help });
        }
        if config.schedule != "const" && config.anneal <= config.warmup {
            let help = "a schedule other than const needs more steps than the warm-up";
            return Err(OptError::Unknown { key: "anneal", value: config.anneal.to_string(), help });
        }
        let pattern = Regex::new(&config.wdregex).map_err(|_| OptError::Unknown {
            key: "wdregex",
            value: config.wdregex.clone(),
            help: "it must be a regular expression",
        })?;
        let slot = |(path, var): (String, Var)| {
            let count = var.elem_count();
            let decay = config.wd != 0.0 && pattern.is_match(&path);
            Slot { path, var, decay, mean_square: vec![0.0; count], momentum: vec![0.0; count] }
        };
        let slots: Vec<Slot> = params.into_iter().map(slot).collect();
        if config.wd != 0.0 && !slots.iter().any(|s| s.decay) {
            let mut modules: Vec<&str> = slots.iter().filter_map(|s| s.path.split('/').next()).collect();
            modules.dedup();
            return Err(OptError::NoMatch { pattern: config.wdregex.clone(), existing: modules.join(", ") });
        }
        Ok(Self { config: config.clone(), slots, step: 0 })
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Number of parameters.
    pub fn count(&self) -> usize {
        self.slots.iter().map(|s| s.momentum.len()).sum()
    }

    /// Learning rate of the step that follows `n` steps.
    pub fn learning_rate(&self, n: u64) -> f64 {
        let c = &self.config;
        if n < c.warmup {
            return c.lr * n as f64 / c.warmup as f64;
        }
        let share = ((n - c.warmup) as f64 / (c.anneal.max(c.warmup + 1) - c.warmup) as f64).min(1.0);
        match c.schedule.as_str() {
            "linear" => c.lr * (1.0 - 0.9 * share),
            "cosine" => {
                // The official code passes 0.1 * lr where the library expects a fraction of lr.
                let least = 0.1 * c.lr;
                c.lr * (least + (1.0 - least) * 0.5 * (1.0 + (std::f64::consts::PI * share).cos()))
            }
            _ => c.lr,
        }
    }

    /// The gradients by path, in the order of the parameters; zeros where none arrived.
    pub fn gradients(&self, grads: &GradStore) -> Result<Vec<Vec<f32>>, OptError> {
        let gradient = |slot: &Slot| match grads.get(slot.var.as_tensor()) {
            Some(grad) => read(grad, <[f32]>::to_vec),
            None => Ok(vec![0.0; slot.momentum.len()]),
        };
        Ok(self.slots.iter().map(gradient).collect::<candle_core::Result<_>>()?)
    }

    /// Path of the first gradient with a value that is not finite.
    pub fn first_non_finite(&self, grads: &[Vec<f32>]) -> Option<&str> {
        let bad = |(_, grad): &(&Slot, &Vec<f32>)| !grad.iter().all(|g| g.is_finite());
        self.slots.iter().zip(grads).find(bad).map(|(slot, _)| slot.path.as_str())
    }

    /// Change all parameters by one step.
    pub fn step(&mut self, grads: &[Vec<f32>]) -> Result<StepSize, OptError> {
        let lr = self.learning_rate(self.step) as f32;
        self.step += 1;
        let (config, step) = (&self.config, self.step);
        let sums = self.slots.par_iter_mut().zip(grads).map(|(slot, grad)| slot.step(grad, config, step, lr));
        let sums = sums.collect::<candle_core::Result<Vec<[f64; 3]>>>()?;
        let [grad, update, param] = sums.iter().fold([0.0; 3], |t, s| [t[0] + s[0], t[1] + s[1], t[2] + s[2]]);
        let count = self.count().max(1) as f64;
        let rms = |sum: f64| (sum / count).sqrt() as f32;
        Ok(StepSize {
            grad_norm: grad.sqrt() as f32,
            grad_rms: rms(grad),
            update_rms: rms(update),
            param_rms: rms(param),
        })
    }

    /// State by key: `step`, and `rms/<path>` and `momentum/<path>`.
    pub fn save(&self) -> BTreeMap<String, Array> {
        let state = |slot: &Slot| {
            let array = |values: &[f32]| Array::f32(slot.var.dims(), values);
            [
                (format!("rms/{}", slot.path), array(&slot.mean_square)),
                (format!("momentum/{}", slot.path), array(&slot.momentum)),
            ]
        };
        let step = ("step".to_string(), Array::u64(&[], &[self.step]));
        self.slots.iter().flat_map(state).chain([step]).collect()
    }

    /// Go on from saved state, by key; nothing is changed unless everything fits.
    pub fn load(&mut self, state: &BTreeMap<String, Array>) -> Result<(), OptError> {
        let entry = |key: String, shape: &[usize]| match state.get(&key) {
            Some(array) if array.shape == shape => Ok(array),
            _ => Err(OptError::State { key }),
        };
        let step = entry("step".into(), &[])?.values::<u64>();
        let mut loaded = vec![];
        for slot in &self.slots {
            let mean_square = entry(format!("rms/{}", slot.path), slot.var.dims())?.to_f32();
            loaded.push((mean_square, entry(format!("momentum/{}", slot.path), slot.var.dims())?.to_f32()));
        }
        for (slot, (mean_square, momentum)) in self.slots.iter_mut().zip(loaded) {
            (slot.mean_square, slot.momentum) = (mean_square, momentum);
        }
        self.step = step[0];
        Ok(())
    }
}

impl Slot {
    /// One step of this tensor; returns the sums of squares of gradient, update and new parameter.
    fn step(&mut self, grad: &[f32], c: &OptConfig, step: u64, lr: f32) -> candle_core::Result<[f64; 3]> {
        let mut param = read(self.var.as_tensor(), <[f32]>::to_vec)?;
        let grad_squares = squares(grad);
        let limit = c.agc as f32 * (squares(&param).sqrt() as f32).max(1e-3);
        let clip = if c.agc > 0.0 { 1.0 / (grad_squares.sqrt() as f32 / limit).max(1.0) } else { 1.0 };
        let (beta1, beta2, eps) = (c.beta1 as f32, c.beta2 as f32, c.eps as f32);
        // Rounded as the official code rounds: the complements from float64, the bias corrections in float32.
        let (rest1, rest2) = ((1.0 - c.beta1) as f32, (1.0 - c.beta2) as f32);
        let square_scale = 1.0 / (1.0 - beta2.powf(step as f32));
        let momentum_scale = 1.0 / (1.0 - beta1.powf(step as f32));
        let decay = if self.decay { c.wd as f32 } else { 0.0 };
        let mut update_squares = 0.0f64;
        for (((p, g), v), m) in param.iter_mut().zip(grad).zip(&mut self.mean_square).zip(&mut self.momentum) {
            let g = g * clip;
            *v = beta2 * *v + rest2 * g * g;
            let mut u = g / ((*v * square_scale).sqrt() + eps);
            *m = beta1 * *m + rest1 * u;
            let ahead = if c.nesterov { beta1 * *m + rest1 * u } else { *m };
            u = ahead * momentum_scale;
            let change = lr * (u + decay * *p);
            update_squares += f64::from(change * change);
            *p -= change;
        }
        let sums = [grad_squares, update_squares, squares(&param)];
        self.var.set(&Tensor::from_vec(param, self.var.shape(), &Device::Cpu)?)?;
        Ok(sums)
    }
}

fn squares(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}
