//! Each action taken several times.

use shared::array::Array;
use shared::env::Spaces;

use crate::env::{Action, Env, EnvError, Outcome, Step};

/// Takes each action `repeat` times, or until the episode ends: the last observation, the sum of the rewards.
pub struct ActionRepeat<E> {
    env: E,
    repeat: usize,
}

impl<E: Env> ActionRepeat<E> {
    /// Repeat actions `repeat` times (0 counts as 1).
    pub fn new(env: E, repeat: usize) -> Self {
        Self { env, repeat }
    }
}

impl<E: Env> Env for ActionRepeat<E> {
    fn obs_space(&self) -> Spaces {
        self.env.obs_space()
    }

    fn act_space(&self) -> Spaces {
        self.env.act_space()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        let mut step = self.env.step(action)?;
        let mut outcome = Outcome::of(&step);
        if action.reset {
            return Ok(step);
        }
        for _ in 1..self.repeat {
            if outcome.is_last {
                break;
            }
            step = self.env.step(action)?;
            let next = Outcome::of(&step);
            outcome = Outcome { reward: outcome.reward + next.reward, ..next };
        }
        outcome.write(&mut step);
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
