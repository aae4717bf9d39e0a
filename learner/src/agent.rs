//! The agent as the train thread sees it: parameters, optimizer, slow value, normalisers, and the training step.

use std::collections::BTreeMap;

use shared::array::Array;
use shared::config::AgentConfig;
use shared::env::Spaces;
use shared::params::Weight;

/// Why a training step or a state was refused.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// From the parameter store.
    #[error(transparent)]
    Param(#[from] shared::params::ParamError),
    /// From candle.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A value that is not finite; the update was not applied.
    #[error("not finite: {what}")]
    NotFinite {
        /// The first loss or gradient that is not finite.
        what: String,
    },
    /// A saved state that does not fit this agent.
    #[error("state does not fit: {message}")]
    State {
        /// What is wrong, naming the entry.
        message: String,
    },
}

/// A batch from replay: columns by key, [B, C + T, …] (C: replay context), in the types in which they were recorded,
/// with `dyn/deter` and `dyn/stoch` among them, and `consec` ([B], i32: index of the piece within its sample).
pub type Batch = BTreeMap<String, Array>;

/// What one training step gave.
pub struct Trained {
    /// Metrics by their official names (`loss/dyn`, `adv`, `opt/grad_norm`, …).
    pub metrics: BTreeMap<String, f32>,
    /// Posterior of the T trained steps, to be written back to replay, [B, T, deter].
    pub deter: Array,
    /// [B, T, stoch, classes].
    pub stoch: Array,
}

/// Everything that trains. One thread owns it: the only writer of parameters.
pub struct Agent {}

impl Agent {
    /// Create parameters from the seed.
    pub fn new(config: &AgentConfig, obs: &Spaces, act: &Spaces, seed: u64) -> Result<Self, AgentError> {
        let _ = (config, obs, act, seed);
        Ok(Self {})
    }

    /// One update.
    pub fn train(&mut self, batch: &Batch) -> Result<Trained, AgentError> {
        let _ = batch;
        todo!()
    }

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        todo!()
    }

    /// What a snapshot carries, by path (`enc/`, `dyn/`, `pol/`, without the frozen ViT).
    pub fn policy_params(&self) -> Vec<(String, Weight)> {
        todo!()
    }

    /// Everything needed to go on exactly: parameters (`params/…`), optimizer state (`opt/…`), counters, normalisers, random
    /// state, and the carry of the train stream.
    pub fn save(&self) -> Result<BTreeMap<String, Array>, AgentError> {
        todo!()
    }

    /// Go on from a saved state; checked whole before anything is changed.
    pub fn load(&mut self, state: BTreeMap<String, Array>) -> Result<(), AgentError> {
        let _ = state;
        todo!()
    }
}
