//! Environments.

use std::collections::BTreeMap;

use shared::array::Array;
use shared::env::Spaces;

/// What an environment or its wrapper can fail with.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// No such task.
    #[error("unknown task `{task}`; known: {known}")]
    UnknownTask {
        /// The name asked for.
        task: String,
        /// Names that exist, comma separated.
        known: String,
    },
    /// An action that the environment cannot take.
    #[error("environment `{task}`: {message}")]
    Invalid {
        /// Which task.
        task: String,
        /// What is wrong.
        message: String,
    },
}

/// Observation by key, with `is_first`, `is_last`, `is_terminal` (u8 scalars) and `reward` (f32 scalar) among the keys.
pub type Step = BTreeMap<String, Array>;

/// Action by key, and whether to reset instead of acting.
pub struct Action {
    /// Start a new episode; `values` are then ignored.
    pub reset: bool,
    /// Action by key, in the action space's type.
    pub values: BTreeMap<String, Array>,
}

/// An environment. Reset is a flag of the step: a step with `reset` returns the first observation (`is_first`) of a new episode.
pub trait Env: Send {
    /// Spaces of the observation, including the flags and the reward.
    fn obs_space(&self) -> Spaces;
    /// Spaces of the action.
    fn act_space(&self) -> Spaces;
    /// One step.
    fn step(&mut self, action: &Action) -> Result<Step, EnvError>;
}

/// Build the task that the config names, with its wrappers, seeded.
pub fn make(config: &shared::config::EnvConfig, seed: u64) -> Result<Box<dyn Env>, EnvError> {
    let _ = seed;
    Err(EnvError::UnknownTask { task: config.task.clone(), known: String::new() })
}
