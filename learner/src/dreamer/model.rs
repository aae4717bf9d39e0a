//! All networks of the agent, each built once from the parameter store.

use shared::config::AgentConfig;
use shared::dreamer::Acting;
use shared::env::Spaces;
use shared::params::{ParamError, Scope, Source};

use super::{Binary, Decoder, Latent, Value};

/// World model, policy and value.
pub struct Model {
    /// Encoder, dynamics and policy: what actors run too.
    pub acting: Acting,
    /// Observations from latents.
    pub decoder: Decoder,
    /// Reward.
    pub reward: Value,
    /// Whether the episode goes on.
    pub cont: Binary,
    /// Value of the policy.
    pub value: Value,
}

impl Model {
    /// Build over a source of weights.
    pub fn new(config: &AgentConfig, obs: &Spaces, act: &Spaces, source: &dyn Source) -> Result<Self, ParamError> {
        let (root, precision) = (Scope::root(source), config.precision());
        let rssm = &config.dynamics.rssm;
        let latent = Latent { deter: rssm.deter, stoch: rssm.stoch * rssm.classes };
        let features = latent.deter + latent.stoch;
        Ok(Self {
            acting: Acting::new(config, obs, act, source)?,
            decoder: Decoder::new(source, config, obs, latent)?,
            reward: Value::new(&root.sub("rew"), &config.rewhead, precision, features)?,
            cont: Binary::new(&root.sub("con"), &config.conhead, precision, features)?,
            value: Value::new(&root.sub("val"), &config.value, precision, features)?,
        })
    }
}
