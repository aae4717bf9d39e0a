//! From what an environment returns to what the agent sees.

use std::collections::BTreeMap;

use shared::array::Array;
use shared::config::VitConfig;
use shared::env::{FLAGS, Spaces};

/// Observation spaces of the agent: the environment's, without flags and reward, in its order.
pub fn agent_spaces(env: &Spaces, config: &VitConfig) -> Spaces {
    let _ = config;
    env.iter().filter(|(key, _)| !FLAGS.contains(&key.as_str())).map(|(k, s)| (k.clone(), s.clone())).collect()
}

/// What turns frames into features, once per frame.
#[derive(Default)]
pub struct Features {}

impl Features {
    /// Observations of N environments, [N, …] by key, as the agent sees and records them.
    pub fn observe(&self, obs: BTreeMap<String, Array>) -> BTreeMap<String, Array> {
        obs
    }
}
