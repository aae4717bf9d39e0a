//! The agent as the train thread sees it: parameters, optimizer, slow value, normalisers, and the training step.

mod finite;
mod report;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use shared::array::Array;
use shared::config::AgentConfig;
use shared::dist::Seeded;
use shared::dreamer::{State, inputs, to_array};
use shared::env::Spaces;
use shared::params::{Create, ParamError, Params, Run, Scope, Source, Tree, Weight};
use shared::trace::span;
use shared::vit::{PREFIX, Tail};

use crate::dreamer::{Carry, Context, Loss, Model, Normalize, Normalizers, Stats, Step, Value, last_actions, split};
use crate::optim::{OptError, Optimizer};

pub use finite::Culprit;
pub use report::Reported;

/// Why a training step or a state was refused.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// From the parameter store.
    #[error(transparent)]
    Param(#[from] ParamError),
    /// From the optimizer.
    #[error(transparent)]
    Optimizer(#[from] OptError),
    /// From candle.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A value that is not finite; the update was not applied.
    #[error("not finite: {what}")]
    NotFinite {
        /// What it is in.
        what: Culprit,
    },
    /// A state that nobody should go on from.
    #[error(
        "after update {update} `{entry}` of the agent has a value that is not finite; it is not saved, and the newest checkpoint stays \
         what it is: resume from that, with a lower agent.opt.lr"
    )]
    Spoilt {
        /// Which entry of its state.
        entry: String,
        /// After which update.
        update: u64,
    },
    /// A saved state that does not fit this agent.
    #[error("the saved state does not fit this agent: {message}")]
    State {
        /// What is wrong, naming the entry.
        message: String,
    },
    /// An option that the agent does not have.
    #[error("agent.{key} = {value} is not supported yet; use {supported}")]
    Unsupported {
        /// Which key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What works.
        supported: &'static str,
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

/// Patterns of the parameters that actors need: what a snapshot carries.
pub const POLICY: [&str; 3] = ["enc", "dyn", "pol"];
const STATISTICS: &str = "enc/features";

/// Everything that trains. One thread owns it: the only writer of parameters.
pub struct Agent {
    config: AgentConfig,
    act: Spaces,
    params: Params<Run>,
    model: Model,
    slow_params: Params<Run>,
    slow: Value,
    slow_count: u64,
    norms: Normalizers,
    optimizer: Optimizer,
    carry: Option<Carry>,
    draws: Seeded,
    device: Device,
}

/// What an agent is made from, beside its options.
pub struct Origin<'a> {
    /// The agent's observation spaces: frames already replaced by features where a ViT sees them.
    pub obs: &'a Spaces,
    /// Action spaces.
    pub act: &'a Spaces,
    /// Seed of every initial value and draw.
    pub seed: u64,
    /// Frozen numbers of the feature adapters below `enc/features`, from calibration frames; empty without a ViT.
    pub statistics: Tree,
    /// What the blocks of the ViT that train start from, by path below `enc/vit`; unused where they are restored.
    pub pretrained: Tree,
    /// Patterns of parameters that the optimizer must not touch.
    pub freeze: &'a [String],
    /// Where parameters, optimizer state and batches live.
    pub device: Device,
}

impl Agent {
    /// Create parameters from the seed.
    pub fn new(config: &AgentConfig, origin: Origin) -> Result<Self, AgentError> {
        let store = || Params::<Create>::on(origin.seed, origin.device.clone());
        let params = store();
        if !origin.statistics.is_empty() {
            params.put(origin.statistics.clone(), STATISTICS)?;
        }
        let mut agent = Self::build(config, &origin, params, store())?;
        // The slow value starts as a copy of the value.
        let value = shared::params::to_tree(&agent.params.subset(&["val"])?)?;
        let renamed = value.into_iter().map(|(path, array)| (format!("slow{path}"), array)).collect();
        agent.slow_params.set_all(&renamed)?;
        agent.carry = None;
        Ok(agent)
    }

    /// Go on from what [`Agent::save`] gave. Values are taken by key, and everything must fit.
    pub fn restore(
        config: &AgentConfig,
        origin: Origin,
        mut state: BTreeMap<String, Array>,
    ) -> Result<Self, AgentError> {
        if let Some(entry) = spoilt(&state) {
            return Err(AgentError::State { message: format!("`{entry}` has a value that is not finite") });
        }
        let mut part = |prefix: &str| -> Tree {
            let keys: Vec<String> = state.keys().filter(|k| k.starts_with(prefix)).cloned().collect();
            let take = |key: String| state.remove(&key).map(|a| (key[prefix.len()..].to_string(), a));
            keys.into_iter().filter_map(take).collect()
        };
        let (mut params, slow, opt, norms, carry) =
            (part("params/"), part("slow/"), part("opt/"), part("norm/"), part("carry/"));
        let (random, count) = (part("random/"), part("count/"));
        // A frozen adapter's numbers enter as they did when the run was created.
        let keys: Vec<String> = params.keys().filter(|k| k.starts_with(STATISTICS)).cloned().collect();
        let below = |key: &str| key[STATISTICS.len() + 1..].to_string();
        let statistics: Tree = keys.iter().filter_map(|k| params.remove(k).map(|a| (below(k), a))).collect();
        let restoring = |tree| Params::<Create>::restoring_on(origin.seed, origin.device.clone(), tree);
        let store = restoring(params);
        if !statistics.is_empty() {
            store.put(statistics, STATISTICS)?;
        }
        let mut agent = Self::build(config, &origin, store, restoring(slow))?;
        agent.optimizer.load(&opt)?;
        agent.load_norms(&norms)?;
        agent.load_carry(carry)?;
        agent.draws = from_bytes(&random, "noise")?;
        agent.slow_count = scalar(&count, "slow_value")?;
        Ok(agent)
    }

    fn build(
        config: &AgentConfig,
        origin: &Origin,
        params: Params<Create>,
        slow_params: Params<Create>,
    ) -> Result<Self, AgentError> {
        check(config)?;
        let (obs, act) = (origin.obs, origin.act);
        if let Some(tail) = &config.enc.simple.tail {
            params.wrap(PREFIX, |scope| Tail::new(scope, tail), |_| Ok(origin.pretrained.clone()))?;
        }
        // The first build creates every parameter; frozen ones are marked before anything can change them.
        Model::new(config, obs, act, &params)?;
        if obs.values().any(inputs::is_features) {
            params.freeze(STATISTICS)?;
            params.set_source(STATISTICS, "calibration frames")?;
        }
        origin.freeze.iter().try_for_each(|pattern| params.freeze(pattern))?;
        let params = params.seal()?;
        let model = Model::new(config, obs, act, &params)?;
        let rssm = &config.dynamics.rssm;
        let features = rssm.deter + rssm.stoch * rssm.classes;
        let slow = |source: &dyn Source| {
            Value::new(&Scope::root(source).sub("slowval"), &config.value, config.precision(), features)
        };
        slow(&slow_params)?;
        let slow_params = slow_params.seal()?;
        let slow = slow(&slow_params)?;
        let normalize = |key: &'static str, c: &shared::config::NormConfig| {
            Normalize::new(c).ok_or_else(|| unsupported(key, &c.kind, "none, meanstd or perc"))
        };
        Ok(Self {
            norms: Normalizers {
                returns: normalize("retnorm.impl", &config.retnorm)?,
                values: normalize("valnorm.impl", &config.valnorm)?,
                advantages: normalize("advnorm.impl", &config.advnorm)?,
            },
            optimizer: Optimizer::new(&config.opt, params.trainable())?,
            config: config.clone(),
            act: act.clone(),
            params,
            model,
            slow_params,
            slow,
            slow_count: 0,
            carry: None,
            draws: Seeded::new(origin.seed),
            device: origin.device.clone(),
        })
    }

    /// One update. Where something about it is not finite, nothing has changed.
    pub fn train(&mut self, batch: &Batch) -> Result<Trained, AgentError> {
        let mut draws = self.draws.clone();
        let trained = self.train_with(batch, &mut draws)?.0;
        self.draws = draws;
        Ok(trained)
    }

    /// One update with noise from `draws`; returns the losses and the gradients too.
    pub fn train_with(
        &mut self,
        batch: &Batch,
        draws: &mut dyn shared::dist::Draws,
    ) -> Result<(Trained, Loss, Vec<Tensor>), AgentError> {
        finite::check_batch(batch)?;
        let context = self.context(batch)?;
        let mut norms = self.norms.clone();
        let forward = span("forward");
        let loss = self.step().loss(&context, &mut norms, draws)?;
        drop(forward);
        let backward = span("backward");
        let grads = self.optimizer.gradients(&loss.total.backward()?)?;
        drop(backward);
        let _span = span("optimizer");
        self.check_update(&loss, &norms, &grads)?;
        self.norms = norms;
        let size = self.optimizer.step(&grads)?;
        self.update_slow()?;
        let mut metrics = loss.metrics.clone();
        metrics.insert("opt/loss".into(), loss.total.to_scalar()?);
        metrics.insert("opt/grad_norm".into(), size.grad_norm);
        metrics.insert("opt/grad_rms".into(), size.grad_rms);
        metrics.insert("opt/update_rms".into(), size.update_rms);
        metrics.insert("opt/param_rms".into(), size.param_rms);
        metrics.insert("opt/param_count".into(), self.optimizer.count() as f32);
        metrics.insert("opt/updates".into(), self.optimizer.steps() as f32);
        let out = &loss.outputs;
        self.carry = Some(Carry { state: out.last.clone(), action: last_actions(batch, &self.act)? });
        let trained =
            Trained { metrics, deter: to_array(&out.posterior.deter)?, stoch: to_array(&out.posterior.stoch)? };
        Ok((trained, loss, grads))
    }

    fn context(&self, batch: &Batch) -> Result<Context, AgentError> {
        let rows = inputs::column(batch, "is_first")?.shape[0];
        let carry = match &self.carry {
            Some(carry) if carry.state.deter.dim(0)? == rows => carry.clone(),
            _ => Carry::zeros(&self.config, &self.act, rows)?,
        };
        self.context_after(carry, batch)
    }

    fn context_after(&self, mut carry: Carry, batch: &Batch) -> Result<Context, AgentError> {
        carry.state = carry.state.to_device(&self.device)?;
        Ok(split(batch, &carry, &self.act, self.config.replay_context)?)
    }

    fn step(&self) -> Step<'_> {
        Step { config: &self.config, act: &self.act, model: &self.model, slow: &self.slow }
    }

    /// Moves the slow value towards the value, every so many updates.
    fn update_slow(&mut self) -> Result<(), AgentError> {
        let c = &self.config.slowvalue;
        if self.slow_count.is_multiple_of(c.every) {
            let rate = c.rate as f32;
            for (path, slow) in self.slow_params.trainable() {
                let value = self.params.lookup(&path["slow".len()..])?.tensor()?.detach();
                let old = slow.as_detached_tensor().affine(f64::from(1.0 - rate), 0.0)?;
                slow.set(&(value.affine(f64::from(rate), 0.0)? + old)?)?;
            }
        }
        self.slow_count += 1;
        Ok(())
    }

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.optimizer.steps()
    }

    /// The parameter store.
    pub fn params(&self) -> &Params<Run> {
        &self.params
    }

    /// What a snapshot carries, by path (`enc/`, `dyn/`, `pol/`, of the ViT only what trains).
    pub fn policy_params(&self) -> Result<Vec<(String, Weight)>, AgentError> {
        Ok(self.params.subset(&POLICY)?)
    }

    /// Everything needed to go on exactly: parameters, optimizer state, slow value, normalisers, random state, and the carry of
    /// the train stream. All of it is finite.
    pub fn save(&self) -> Result<BTreeMap<String, Array>, AgentError> {
        let mut state = BTreeMap::new();
        let mut put =
            |prefix: &str, tree: Tree| state.extend(tree.into_iter().map(|(k, a)| (format!("{prefix}/{k}"), a)));
        put("params", shared::params::to_tree(&self.params.subset(&[".*"])?)?);
        put("slow", self.slow_params.trainable_tree()?);
        put("opt", self.optimizer.save()?);
        put("norm", self.save_norms());
        put("random", [("noise".to_string(), to_bytes(&self.draws)?)].into());
        put("count", [("slow_value".to_string(), Array::u64(&[], &[self.slow_count]))].into());
        if let Some(carry) = &self.carry {
            put(
                "carry",
                [("deter".into(), to_array(&carry.state.deter)?), ("stoch".into(), to_array(&carry.state.stoch)?)]
                    .into(),
            );
            put("carry/action", carry.action.clone());
        }
        match spoilt(&state) {
            None => Ok(state),
            Some(entry) => Err(AgentError::Spoilt { entry, update: self.updates() }),
        }
    }

    fn save_norms(&self) -> Tree {
        let one = |(name, n): (&str, &Normalize)| {
            (name.to_string(), Array::f32(&[3], &[n.stats.low, n.stats.high, n.stats.corr]))
        };
        [("returns", &self.norms.returns), ("values", &self.norms.values), ("advantages", &self.norms.advantages)]
            .into_iter()
            .map(one)
            .collect()
    }

    fn load_norms(&mut self, saved: &Tree) -> Result<(), AgentError> {
        let norms = &mut self.norms;
        for (name, norm) in
            [("returns", &mut norms.returns), ("values", &mut norms.values), ("advantages", &mut norms.advantages)]
        {
            let array = entry(saved, name)?;
            let [low, high, corr] = array.to_f32()[..] else { return Err(misfit(name)) };
            norm.stats = Stats { low, high, corr };
        }
        Ok(())
    }

    fn load_carry(&mut self, mut saved: Tree) -> Result<(), AgentError> {
        if saved.is_empty() {
            return Ok(());
        }
        let state = State { deter: entry(&saved, "deter")?.to_tensor()?, stoch: entry(&saved, "stoch")?.to_tensor()? };
        let action = |key: &String| {
            let name = format!("action/{key}");
            saved.remove(&name).map(|a| (key.clone(), a)).ok_or_else(|| misfit(&name))
        };
        let action = self.act.keys().map(action).collect::<Result<_, _>>()?;
        self.carry = Some(Carry { state, action });
        Ok(())
    }

    /// The networks.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Paths of the trainable parameters, in the order of the gradients.
    pub fn trainable_paths(&self) -> Vec<String> {
        self.params.trainable().into_iter().map(|(path, _)| path).collect()
    }
}

fn unsupported(key: &'static str, value: impl ToString, supported: &'static str) -> AgentError {
    AgentError::Unsupported { key, value: value.to_string(), supported }
}

/// An option that would be ignored is an error.
fn check(c: &AgentConfig) -> Result<(), AgentError> {
    let texts = [
        ("dyn.typ", &c.dynamics.typ, "rssm"),
        ("enc.typ", &c.enc.typ, "simple"),
        ("dec.typ", &c.dec.typ, "simple"),
        ("policy_dist_disc", &c.policy_dist_disc, "categorical"),
        ("policy_dist_cont", &c.policy_dist_cont, "bounded_normal"),
        ("rewhead.output", &c.rewhead.output, "symexp_twohot"),
        ("value.output", &c.value.output, "symexp_twohot"),
        ("conhead.output", &c.conhead.output, "binary"),
    ];
    match texts.into_iter().find(|(_, value, supported)| value != supported) {
        Some((key, value, supported)) => Err(unsupported(key, value, supported)),
        None => Ok(()),
    }
}

/// The first entry of a state with a number that is not finite.
fn spoilt(state: &BTreeMap<String, Array>) -> Option<String> {
    state.iter().find(|(_, array)| array.first_non_finite().is_some()).map(|(entry, _)| entry.clone())
}

fn misfit(name: &str) -> AgentError {
    AgentError::State { message: format!("`{name}` is missing or has another shape") }
}

fn entry<'a>(saved: &'a Tree, name: &str) -> Result<&'a Array, AgentError> {
    saved.get(name).ok_or_else(|| misfit(name))
}

fn scalar(saved: &Tree, name: &str) -> Result<u64, AgentError> {
    entry(saved, name)?.values::<u64>().first().copied().ok_or_else(|| misfit(name))
}

fn to_bytes(draws: &Seeded) -> Result<Array, AgentError> {
    let text = serde_json::to_vec(draws).map_err(|e| AgentError::State { message: e.to_string() })?;
    Ok(Array::u8(&[text.len()], &text))
}

fn from_bytes(saved: &Tree, name: &str) -> Result<Seeded, AgentError> {
    serde_json::from_slice(&entry(saved, name)?.bytes).map_err(|e| AgentError::State { message: e.to_string() })
}
