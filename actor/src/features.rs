//! From what an environment returns to what the agent sees: frames through the frozen encoder, once per frame.

use std::collections::BTreeMap;

use shared::array::Array;
use shared::config::VitConfig;
use shared::env::{FLAGS, Spaces};
use shared::params::Params;
use shared::snapshot::format::SnapshotView;
use shared::vit::{self, VitError, VitSpec};
use shared::wire::Bulk;

use crate::ActorError;

/// Observation spaces of the agent: the environment's in its order, without flags and reward, with features for frames if there is
/// a frozen encoder.
pub fn agent_spaces(env: &Spaces, config: &VitConfig, spec: Option<&VitSpec>) -> Result<Spaces, VitError> {
    let seen = env.iter().filter(|(key, _)| !FLAGS.contains(&key.as_str())).map(|(k, s)| (k.clone(), s.clone()));
    match spec {
        Some(spec) => vit::agent_spaces(&seen.collect(), config, spec),
        None => Ok(seen.collect()),
    }
}

/// What turns observations of environments into those of the agent.
pub struct Features {
    encoder: Option<vit::Features>,
    agent: Spaces,
}

impl Features {
    /// `agent`: what [`agent_spaces`] gave.
    pub fn new(encoder: Option<vit::Features>, agent: Spaces) -> Self {
        Self { encoder, agent }
    }

    /// Sizes of the encoder that came with a welcome, as JSON.
    pub fn sizes(text: &str) -> Result<VitSpec, ActorError> {
        serde_json::from_str(text).map_err(|e| ActorError::Encoder { message: e.to_string() })
    }

    /// With an encoder of these sizes and its region, which is read in place.
    pub fn mapped(
        config: &VitConfig,
        agent: Spaces,
        spec: Option<&VitSpec>,
        bulk: Bulk,
        threads: usize,
    ) -> Result<Self, ActorError> {
        let Some(spec) = spec else { return Ok(Self::new(None, agent)) };
        let refuse = |message: String| ActorError::Encoder { message };
        let params = match bulk.as_ref().is_empty() {
            true => Params::read_only(&[])?,
            false => {
                let view = SnapshotView::open(bulk.into_lasting_region()).map_err(|e| refuse(e.to_string()))?;
                Params::read_only(&[("", &view)])?
            }
        };
        Ok(Self::new(Some(vit::Features::new(config, spec, &params, threads)?), agent))
    }

    /// Observations of N environments, [N, …] by key with flags and reward, as the agent sees and records them.
    /// The policy acts on features as they are recorded: rounded to float16.
    pub fn observe(&self, mut obs: BTreeMap<String, Array>) -> Result<BTreeMap<String, Array>, VitError> {
        let Some(encoder) = &self.encoder else { return Ok(obs) };
        for (key, space) in &self.agent {
            let Some(image) = key.strip_prefix("vit/") else { continue };
            let Some(frames) = obs.get(image) else { continue };
            let [n, height, width, _] = frames.shape[..] else { continue };
            let numbers = vit::round_features(&encoder.encode(&frames.bytes, n, height, width))?;
            let shape = [&[n], space.shape.as_slice()].concat();
            obs.insert(key.clone(), Array::f16(&shape, &numbers));
            if !self.agent.contains_key(image) {
                obs.remove(image);
            }
        }
        Ok(obs)
    }
}
