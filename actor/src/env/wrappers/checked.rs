//! Every step held against the spaces.

use shared::array::{Array, DType};
use shared::env::{Space, Spaces};

use crate::env::action::{self, describe, mismatch};
use crate::env::{Action, Env, EnvError, Outcome, Step};

/// Checks actions before they reach the environment, and keys, types, shapes, ranges and flags of what it returns.
/// A step outside an episode is an error.
pub struct Checked<E> {
    env: E,
    task: String,
    observations: Spaces,
    actions: Spaces,
    phase: Phase,
}

enum Phase {
    NotStarted,
    Running,
    Ended,
}

impl<E: Env> Checked<E> {
    /// Check `env`; `task` is the name errors carry.
    pub fn new(env: E, task: &str) -> Self {
        let (observations, actions) = (env.obs_space(), env.act_space());
        Self { env, task: task.into(), observations, actions, phase: Phase::NotStarted }
    }

    fn check_action(&self, action: &Action) -> Result<(), EnvError> {
        match self.phase {
            _ if action.reset => Ok(()),
            Phase::NotStarted => Err(EnvError::not_started(&self.task)),
            Phase::Ended => Err(EnvError::ended(&self.task)),
            Phase::Running => action::check(&self.task, &self.actions, action),
        }
    }

    fn check_step(&self, step: &Step) -> Result<(), EnvError> {
        for (key, space) in &self.observations {
            let array = step.get(key).ok_or_else(|| self.fault(key, "missing".into(), describe(space)))?;
            if let Some(found) = mismatch(array, space).or_else(|| outside(array, space)) {
                return Err(self.fault(key, found, describe(space)));
            }
        }
        match step.keys().find(|key| !self.observations.contains_key(*key)) {
            None => Ok(()),
            Some(key) => Err(self.fault(key, "an entry".into(), "no such key".into())),
        }
    }

    fn check_flags(&self, outcome: Outcome, reset: bool) -> Result<(), EnvError> {
        let flag = |key, found: bool, why: &str| Err(self.fault(key, (found as u8).to_string(), why.into()));
        match outcome {
            o if o.is_first != reset => flag("is_first", o.is_first, "1 after a reset and 0 otherwise"),
            o if o.is_first && o.is_last => flag("is_last", true, "0 on the first step"),
            o if o.is_terminal && !o.is_last => flag("is_terminal", true, "0 unless `is_last` is set"),
            o if o.is_first && o.reward != 0.0 => {
                Err(self.fault("reward", o.reward.to_string(), "0 on the first step".into()))
            }
            _ => Ok(()),
        }
    }

    fn fault(&self, key: &str, found: String, expected: String) -> EnvError {
        EnvError::Observation { task: self.task.clone(), key: key.into(), found, expected }
    }
}

/// A number outside the space's bounds, if there is one.
fn outside(array: &Array, space: &Space) -> Option<String> {
    if space.is_discrete() || array.dtype == DType::U8 || (space.low.is_infinite() && space.high.is_infinite()) {
        return None;
    }
    array.to_f32().into_iter().find(|x| !(space.low..=space.high).contains(x)).map(|x| x.to_string())
}

impl<E: Env> Env for Checked<E> {
    fn obs_space(&self) -> Spaces {
        self.observations.clone()
    }

    fn act_space(&self) -> Spaces {
        self.actions.clone()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        self.check_action(action)?;
        let step = self.env.step(action)?;
        self.check_step(&step)?;
        let outcome = Outcome::of(&step);
        self.check_flags(outcome, action.reset)?;
        self.phase = if outcome.is_last { Phase::Ended } else { Phase::Running };
        Ok(step)
    }

    fn begin(&mut self, action: &Action) {
        // What is wrong with an action is said by the step.
        if self.check_action(action).is_ok() {
            self.env.begin(action);
        }
    }

    fn set_patient(&mut self, patient: bool) {
        self.env.set_patient(patient)
    }

    fn picture(&self) -> Option<Array> {
        self.env.picture()
    }
}
