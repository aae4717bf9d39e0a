//! DreamerV3's optimizer: adaptive gradient clipping per tensor, RMS normalisation, momentum of the normalised gradient,
//! decoupled weight decay, warm-up (official `opt.py`).
//!
//! It is given handles of trainable parameters and holds state for these alone: a frozen parameter cannot be reached.

mod slot;

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use rayon::prelude::*;
use regex::Regex;
use shared::array::Array;
use shared::config::OptConfig;
use shared::kernels::plain;

use self::slot::{Extents, Slot};

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

/// Keys of a slot's moments in saved state.
const MOMENTS: [&str; 2] = ["rms", "momentum"];

/// The first thing that a step would stumble over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A parameter that is not finite, by path.
    Parameter(String),
    /// State that is not finite, by key.
    Moment(String),
    /// A gradient that is not finite, by path of its parameter.
    Gradient(String),
    /// A parameter, by path, that would become larger than float32 holds, or its state would.
    Step(String),
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
            let decay = config.wd != 0.0 && pattern.is_match(&path);
            Slot::new(path, var, decay)
        };
        let slots = params.into_iter().map(slot).collect::<candle_core::Result<Vec<Slot>>>()?;
        if config.wd != 0.0 && !slots.iter().any(Slot::decays) {
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
        self.slots.iter().map(|s| s.var.elem_count()).sum()
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
    pub fn gradients(&self, grads: &GradStore) -> Result<Vec<Tensor>, OptError> {
        let gradient = |slot: &Slot| match grads.get(slot.var.as_tensor()) {
            Some(grad) => Ok(grad.detach()),
            None => slot.var.zeros_like(),
        };
        Ok(self.slots.iter().map(gradient).collect::<candle_core::Result<_>>()?)
    }

    /// What keeps a step with these gradients from leaving everything finite, if there is something.
    pub fn obstacle(&self, grads: &[Tensor]) -> Result<Option<Obstacle>, OptError> {
        if grads.first().is_some_and(plain) {
            return self.obstacle_elsewhere(grads);
        }
        let extents = self.slots.par_iter().zip(grads).map(|(slot, grad)| slot.extents(grad));
        let extents = extents.collect::<candle_core::Result<Vec<_>>>()?;
        let first = |bad: &dyn Fn(&Slot, &Extents) -> bool| {
            let found = self.slots.iter().zip(&extents).find(|(slot, extents)| bad(slot, extents));
            found.map(|(slot, _)| slot.path.clone())
        };
        if let Some(path) = first(&|_, e| !e.param.is_finite()) {
            return Ok(Some(Obstacle::Parameter(path)));
        }
        for (index, kind) in MOMENTS.into_iter().enumerate() {
            if let Some(path) = first(&|_, e| !e.moments[index].is_finite()) {
                return Ok(Some(Obstacle::Moment(format!("{kind}/{path}"))));
            }
        }
        if let Some(path) = first(&|_, e| !e.grad.is_finite()) {
            return Ok(Some(Obstacle::Gradient(path)));
        }
        let lr = self.learning_rate(self.step);
        Ok(first(&|slot, extents| !slot.stays_finite(extents, &self.config, lr)).map(Obstacle::Step))
    }

    /// Of gradients on another device alone; what becomes of a parameter there is seen by whoever reads it.
    fn obstacle_elsewhere(&self, grads: &[Tensor]) -> Result<Option<Obstacle>, OptError> {
        // Zero times what is not finite is not a number.
        let sums = grads.iter().map(|grad| grad.affine(0.0, 0.0)?.sum_all());
        let sums = Tensor::stack(&sums.collect::<candle_core::Result<Vec<_>>>()?, 0)?.to_vec1::<f32>()?;
        let first = self.slots.iter().zip(sums).find(|(_, sum)| *sum != 0.0);
        Ok(first.map(|(slot, _)| Obstacle::Gradient(slot.path.clone())))
    }

    /// Change all parameters by one step.
    pub fn step(&mut self, grads: &[Tensor]) -> Result<StepSize, OptError> {
        let lr = self.learning_rate(self.step) as f32;
        self.step += 1;
        let (config, step) = (&self.config, self.step);
        let one = |(slot, grad): (&mut Slot, &Tensor)| slot.step(grad, config, step, lr);
        let sums: candle_core::Result<Vec<Tensor>> = match grads.first().is_some_and(plain) {
            true => self.slots.iter_mut().zip(grads).map(one).collect(),
            false => self.slots.par_iter_mut().zip(grads).map(one).collect(),
        };
        let sums = Tensor::stack(&sums?, 0)?.to_vec2::<f64>()?;
        let [grad, update, param] = [0, 1, 2].map(|i| sums.iter().map(|sums| sums[i]).sum::<f64>());
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
    pub fn save(&self) -> Result<BTreeMap<String, Array>, OptError> {
        let mut state: BTreeMap<String, Array> = [("step".to_string(), Array::u64(&[], &[self.step]))].into();
        for slot in &self.slots {
            for (kind, values) in MOMENTS.into_iter().zip(slot.moments()?) {
                state.insert(format!("{kind}/{}", slot.path), Array::f32(slot.var.dims(), &values));
            }
        }
        Ok(state)
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
            let [square, momentum] = MOMENTS.map(|kind| entry(format!("{kind}/{}", slot.path), slot.var.dims()));
            loaded.push([square?.to_f32(), momentum?.to_f32()]);
        }
        for (slot, moments) in self.slots.iter_mut().zip(loaded) {
            slot.set_moments(moments)?;
        }
        self.step = step[0];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use shared::config::Config;

    use super::*;

    fn optimizer(sets: &[&str]) -> Optimizer {
        let config = Config::load(&["dummy"], sets).unwrap().agent.opt;
        let var = |values: &[f32]| Var::from_slice(values, values.len(), &Device::Cpu).unwrap();
        let params = vec![("a/kernel".into(), var(&[1.0, -2.0])), ("b/kernel".into(), var(&[0.5]))];
        Optimizer::new(&config, params).unwrap()
    }

    fn grads(values: [f32; 3]) -> Vec<Tensor> {
        [&values[..2], &values[2..]].map(|grad| Tensor::new(grad, &Device::Cpu).unwrap()).into()
    }

    #[test]
    fn the_first_obstacle_is_what_a_step_begins_with() {
        let (sound, bad) = (grads([0.1, 0.2, 0.3]), grads([0.1, f32::NAN, f32::INFINITY]));
        let mut optimizer = optimizer(&[]);
        assert_eq!(optimizer.obstacle(&sound).unwrap(), None);
        assert_eq!(optimizer.obstacle(&bad).unwrap(), Some(Obstacle::Gradient("a/kernel".into())));
        for (index, key) in ["rms/b/kernel", "momentum/b/kernel"].into_iter().enumerate() {
            let mut moments = [vec![0.0], vec![0.0]];
            moments[index][0] = f32::INFINITY;
            optimizer.slots[1].set_moments(moments).unwrap();
            assert_eq!(optimizer.obstacle(&bad).unwrap(), Some(Obstacle::Moment(key.into())));
        }
        optimizer.slots[1].var.set(&Tensor::new(&[f32::NAN], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(optimizer.obstacle(&bad).unwrap(), Some(Obstacle::Parameter("b/kernel".into())));
    }

    #[test]
    fn a_step_that_would_overflow_is_told_before() {
        let step = |path: &str| Some(Obstacle::Step(path.into()));
        // Without clipping by the parameter's size, its square overflows and would silence the parameter for good.
        assert_eq!(optimizer(&["agent.opt.agc=0.0"]).obstacle(&grads([0.0, 0.0, 1e20])).unwrap(), step("b/kernel"));
        assert_eq!(optimizer(&[]).obstacle(&grads([0.0, 0.0, 1e20])).unwrap(), None);
        let optimizer =
            optimizer(&["agent.opt.lr=1.0", "agent.opt.warmup=0", "agent.opt.wd=0.9", "agent.opt.wdregex=kernel"]);
        optimizer.slots[0].var.set(&Tensor::new(&[1.0, 3e38f32], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(optimizer.obstacle(&grads([1.0, 1.0, 1.0])).unwrap(), step("a/kernel"));
    }
}
