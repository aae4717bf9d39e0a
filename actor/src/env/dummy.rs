//! Random data of any spaces, for tests of everything around an environment.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::env::Spaces;

use super::{Action, Env, EnvError, Outcome, Step, action};

/// Uniformly random observations within their spaces, rewards in [-1, 1], episodes of fixed length of which half end
/// terminal. Deterministic under a seed; actions are checked and otherwise ignored.
pub struct Dummy {
    task: String,
    observations: Spaces,
    actions: Spaces,
    length: usize,
    rng: Xoshiro256PlusPlus,
    left: usize,
}

impl Dummy {
    /// Data of these observation spaces (flags and reward are added) for actions of these spaces; `length` actions an
    /// episode, at least one. `task` is the name errors carry.
    pub fn new(task: &str, observations: Spaces, actions: Spaces, length: usize, seed: u64) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self { task: task.into(), observations, actions, length: length.max(1), rng, left: 0 }
    }

    fn advance(&mut self) -> Outcome {
        self.left -= 1;
        let is_last = self.left == 0;
        let is_terminal = is_last && self.rng.random();
        Outcome { is_first: false, is_last, is_terminal, reward: self.rng.random_range(-1.0..=1.0) }
    }
}

impl Env for Dummy {
    fn obs_space(&self) -> Spaces {
        let mut spaces = self.observations.clone();
        spaces.extend(Outcome::spaces());
        spaces
    }

    fn act_space(&self) -> Spaces {
        self.actions.clone()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        let outcome = if action.reset {
            self.left = self.length;
            Outcome::first()
        } else if self.left == 0 {
            return Err(EnvError::ended(&self.task));
        } else {
            action::check(&self.task, &self.actions, action)?;
            self.advance()
        };
        let mut step = action::sample_action(&self.observations, &mut self.rng);
        outcome.write(&mut step);
        Ok(step)
    }
}
