//! The one step an actor takes: from observations and what the last step left to actions and what the next one needs.

use candle_core::Tensor;

use super::encoder::Encoder;
use super::in_place::{Buffers, InPlace};
use super::inputs::{self, Columns};
use super::policy::{Choice, Policy};
use super::rssm::{Rssm, State};
use crate::array::{Array, DType};
use crate::config::AgentConfig;
use crate::dist::Draws;
use crate::env::{Space, Spaces};
use crate::kernels::{no_grad, read};
use crate::params::{ParamError, Scope, Source};

/// What the last step of N environments gave, and what the next one starts from.
pub struct Acted {
    /// Chosen (unclipped) actions by key, [N, …], in the action space's type.
    pub actions: Columns,
    /// Recurrent state, [N, deter]: also stored in replay.
    pub deter: Array,
    /// Posterior sample, [N, stoch, classes]: also stored in replay.
    pub stoch: Array,
    buffers: Buffers,
}

impl Acted {
    /// Become what these environments of another carry, in their order.
    pub fn gather(&mut self, all: &Self, envs: &[usize]) {
        for (to, from) in self.arrays().zip(all.actions.values().chain([&all.deter, &all.stoch])) {
            to.gather(from, envs);
        }
    }

    /// Give what each environment carries back to where [`Acted::gather`] takes it.
    pub fn scatter(&self, all: &mut Self, envs: &[usize]) {
        for (from, to) in self.actions.values().chain([&self.deter, &self.stoch]).zip(all.arrays()) {
            from.scatter(to, envs);
        }
    }

    fn arrays(&mut self) -> impl Iterator<Item = &mut Array> {
        self.actions.values_mut().chain([&mut self.deter, &mut self.stoch])
    }
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
    in_place: Option<InPlace>,
    choice: Choice,
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
        let in_place = InPlace::new(&encoder, &rssm, &policy, act);
        let (config, act, choice) = (config.clone(), act.clone(), Choice::default());
        Ok(Self { config, act, encoder, rssm, policy, in_place, choice })
    }

    /// With actions chosen in another way than by sampling; the recurrent state is sampled either way, as in the official code.
    pub fn choosing(self, choice: Choice) -> Self {
        Self { choice, ..self }
    }

    /// Before the first step of `n` environments.
    pub fn initial(&self, n: usize) -> Acted {
        let rssm = &self.config.dynamics.rssm;
        let blank =
            |(k, s): (&String, &Space)| (k.clone(), Array::zeros(s.dtype, &[&[n], s.shape.as_slice()].concat()));
        Acted {
            actions: self.act.iter().map(blank).collect(),
            deter: Array::zeros(DType::F32, &[n, rssm.deter]),
            stoch: Array::zeros(DType::F32, &[n, rssm.stoch, rssm.classes]),
            buffers: Buffers::default(),
        }
    }

    /// Observe one step of N environments and choose actions, in place. `obs` is by key, [N, …], with `is_first` among the keys.
    pub fn step(&self, acted: &mut Acted, obs: &Columns, draws: &mut dyn Draws) -> Result<(), ParamError> {
        match &self.in_place {
            Some(network) => {
                let seen = self.encoder.through_tail(obs, acted.deter.shape[0])?;
                step_in_place(network, acted, &seen, (self.choice, draws))?
            }
            None => no_grad(|| self.step_plainly(acted, obs, draws))?,
        }
        Ok(())
    }

    /// With candle's tensors: any weights, every option.
    fn step_plainly(&self, acted: &mut Acted, obs: &Columns, draws: &mut dyn Draws) -> candle_core::Result<()> {
        let keep = inputs::flag(obs, "is_first", true)?;
        let rows = keep.dim(0)?;
        let tokens = self.encoder.forward(&self.encoder.inputs(obs, rows)?)?;
        let action = inputs::actions(&self.act, &acted.actions, rows)?.broadcast_mul(&keep)?;
        let before = State { deter: acted.deter.to_tensor()?, stoch: acted.stoch.to_tensor()? };
        let (state, _) = self.rssm.observe(&before, &action, &tokens, &keep, draws)?;
        acted.actions = self.policy.choose(&self.policy.forward(&state.features()?)?, self.choice, draws)?;
        (acted.deter, acted.stoch) = (to_array(&state.deter)?, to_array(&state.stoch)?);
        Ok(())
    }
}

fn step_in_place(
    network: &InPlace,
    acted: &mut Acted,
    obs: &Columns,
    draws: (Choice, &mut dyn Draws),
) -> candle_core::Result<()> {
    let Acted { actions, deter, stoch, buffers } = acted;
    let rows = deter.shape[0];
    let (wide, all) = (deter.elements() / rows, (deter.elements() + stoch.elements()) / rows);
    buffers.features.resize(rows * all, 0.0);
    for (row, features) in buffers.features.chunks_exact_mut(all).enumerate() {
        let (to_deter, to_stoch) = features.split_at_mut(wide);
        read_row(deter, row, to_deter);
        read_row(stoch, row, to_stoch);
    }
    network.step(buffers, actions, obs, rows, draws)?;
    let features = || buffers.features.chunks_exact(all);
    write(features().flat_map(|row| &row[..wide]), deter);
    write(features().flat_map(|row| &row[wide..]), stoch);
    for (key, numbers) in network.action_keys().zip(&buffers.actions) {
        if let Some(action) = actions.get_mut(key) {
            write(numbers.iter(), action);
        }
    }
    Ok(())
}

/// A row of an array of floats.
fn read_row(array: &Array, row: usize, out: &mut [f32]) {
    let numbers = array.bytes.as_chunks::<4>().0.chunks_exact(out.len()).nth(row).unwrap_or_default();
    out.iter_mut().zip(numbers).for_each(|(out, bytes)| *out = f32::from_le_bytes(*bytes));
}

/// Numbers into an array that has room for them, in its type: classes or floats.
fn write<'a>(numbers: impl Iterator<Item = &'a f32>, array: &mut Array) {
    let bytes = array.bytes.as_chunks_mut::<4>().0.iter_mut().zip(numbers);
    match array.dtype {
        DType::I32 => bytes.for_each(|(bytes, x)| *bytes = (*x as i32).to_le_bytes()),
        _ => bytes.for_each(|(bytes, x)| *bytes = x.to_le_bytes()),
    }
}

/// A float32 tensor as an array of the same shape.
pub fn to_array(tensor: &Tensor) -> candle_core::Result<Array> {
    read(tensor, |values| Array::f32(tensor.dims(), values))
}
