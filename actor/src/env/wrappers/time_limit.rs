//! Episodes cut after a number of steps.

use shared::array::Array;
use shared::env::Spaces;

use crate::env::{Action, Env, EnvError, Outcome, Step};

/// Sets `is_last`, not `is_terminal`, on the step after `limit` actions.
pub struct TimeLimit<E> {
    env: E,
    limit: usize,
    steps: usize,
}

impl<E: Env> TimeLimit<E> {
    /// Cut episodes after `limit` actions.
    pub fn new(env: E, limit: usize) -> Self {
        Self { env, limit, steps: 0 }
    }
}

impl<E: Env> Env for TimeLimit<E> {
    fn obs_space(&self) -> Spaces {
        self.env.obs_space()
    }

    fn act_space(&self) -> Spaces {
        self.env.act_space()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        let mut step = self.env.step(action)?;
        self.steps = if action.reset { 0 } else { self.steps + 1 };
        if self.steps >= self.limit {
            Outcome { is_last: true, ..Outcome::of(&step) }.write(&mut step);
        }
        Ok(step)
    }

    fn begin(&mut self, action: &Action) {
        self.env.begin(action)
    }

    fn set_patient(&mut self, patient: bool) {
        self.env.set_patient(patient)
    }

    fn picture(&self) -> Option<Array> {
        self.env.picture()
    }
}
