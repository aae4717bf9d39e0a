//! The one step an actor takes: carry in, carry out.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::array::Array;
use crate::config::AgentConfig;
use crate::dist::Draws;
use crate::env::Spaces;
use crate::params::{ParamError, Source};

/// Recurrent state between two steps of N environments.
#[derive(Clone, Debug)]
pub struct Carry {
    /// [N, deter].
    pub deter: Tensor,
    /// [N, stoch, classes], one-hot.
    pub stoch: Tensor,
    /// Last sampled action by key, [N, …], float32.
    pub action: BTreeMap<String, Tensor>,
}

/// What one step of acting gave.
pub struct Acted {
    /// State for the next step.
    pub carry: Carry,
    /// Sampled (unclipped) actions by key, [N, …], in the action space's type.
    pub actions: BTreeMap<String, Array>,
    /// Recurrent state to store in replay, [N, deter].
    pub deter: Array,
    /// Posterior sample to store in replay, [N, stoch, classes].
    pub stoch: Array,
}

/// Encoder, RSSM and policy over one source of weights.
pub struct Acting {}

impl Acting {
    /// Build the modules; `obs` are the agent's spaces (frames already replaced by features where a ViT sees them).
    pub fn new(config: &AgentConfig, obs: &Spaces, act: &Spaces, source: &dyn Source) -> Result<Self, ParamError> {
        let _ = (config, obs, act, source);
        Ok(Self {})
    }

    /// The state before the first step of `n` environments.
    pub fn initial(&self, n: usize) -> Result<Carry, ParamError> {
        let _ = n;
        todo!()
    }

    /// Observe one step of N environments and choose actions. `obs` is by key, [N, …], with `is_first` among the keys.
    pub fn step(
        &self,
        carry: &Carry,
        obs: &BTreeMap<String, Array>,
        draws: &mut dyn Draws,
    ) -> Result<Acted, ParamError> {
        let _ = (carry, obs, draws);
        todo!()
    }
}
