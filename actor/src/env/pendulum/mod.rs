//! Pendulums that a motor at the hinge must swing up: `pendulum` is Gymnasium's Pendulum-v1, `pendulum_swingup` the task
//! `pendulum`, `swingup` of dm_control's suite.

mod physics;
mod picture;

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::array::Array;
use shared::env::{Space, Spaces};

pub use physics::{Model, State};

use super::{Action, Env, EnvError, Observe, Outcome, Step, action};

/// A motor (`action`: f32 [1], its torque in newton metres, [-2, 2] in `pendulum` and [-1, 1] in `pendulum_swingup`) that
/// is too weak to lift the pendulum at once must swing it up and keep it there. Episodes are cut after 200 steps
/// (`pendulum`) or 1000 (`pendulum_swingup`) and never terminal. Rewards are those of [`Model::advance`].
///
/// Observations: `image` (u8 [height, width, 3], which does not show the speed), `orientation` (f32 [2]: cosine and sine
/// of the angle from upright) and `velocity` (f32 [1]: radians a second).
pub struct Pendulum {
    model: Model,
    observe: Observe,
    size: [usize; 2],
    rng: Xoshiro256PlusPlus,
    state: State,
    steps: usize,
}

impl Pendulum {
    /// A task drawn at `size` (height, width).
    pub fn new(model: Model, observe: Observe, size: [usize; 2], seed: u64) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self { model, observe, size, rng, state: State { angle: 0.0, velocity: 0.0 }, steps: model.steps() }
    }

    /// Start an episode in a given state, to compare with another simulator.
    pub fn start_from(&mut self, state: State) -> Step {
        self.state = state;
        self.steps = 0;
        self.observation(Outcome::first())
    }

    fn torque_space(&self) -> Space {
        Space::bounded(&[1], -self.model.torque(), self.model.torque())
    }

    fn observation(&self, outcome: Outcome) -> Step {
        let numbers = || {
            let (sin, cos) = self.state.angle.sin_cos();
            let velocity = Array::f32(&[1], &[self.state.velocity as f32]);
            [("orientation", Array::f32(&[2], &[cos as f32, sin as f32])), ("velocity", velocity)]
        };
        self.observe.step(outcome, || picture::draw(&self.state, self.size), numbers)
    }
}

impl Env for Pendulum {
    fn obs_space(&self) -> Spaces {
        let speed = self.model.speed();
        let numbers =
            [("orientation", Space::bounded(&[2], -1.0, 1.0)), ("velocity", Space::bounded(&[1], -speed, speed))];
        self.observe.spaces(self.size, numbers)
    }

    fn act_space(&self) -> Spaces {
        [("action".into(), self.torque_space())].into()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        if action.reset {
            let state = self.model.start(&mut self.rng);
            return Ok(self.start_from(state));
        }
        if self.steps >= self.model.steps() {
            return Err(EnvError::ended(self.model.task()));
        }
        let torque = action::numbers(self.model.task(), "action", &self.torque_space(), action)?[0];
        let torque = torque.clamp(-self.model.torque(), self.model.torque());
        let (state, reward) = self.model.advance(self.state, f64::from(torque));
        self.state = state;
        self.steps += 1;
        let is_last = self.steps == self.model.steps();
        Ok(self.observation(Outcome { is_last, reward: reward as f32, ..Outcome::default() }))
    }

    fn picture(&self) -> Option<Array> {
        Some(picture::draw(&self.state, self.size))
    }
}

#[cfg(test)]
mod tests;
