//! T-maze: a signal at the start says what lies in one arm at the end of a corridor. Without memory nobody does better than
//! chance.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::array::Array;
use shared::env::{Space, Spaces};

use super::{Action, Env, EnvError, Outcome, Step, action};

const TASK: &str = "tmaze";
/// Steps from the signal to the junction.
const CORRIDOR: usize = 8;

/// The first observation of an episode carries the signal, -1 or 1; every action then leads one step on. The action at the
/// junction (`action`: 0 left, 1 right) ends the episode (terminal): the left arm is empty, reward 0; in the right one lies
/// twice the signal, 2 or -2. So the optimum is 1 on average, and 0 for who does not remember the signal. (With a reward
/// for the right turn either way, signal and reward would be uncorrelated under random turns, and hard to connect.)
///
/// Observation: `vector` (f32 [3]): the signal, 0 after the first step; 1 at the junction; how far it is, from 1 to 0.
pub struct TMaze {
    rng: Xoshiro256PlusPlus,
    right: bool,
    /// Steps left before the episode has ended.
    left: usize,
}

impl TMaze {
    /// A maze whose signals follow from the seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: Xoshiro256PlusPlus::seed_from_u64(seed), right: false, left: 0 }
    }

    fn start(&mut self) -> Outcome {
        (self.right, self.left) = (self.rng.random(), CORRIDOR + 1);
        Outcome::first()
    }

    fn advance(&mut self, class: usize) -> Outcome {
        self.left -= 1;
        if self.left > 0 {
            return Outcome::default();
        }
        let reward = match (class, self.right) {
            (0, _) => 0.0,
            (_, true) => 2.0,
            (_, false) => -2.0,
        };
        Outcome { is_last: true, is_terminal: true, reward, ..Outcome::default() }
    }

    fn observation(&self) -> Array {
        let signal = if self.right { 1.0 } else { -1.0 };
        let shown = if self.left == CORRIDOR + 1 { signal } else { 0.0 };
        let junction = if self.left == 1 { 1.0 } else { 0.0 };
        Array::f32(&[3], &[shown, junction, self.left.saturating_sub(1) as f32 / CORRIDOR as f32])
    }
}

impl Env for TMaze {
    fn obs_space(&self) -> Spaces {
        let mut spaces = Spaces::from([("vector".to_string(), Space::vector(&[3]))]);
        spaces.extend(Outcome::spaces());
        spaces
    }

    fn act_space(&self) -> Spaces {
        [("action".to_string(), Space::discrete(&[], 2))].into()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        let outcome = if action.reset {
            self.start()
        } else if self.left == 0 {
            return Err(EnvError::ended(TASK));
        } else {
            self.advance(action::class(TASK, "action", &Space::discrete(&[], 2), action)?)
        };
        let mut step = Step::from([("vector".to_string(), self.observation())]);
        outcome.write(&mut step);
        Ok(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One episode with this turn: the signal that was shown, whether it was shown again, and the return.
    fn episode(env: &mut TMaze, turn: impl Fn(f32) -> i32) -> (f32, bool, f32) {
        let first = env.step(&Action::reset()).unwrap()["vector"].to_f32();
        let (mut again, mut total) = (false, 0.0);
        loop {
            let values = [("action".to_string(), Array::i32(&[], &[turn(first[0])]))].into();
            let step = env.step(&Action::act(values)).unwrap();
            let outcome = Outcome::of(&step);
            total += outcome.reward;
            if outcome.is_last {
                return (first[0], again, total);
            }
            again |= step["vector"].to_f32()[0] != 0.0;
        }
    }

    #[test]
    fn only_who_remembers_the_signal_wins() {
        let mut env = TMaze::new(3);
        let remembers: Vec<_> = (0..100).map(|_| episode(&mut env, |signal| (signal > 0.0) as i32)).collect();
        let expected = |signal: f32| if signal > 0.0 { 2.0 } else { 0.0 };
        assert!(remembers.iter().all(|(signal, again, total)| !again && *total == expected(*signal)));
        let forgets: f32 = (0..400).map(|_| episode(&mut env, |_| 1).2).sum();
        assert!(forgets.abs() < 150.0, "{forgets}");
        let again = Action::act([("action".to_string(), Array::i32(&[], &[0]))].into());
        assert!(env.step(&again).is_err());
    }
}
