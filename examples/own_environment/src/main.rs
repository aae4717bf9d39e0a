//! An environment of one's own: a boat steers to a buoy while a current carries it away. This file is all of it, and the program is
//! `lucid` with one task more:
//!
//! ```sh
//! cargo run --release -p own_environment -- env check buoy
//! cargo run --release -p own_environment -- train -c size1m --set env.task=buoy --set env.kwargs.current=0.03 --run runs/buoy
//! ```

use std::process::ExitCode;

use learner::env::{Action, Array, Env, EnvError, Options, Outcome, Space, Spaces, Step, Tasks};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// `lucid` takes the tasks, here one, each a name and a constructor, and does the rest. A run starts this program again for each of its
/// processes, so `main` should do nothing else.
fn main() -> ExitCode {
    learner::lucid(Tasks::new().with("buoy", Boat::new))
}

/// All state. What is random comes from `random`, so that a run can be repeated.
struct Boat {
    random: Xoshiro256PlusPlus,
    current: f32,
    position: [f32; 2],
    velocity: [f32; 2],
    buoy: [f32; 2],
    steps: u32,
}

impl Boat {
    /// What the constructor gets: a seed, other for each environment; `--set env.kwargs.current=0.03` as `kwarg`, with its default; and for
    /// environments with images `size` and `observe`. An error ends the run with these words and the name of the task.
    fn new(options: &Options) -> Result<Self, EnvError> {
        let current = options.kwarg("current", 0.01)?;
        if !(-0.05..=0.05).contains(&current) {
            return Err(EnvError::failed(format!(
                "a current of {current} is too strong: set env.kwargs.current from -0.05 to 0.05"
            )));
        }
        let random = Xoshiro256PlusPlus::seed_from_u64(options.seed);
        Ok(Self { random, current, position: [0.0; 2], velocity: [0.0; 2], buoy: [0.0; 2], steps: 0 })
    }

    fn distance(&self) -> f32 {
        (self.buoy[0] - self.position[0]).hypot(self.buoy[1] - self.position[1])
    }

    /// A new episode: everything starts over. The first step of an episode has no reward.
    fn start(&mut self) -> Outcome {
        self.position = [0.0; 2];
        self.velocity = [0.0; 2];
        self.buoy = [0; 2].map(|_| self.random.random_range(-1.0..1.0));
        self.steps = 0;
        Outcome::first()
    }

    /// One step. At the buoy the episode is over by its nature: `is_terminal`. After 200 steps it is only cut: `is_last` without it, so that
    /// the agent does not take the end for something that the boat has done.
    fn sail(&mut self, thrust: &[f32]) -> Outcome {
        let before = self.distance();
        for (axis, thrust) in thrust.iter().enumerate() {
            self.velocity[axis] = 0.9 * self.velocity[axis] + 0.02 * thrust;
            let drift = if axis == 0 { self.current } else { 0.0 };
            self.position[axis] = (self.position[axis] + self.velocity[axis] + drift).clamp(-1.0, 1.0);
        }
        self.steps += 1;
        let arrived = self.distance() < 0.1;
        let reward = before - self.distance() + if arrived { 1.0 } else { 0.0 };
        Outcome { is_first: false, is_last: arrived || self.steps == 200, is_terminal: arrived, reward }
    }
}

impl Env for Boat {
    /// What the agent sees, by names of your choice, and the flags and the reward, which every environment has. Steps that differ from
    /// this are refused.
    fn obs_space(&self) -> Spaces {
        let seen = [("boat", Space::vector(&[4])), ("buoy", Space::bounded(&[2], -1.0, 1.0))];
        seen.map(|(key, space)| (key.to_string(), space)).into_iter().chain(Outcome::spaces()).collect()
    }

    /// What it does: numbers with bounds, or `Space::discrete(&[], 5)` for one of five actions, which `action.class("action")` reads.
    fn act_space(&self) -> Spaces {
        [("action".to_string(), Space::bounded(&[2], -1.0, 1.0))].into()
    }

    /// A reset is a step too. Actions have been checked against their space before they get here.
    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        let outcome = if action.reset { self.start() } else { self.sail(&action.numbers("action")?) };
        let boat = [self.position, self.velocity].concat();
        Ok(outcome.step([("boat", Array::f32(&[4], &boat)), ("buoy", Array::f32(&[2], &self.buoy))]))
    }

    /// If you like, a picture for films (`env play`, `eval --video`): bytes, [height, width, 3]. Agents that learn from pixels get
    /// theirs as an observation, with `Space::image` and `Array::u8`.
    fn picture(&self) -> Option<Array> {
        let mut pixels = [20, 60, 120].repeat(64 * 64);
        for ([x, y], colour) in [(self.buoy, [230, 60, 40]), (self.position, [250, 250, 250])] {
            let (column, row) = ((32.0 + 30.0 * x) as usize, (32.0 + 30.0 * y) as usize);
            for row in row - 1..=row + 1 {
                let first = 3 * (row * 64 + column - 1);
                pixels[first..first + 9].copy_from_slice(&colour.repeat(3));
            }
        }
        Some(Array::u8(&[64, 64, 3], &pixels))
    }
}
