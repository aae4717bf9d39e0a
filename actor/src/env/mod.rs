//! Environments: the trait, its wrappers, and the native tasks.

mod action;
mod apart;
pub mod cartpole;
pub mod catch;
mod draw;
pub mod dummy;
mod error;
mod gymnasium;
pub mod keydoor;
mod make;
mod observe;
mod outcome;
pub mod pendulum;
pub mod pinpad;
mod slow;
pub mod tmaze;
pub mod wrappers;

use std::collections::BTreeMap;

use shared::array::Array;
use shared::env::Spaces;

pub use action::sample_action;
pub use apart::{Apart, Ended, Interrupt};
pub use error::EnvError;
pub use make::{make, make_all};
pub use observe::Observe;
pub use outcome::Outcome;
pub use shared::env::TASKS;

/// Observation by key, with `is_first`, `is_last`, `is_terminal` (u8 scalars) and `reward` (f32 scalar) among the keys;
/// [`Outcome::of`] reads those four.
pub type Step = BTreeMap<String, Array>;

/// Action by key, and whether to reset instead of acting.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Action {
    /// Start a new episode; `values` are then ignored.
    pub reset: bool,
    /// Action by key, in the action space's type.
    pub values: BTreeMap<String, Array>,
}

impl Action {
    /// Start a new episode.
    pub fn reset() -> Self {
        Self { reset: true, values: BTreeMap::new() }
    }

    /// Act within the running episode.
    pub fn act(values: BTreeMap<String, Array>) -> Self {
        Self { reset: false, values }
    }
}

/// An environment. Reset is a flag of the step: a step with `reset` returns the first observation (`is_first`) of a new
/// episode, whatever happened before.
pub trait Env: Send {
    /// Spaces of the observation, including the flags and the reward.
    fn obs_space(&self) -> Spaces;
    /// Spaces of the action.
    fn act_space(&self) -> Spaces;
    /// One step.
    fn step(&mut self, action: &Action) -> Result<Step, EnvError>;
    /// Say that [`Env::step`] with this action comes next, so that an environment in another process begins with it while others
    /// are asked.
    fn begin(&mut self, _action: &Action) {}
    /// Whether a reset waits for an environment that is being started again, which it does unless told otherwise; else it is
    /// [`EnvError::Restarting`], and the same step is to be asked for later.
    fn set_patient(&mut self, _patient: bool) {}
    /// The state as people can look at it, u8 [height, width, 3], also where observations have no image; none if it cannot be drawn.
    fn picture(&self) -> Option<Array> {
        None
    }
}

impl Env for Box<dyn Env> {
    fn obs_space(&self) -> Spaces {
        (**self).obs_space()
    }

    fn act_space(&self) -> Spaces {
        (**self).act_space()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        (**self).step(action)
    }

    fn begin(&mut self, action: &Action) {
        (**self).begin(action)
    }

    fn set_patient(&mut self, patient: bool) {
        (**self).set_patient(patient)
    }

    fn picture(&self) -> Option<Array> {
        (**self).picture()
    }
}
