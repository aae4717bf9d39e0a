//! The flags and the reward that every step carries.

use shared::array::Array;
use shared::env::{FLAGS, Space, Spaces};

use super::Step;

/// The three flags and the reward of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// First step of an episode; its reward is 0.
    pub is_first: bool,
    /// Last step of an episode, ended by the task or cut by a limit.
    pub is_last: bool,
    /// The task itself has ended: nothing can follow, so no value is bootstrapped. Implies `is_last`.
    pub is_terminal: bool,
    /// Reward for the action that led here.
    pub reward: f32,
}

impl Outcome {
    /// The first step of an episode.
    pub fn first() -> Self {
        Self { is_first: true, ..Self::default() }
    }

    /// Flags and reward of a step; an absent key reads as 0.
    pub fn of(step: &Step) -> Self {
        let value = |key| step.get(key).and_then(|x: &Array| x.to_f32().first().copied()).unwrap_or(0.0);
        let [is_first, is_last, is_terminal, reward] = FLAGS.map(value);
        Self { is_first: is_first != 0.0, is_last: is_last != 0.0, is_terminal: is_terminal != 0.0, reward }
    }

    /// Put flags and reward into a step, over what was there.
    pub fn write(self, step: &mut Step) {
        let flags = [self.is_first, self.is_last, self.is_terminal].map(Array::flag);
        let values = flags.into_iter().chain([Array::scalar(self.reward)]);
        step.extend(FLAGS.map(String::from).into_iter().zip(values));
    }

    /// A step: what was observed, with these flags and this reward.
    pub fn step<K: Into<String>>(self, observed: impl IntoIterator<Item = (K, Array)>) -> Step {
        let mut step = observed.into_iter().map(|(key, array)| (key.into(), array)).collect();
        self.write(&mut step);
        step
    }

    /// Spaces of the flags and the reward, which every environment's observation has.
    pub fn spaces() -> Spaces {
        let spaces = [Space::flag(), Space::flag(), Space::flag(), Space::vector(&[])];
        FLAGS.map(String::from).into_iter().zip(spaces).collect()
    }
}
