//! T-maze with eight arms: a cue at the start says which arm at the end of a corridor pays. Without memory nobody does
//! better than chance.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::array::Array;
use shared::env::{Space, Spaces};

use super::{Action, Env, EnvError, Outcome, Step, action};

const TASK: &str = "tmaze";
/// Arms, and cues.
const ARMS: usize = 8;
/// Steps from the start to the junction.
const CORRIDOR: usize = 4;

/// An episode starts at position 0, where the cue is shown; any action leads one step on. The action at the junction
/// (`action`: the arm) ends the episode (terminal), with reward 1 in the arm of the cue and 0 in the others; the last
/// observation shows the cue again, whichever arm was taken. Cues are uniform and independent, so whoever acts on what is
/// seen at the junction alone has an expected return of 1/8; whoever remembers has 1.
///
/// Observations: `cue` (class 0: none is shown; 1 to 8: the arm, counted from 1) and `position` (f32 [1], from 0 at the
/// start to 1 at the junction and in the arm).
pub struct TMaze {
    rng: Xoshiro256PlusPlus,
    cue: usize,
    /// Actions so far.
    taken: usize,
}

impl TMaze {
    /// A maze whose cues follow from the seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: Xoshiro256PlusPlus::seed_from_u64(seed), cue: 0, taken: CORRIDOR + 1 }
    }

    fn start(&mut self) -> Outcome {
        (self.cue, self.taken) = (self.rng.random_range(0..ARMS), 0);
        Outcome::first()
    }

    fn advance(&mut self, arm: usize) -> Outcome {
        self.taken += 1;
        if self.taken <= CORRIDOR {
            return Outcome::default();
        }
        let reward = if arm == self.cue { 1.0 } else { 0.0 };
        Outcome { is_last: true, is_terminal: true, reward, ..Outcome::default() }
    }

    fn observation(&self) -> Step {
        let shown = self.taken == 0 || self.taken > CORRIDOR;
        let cue = if shown { self.cue as i32 + 1 } else { 0 };
        let position = self.taken.min(CORRIDOR) as f32 / CORRIDOR as f32;
        [("cue".into(), Array::i32(&[], &[cue])), ("position".into(), Array::f32(&[1], &[position]))].into()
    }
}

impl Env for TMaze {
    fn obs_space(&self) -> Spaces {
        let cue = Space::discrete(&[], ARMS + 1);
        let mut spaces = Spaces::from([("cue".into(), cue), ("position".into(), Space::bounded(&[1], 0.0, 1.0))]);
        spaces.extend(Outcome::spaces());
        spaces
    }

    fn act_space(&self) -> Spaces {
        [("action".into(), Space::discrete(&[], ARMS))].into()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        let outcome = if action.reset {
            self.start()
        } else if self.taken > CORRIDOR {
            return Err(EnvError::ended(TASK));
        } else {
            self.advance(action::class(TASK, "action", &Space::discrete(&[], ARMS), action)?)
        };
        let mut step = self.observation();
        outcome.write(&mut step);
        Ok(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(arm: usize) -> Action {
        Action::act([("action".to_string(), Array::i32(&[], &[arm as i32]))].into())
    }

    fn seen(step: &Step) -> (usize, f32) {
        (step["cue"].to_f32()[0] as usize, step["position"].to_f32()[0])
    }

    /// Everything that was seen in an episode that ends in this arm, and its return.
    fn episode(env: &mut TMaze, arm: impl Fn(usize) -> usize) -> (Vec<(usize, f32)>, f32) {
        let mut views = vec![seen(&env.step(&Action::reset()).unwrap())];
        let arm = arm(views[0].0);
        loop {
            let step = env.step(&act(arm)).unwrap();
            views.push(seen(&step));
            let outcome = Outcome::of(&step);
            if outcome.is_last {
                assert!(outcome.is_terminal);
                return (views, outcome.reward);
            }
            assert_eq!(outcome, Outcome::default());
        }
    }

    #[test]
    fn the_cue_is_shown_at_the_start_and_at_the_end_only() {
        let mut env = TMaze::new(1);
        for (arm, _) in (0..ARMS).cycle().zip(0..100) {
            let (views, _) = episode(&mut env, |_| arm);
            let cue = views[0].0;
            assert!((1..=ARMS).contains(&cue));
            assert_eq!(views, [(cue, 0.0), (0, 0.25), (0, 0.5), (0, 0.75), (0, 1.0), (cue, 1.0)]);
        }
    }

    #[test]
    fn who_remembers_the_cue_always_wins() {
        let mut env = TMaze::new(2);
        assert!((0..200).all(|_| episode(&mut env, |cue| cue - 1).1 == 1.0));
    }

    /// All junctions look the same, so a policy without memory is a distribution over arms; its return is a mix of those of
    /// the eight policies that always take one arm. None of them does better than chance.
    #[test]
    fn without_memory_no_policy_beats_one_in_eight() {
        let n = 8_000;
        for arm in 0..ARMS {
            let mut env = TMaze::new(3 + arm as u64);
            let mean = (0..n).map(|_| episode(&mut env, |_| arm).1).sum::<f32>() / n as f32;
            // Five deviations of a mean of n draws that are 1 with probability 1/8.
            assert!((mean - 0.125).abs() < 5.0 * (0.125 * 0.875 / n as f32).sqrt(), "arm {arm}: {mean}");
        }
    }

    #[test]
    fn stepping_outside_an_episode_is_an_error() {
        let mut env = TMaze::new(4);
        assert_eq!(env.step(&act(0)).unwrap_err(), EnvError::ended(TASK));
        episode(&mut env, |_| 0);
        assert_eq!(env.step(&act(0)).unwrap_err(), EnvError::ended(TASK));
        assert!(env.step(&Action::reset()).is_ok());
        assert!(env.step(&act(ARMS)).unwrap_err().to_string().contains("classes 0 to 7"));
    }
}
