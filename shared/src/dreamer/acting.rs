//! The one step an actor takes: carry in, carry out.

use candle_core::{DType, Device, Tensor};

use super::encoder::Encoder;
use super::inputs::{self, Columns};
use super::policy::Policy;
use super::rssm::{Rssm, State};
use crate::array::Array;
use crate::config::AgentConfig;
use crate::dist::Draws;
use crate::env::{Space, Spaces};
use crate::kernels::{no_grad, read};
use crate::params::{ParamError, Scope, Source};

/// Recurrent state between two steps of N environments.
#[derive(Clone, Debug)]
pub struct Carry {
    /// State of the dynamics.
    pub state: State,
    /// Last sampled action by key, [N, …].
    pub action: Columns,
}

impl Carry {
    /// The state before the first step of `n` environments.
    pub fn zeros(config: &AgentConfig, act: &Spaces, n: usize) -> candle_core::Result<Self> {
        let rssm = &config.dynamics.rssm;
        let zeros = |shape: Vec<usize>| Tensor::zeros(shape, DType::F32, &Device::Cpu);
        let state = State { deter: zeros(vec![n, rssm.deter])?, stoch: zeros(vec![n, rssm.stoch, rssm.classes])? };
        let blank =
            |(k, s): (&String, &Space)| (k.clone(), Array::zeros(s.dtype, &[&[n], s.shape.as_slice()].concat()));
        Ok(Self { state, action: act.iter().map(blank).collect() })
    }
}

/// What one step of acting gave.
pub struct Acted {
    /// State for the next step.
    pub carry: Carry,
    /// Sampled (unclipped) actions by key, [N, …], in the action space's type.
    pub actions: Columns,
    /// Recurrent state to store in replay, [N, deter].
    pub deter: Array,
    /// Posterior sample to store in replay, [N, stoch, classes].
    pub stoch: Array,
}

/// Encoder, RSSM and policy over one source of weights.
pub struct Acting {
    config: AgentConfig,
    act: Spaces,
    /// Observations to tokens.
    pub encoder: Encoder,
    /// Dynamics.
    pub rssm: Rssm,
    /// Actions from features.
    pub policy: Policy,
}

impl Acting {
    /// Build the modules; `obs` are the agent's spaces (frames already replaced by features where a ViT sees them).
    pub fn new(config: &AgentConfig, obs: &Spaces, act: &Spaces, source: &dyn Source) -> Result<Self, ParamError> {
        let root = Scope::root(source);
        let rssm_config = &config.dynamics.rssm;
        let precision = config.precision();
        let encoder = Encoder::new(&root.sub("enc"), &config.enc.simple, precision, obs)?;
        let actions = act.values().map(Space::width).sum();
        let rssm = Rssm::new(&root.sub("dyn"), rssm_config, precision, actions, encoder.width())?;
        let features = rssm_config.deter + rssm_config.stoch * rssm_config.classes;
        let policy = Policy::new(&root.sub("pol"), &config.policy, precision, features, act)?;
        Ok(Self { config: config.clone(), act: act.clone(), encoder, rssm, policy })
    }

    /// The state before the first step of `n` environments.
    pub fn initial(&self, n: usize) -> Result<Carry, ParamError> {
        Ok(Carry::zeros(&self.config, &self.act, n)?)
    }

    /// Observe one step of N environments and choose actions. `obs` is by key, [N, …], with `is_first` among the keys.
    pub fn step(&self, carry: &Carry, obs: &Columns, draws: &mut dyn Draws) -> Result<Acted, ParamError> {
        Ok(no_grad(|| self.act(carry, obs, draws))?)
    }

    fn act(&self, carry: &Carry, obs: &Columns, draws: &mut dyn Draws) -> candle_core::Result<Acted> {
        let keep = inputs::flag(obs, "is_first", true)?;
        let rows = keep.dim(0)?;
        let tokens = self.encoder.forward(&self.encoder.inputs(obs, rows)?)?;
        let action = inputs::actions(&self.act, &carry.action, rows)?.broadcast_mul(&keep)?;
        let (state, _) = self.rssm.observe(&carry.state, &action, &tokens, &keep, draws)?;
        let actions = self.policy.sample(&self.policy.forward(&state.features()?)?, draws)?;
        Ok(Acted {
            deter: to_array(&state.deter)?,
            stoch: to_array(&state.stoch)?,
            carry: Carry { state, action: actions.clone() },
            actions,
        })
    }
}

/// A float32 tensor as an array of the same shape.
pub fn to_array(tensor: &Tensor) -> candle_core::Result<Array> {
    read(tensor, |values| Array::f32(tensor.dims(), values))
}
