//! Environments: the trait, its wrappers, and the native tasks.

mod action;
mod apart;
pub mod cartpole;
pub mod catch;
mod draw;
pub mod dummy;
mod error;
pub(crate) mod gymnasium;
pub mod keydoor;
mod make;
mod observe;
mod outcome;
mod own;
pub mod pendulum;
pub mod pinpad;
mod slow;
pub mod tmaze;
pub mod wrappers;

use std::collections::BTreeMap;

pub use action::sample_action;
pub use apart::{Apart, Ended, Interrupt};
pub use error::EnvError;
pub use make::{make, make_all, validate};
pub use observe::Observe;
pub use outcome::Outcome;
pub use own::{Options, Tasks, tasks};
pub use shared::array::{Array, DType};
pub use shared::env::{Space, Spaces, TASKS};

/// Observation by key, with `is_first`, `is_last`, `is_terminal` (u8 scalars) and `reward` (f32 scalar) among the keys;
/// [`Outcome::step`] makes one, [`Outcome::of`] reads those four.
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

    /// The class chosen in the entry `key`, which the action space has as `Space::discrete(&[], classes)`.
    pub fn class(&self, key: &str) -> Result<usize, EnvError> {
        self.classes(key)?.first().copied().ok_or_else(|| EnvError::failed(format!("the action `{key}` is empty")))
    }

    /// The classes chosen in an entry with axes, row by row.
    pub fn classes(&self, key: &str) -> Result<Vec<usize>, EnvError> {
        Ok(self.entry(key)?.to_f32().into_iter().map(|class| class as usize).collect())
    }

    /// The numbers of the entry `key`, row by row.
    pub fn numbers(&self, key: &str) -> Result<Vec<f32>, EnvError> {
        Ok(self.entry(key)?.to_f32())
    }

    fn entry(&self, key: &str) -> Result<&Array, EnvError> {
        let there = || self.values.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.values
            .get(key)
            .ok_or_else(|| EnvError::failed(format!("no action `{key}` to read; there are: {}", there())))
    }
}

/// An environment.
///
/// Whoever steps one holds it to what it promises: each observation has exactly the keys of [`Env::obs_space`], in their types and
/// shapes, with finite numbers within their bounds and classes below their number; `is_first` is set on the step of a reset and on no
/// other, with reward 0; `is_terminal` is set only where `is_last` is. And it is held to what is promised here: actions have exactly the
/// entries of [`Env::act_space`], in their types, shapes and bounds, and the step after one with `is_last` is a reset.
///
/// All randomness should come from the seed that the environment is made with, so that runs can be repeated. An environment is stepped by
/// one thread at a time, though not always by the one that made it.
pub trait Env: Send {
    /// Spaces of the observation, those of the flags and the reward ([`Outcome::spaces`]) among them. Always the same. Images are bytes,
    /// [height, width, channels]; numbers and classes have up to two axes.
    fn obs_space(&self) -> Spaces;
    /// Spaces of the action, whose keys begin with `action`. Always the same. Numbers should have bounds ([`Space::bounded`]): the agent
    /// acts in [-1, 1], and what arrives here is scaled to the bounds and clipped.
    fn act_space(&self) -> Spaces;
    /// One step. With `action.reset` it begins an episode, whatever happened before, and returns its first observation with
    /// [`Outcome::first`]. Otherwise it does what the action says and returns what is seen afterwards, with the reward for it. The last step
    /// of an episode has `is_last`; `is_terminal` too if nothing can follow by the nature of the task, but not if the episode is merely
    /// cut, by a limit of time for instance: values go on behind a cut and are zero behind a terminal step.
    ///
    /// An error ends the actor, which is then started again (`actor.max_restarts`); [`EnvError::failed`] makes one.
    fn step(&mut self, action: &Action) -> Result<Step, EnvError>;
    /// Say that [`Env::step`] with this action comes next, so that an environment in another process begins with it while others
    /// are asked.
    fn begin(&mut self, _action: &Action) {}
    /// Whether a reset waits for an environment that is being started again, which it does unless told otherwise; else it is
    /// [`EnvError::Restarting`], and the same step is to be asked for later.
    fn set_patient(&mut self, _patient: bool) {}
    /// The state as people can look at it, u8 [height, width, 3], also where observations have no image; none if it cannot be drawn.
    /// Films are made of it.
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
