//! Cart-pole: the tasks `balance`, `balance_sparse`, `swingup` and `swingup_sparse` of dm_control's `cartpole`.

mod physics;
mod picture;

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::array::Array;
use shared::env::{Space, Spaces};

pub use physics::State;

use super::{Action, Env, EnvError, Observe, Outcome, Step, action};

/// How an episode starts, and what is rewarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Name of the task.
    pub task: &'static str,
    /// The pole hangs at the start; else it stands, nearly.
    swing_up: bool,
    /// The reward is 1 in the goal and 0 elsewhere; else it grows towards the goal.
    sparse: bool,
}

/// Keep a pole up.
pub const BALANCE: Variant = Variant { task: "cartpole_balance", swing_up: false, sparse: false };
/// Keep a pole up, rewarded near the goal only.
pub const BALANCE_SPARSE: Variant = Variant { task: "cartpole_balance_sparse", swing_up: false, sparse: true };
/// Swing a pole up and keep it there.
pub const SWINGUP: Variant = Variant { task: "cartpole_swingup", swing_up: true, sparse: false };
/// Swing a pole up and keep it there, rewarded near the goal only.
pub const SWINGUP_SPARSE: Variant = Variant { task: "cartpole_swingup_sparse", swing_up: true, sparse: true };

/// Steps of 0.01 s after which an episode is cut.
const STEPS: usize = 1000;

/// A pole hinges on a cart; pushing the cart (`action`: f32 [1] in [-1, 1]) must swing it up, where it hangs at the start,
/// and keep it there. Episodes are cut after 1000 steps and never terminal; the reward lies in [0, 1].
///
/// Observations: `image` (u8 [height, width, 3]), `position` (f32 [3]: cart in metres, cosine and sine of the pole's
/// angle from upright) and `velocity` (f32 [2]: metres and radians a second).
pub struct Cartpole {
    variant: Variant,
    observe: Observe,
    size: [usize; 2],
    rng: Xoshiro256PlusPlus,
    state: State,
    steps: usize,
}

impl Cartpole {
    /// A task drawn at `size` (height, width).
    pub fn new(variant: Variant, observe: Observe, size: [usize; 2], seed: u64) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self { variant, observe, size, rng, state: State { position: [0.0; 2], velocity: [0.0; 2] }, steps: STEPS }
    }

    /// Start an episode in a given state, to compare with another simulator.
    pub fn start_from(&mut self, state: State) -> Step {
        self.state = state;
        self.steps = 0;
        self.observation(Outcome::first())
    }

    /// Nearly at rest, the cart near the middle; metres, radians.
    fn start(&mut self) -> State {
        let rng = &mut self.rng;
        let noise = |rng: &mut _| 0.01 * Distribution::<f64>::sample(&StandardNormal, rng);
        let position = match self.variant.swing_up {
            true => [noise(rng), std::f64::consts::PI + noise(rng)],
            false => [rng.random_range(-0.1..0.1), rng.random_range(-0.034..0.034)],
        };
        State { position, velocity: [noise(rng), noise(rng)] }
    }

    fn observation(&self, outcome: Outcome) -> Step {
        let numbers = || {
            let (sin, cos) = self.state.position[1].sin_cos();
            let position = [self.state.position[0], cos, sin].map(|x| x as f32);
            let velocity = self.state.velocity.map(|x| x as f32);
            [("position", Array::f32(&[3], &position)), ("velocity", Array::f32(&[2], &velocity))]
        };
        self.observe.step(outcome, || picture::draw(&self.state, self.size), numbers)
    }
}

/// Reward of a state: 1 within 0.25 m of the middle and with a cosine of at least 0.995, else 0.
fn sparse_reward(state: &State) -> f64 {
    let goal = state.position[0].abs() <= 0.25 && state.position[1].cos() >= 0.995;
    if goal { 1.0 } else { 0.0 }
}

/// Reward of a state and the control that led there: the product of upright, centred, gentle and slow.
fn smooth_reward(state: &State, control: f64) -> f64 {
    let upright = (state.position[1].cos() + 1.0) / 2.0;
    let centred = (1.0 + near_zero(state.position[0] / 2.0)) / 2.0;
    let gentle = (4.0 + (1.0 - control * control).max(0.0)) / 5.0;
    let slow = (1.0 + near_zero(state.velocity[1] / 5.0)) / 2.0;
    upright * centred * gentle * slow
}

/// A bell curve: 1 at 0, 0.1 at 1.
fn near_zero(x: f64) -> f64 {
    0.1f64.powf(x * x)
}

impl Env for Cartpole {
    fn obs_space(&self) -> Spaces {
        self.observe.spaces(self.size, [("position", Space::vector(&[3])), ("velocity", Space::vector(&[2]))])
    }

    fn act_space(&self) -> Spaces {
        [("action".into(), Space::bounded(&[1], -1.0, 1.0))].into_iter().collect()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        if action.reset {
            let state = self.start();
            return Ok(self.start_from(state));
        }
        if self.steps >= STEPS {
            return Err(EnvError::ended(self.variant.task));
        }
        let control = action::numbers(self.variant.task, "action", &Space::bounded(&[1], -1.0, 1.0), action)?[0];
        let control = f64::from(control.clamp(-1.0, 1.0));
        self.state = self.state.advance(control);
        self.steps += 1;
        let reward = match self.variant.sparse {
            true => sparse_reward(&self.state),
            false => smooth_reward(&self.state, control),
        };
        let is_last = self.steps == STEPS;
        Ok(self.observation(Outcome { is_last, reward: reward as f32, ..Outcome::default() }))
    }

    fn picture(&self) -> Option<Array> {
        Some(picture::draw(&self.state, self.size))
    }
}

#[cfg(test)]
mod tests;
