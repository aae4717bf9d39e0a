//! One typed tree of options: defaults, then preset files, then `--set`.

mod agent;
mod check;
mod error;
mod presets;
#[cfg(test)]
mod tests;
mod tree;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::kernels::Precision;

pub use agent::*;
pub use error::{ConfigError, nearest};
pub use presets::{DEFAULTS, PRESETS};
pub use tree::Difference;

use crate::env::{Spaces, TASKS};
use crate::vit::{TailSpec, VitError, VitSpec};

/// Everything a run can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Config {
    pub run: RunConfig,
    pub env: EnvConfig,
    pub vit: VitConfig,
    pub actor: ActorConfig,
    pub replay: ReplayConfig,
    pub sync: SyncConfig,
    pub hosts: HostsConfig,
    pub eval: EvalConfig,
    pub checkpoint: CheckpointConfig,
    pub log: LogConfig,
    pub web: WebConfig,
    pub agent: AgentConfig,
}

impl Config {
    /// Whether actor and learner wait for each other.
    pub fn lockstep(&self) -> bool {
        self.sync.mode == "lockstep"
    }

    /// The agent's options for training, with those that follow from the ViT's filled in.
    pub fn agent(&self) -> AgentConfig {
        self.agent_with(&self.run.learner_precision)
    }

    /// The same for acting.
    pub fn acting(&self) -> AgentConfig {
        self.agent_with(&self.actor.precision)
    }

    /// Keys of precisions that this processor does not have, with what is used instead.
    pub fn without_units(&self) -> Vec<String> {
        let keys = [
            ("vit.precision", &self.vit.precision),
            ("run.learner_precision", &self.run.learner_precision),
            ("actor.precision", &self.actor.precision),
        ];
        let other = |(key, name): &(&str, &String)| {
            let wanted = Precision::of_products(name)?;
            let told =
                || format!("{key} = {name}: this processor has nothing faster for it than float32, which is used");
            (wanted != wanted.here()).then(told)
        };
        keys.iter().filter_map(other).collect()
    }

    /// A precision that [`Config::check`] refuses is float32 here.
    fn agent_with(&self, precision: &str) -> AgentConfig {
        let mut agent = self.agent.clone();
        agent.products = Precision::of_products(precision).unwrap_or_default();
        agent.enc.simple.reduce = self.vit.reduce;
        agent.enc.simple.queries = if self.vit.pool == "attention" { self.vit.queries } else { 0 };
        agent.enc.simple.adapter = self.vit.adapter.clone();
        agent.dec.simple.features = self.vit.decode != "image";
        agent
    }

    /// The same for an agent that sees `observed` frames through a ViT of these sizes, of which blocks may train.
    pub fn agent_through(&self, vit: Option<&VitSpec>, observed: &Spaces) -> Result<AgentConfig, VitError> {
        self.through(self.agent(), vit, observed)
    }

    /// [`Config::agent_through`] for acting.
    pub fn acting_through(&self, vit: Option<&VitSpec>, observed: &Spaces) -> Result<AgentConfig, VitError> {
        self.through(self.acting(), vit, observed)
    }

    fn through(
        &self,
        mut agent: AgentConfig,
        vit: Option<&VitSpec>,
        observed: &Spaces,
    ) -> Result<AgentConfig, VitError> {
        agent.enc.simple.tail = match vit {
            Some(spec) => TailSpec::new(&self.vit, spec, observed)?,
            None => None,
        };
        Ok(agent)
    }
}

/// The run as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RunConfig {
    /// Seed of everything random.
    pub seed: u64,
    /// End after this many environment steps, over all actors and resumes (0: no end).
    pub steps: u64,
    /// End after this many minutes of this process (0: no end).
    pub minutes: f64,
    /// Replayed steps trained on per environment step.
    pub train_ratio: f64,
    /// Threads of the learner's kernels (0: all cores).
    pub learner_threads: usize,
    /// Where the learner computes: `cpu` or `cuda`.
    pub learner_device: String,
    /// Of the learner's matrix products: `float32`, `split` or `bf16`.
    pub learner_precision: String,
    /// Regexes of parameters that the optimizer must not touch, beside the frozen ViT.
    pub freeze: Vec<String>,
}

/// The environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct EnvConfig {
    /// One of [`TASKS`], which `docs/native_environments.md` describes, `gymnasium:ID` or a task of your own
    /// (`docs/environments.md`), or `SUITE:TASK` for one of [`SUITES`] (`docs/suites.md`). Whether there is such a task is asked
    /// where environments are made, which is what knows tasks of one's own.
    pub task: String,
    /// What the agent observes: `pixels`, `vector` or `both`.
    pub observe: String,
    /// Height and width of frames, in pixels.
    pub size: [usize; 2],
    /// How often each action is repeated.
    pub repeat: usize,
    /// Longest episode, in agent steps (0: the task's own limit).
    pub time_limit: usize,
    /// The Python of Gymnasium's tasks; empty: the one of the active virtual environment, else `python3`.
    pub python: String,
    /// Seconds that each answer of a Gymnasium task may take.
    pub timeout: f64,
    /// Restarts of one environment's process within a minute before its actor ends.
    pub max_restarts: usize,
    /// Keyword arguments for `gymnasium.make`, or settings of a suite or of a task of your own.
    pub kwargs: Table,
}

/// What the names of Gymnasium's tasks begin with.
pub const GYMNASIUM: &str = "gymnasium:";

/// Suites whose tasks are named SUITE:TASK; they run in Python as Gymnasium's do.
pub const SUITES: [&str; 6] = ["atari", "atari100k", "crafter", "dmc", "minigrid", "procgen"];

impl EnvConfig {
    /// Whether the task is built in; what any other shows is known only once it has been made.
    pub fn is_native(&self) -> bool {
        TASKS.contains(&self.task.as_str())
    }

    /// Suite and name of a suite's task.
    pub fn suite(&self) -> Option<(&str, &str)> {
        self.task.split_once(':').filter(|(suite, _)| SUITES.contains(suite))
    }
}

/// The frozen Vision Transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct VitConfig {
    /// Short name (`dinov2-small`), model of the hub (`owner/name`) or path of the weights; empty: images go to the convolutional encoder.
    pub weights: String,
    /// Whose names the file uses; `auto`: found out.
    pub family: String,
    /// What precedes the trunk's names in the file; empty: found out.
    pub prefix: String,
    /// Attention heads; 0: found out.
    pub heads: usize,
    /// Height and width that frames are resized to, pixels; 0: to the nearest whole number of patches.
    pub size: [usize; 2],
    /// `pretrained`, or as controls `random` (untrained weights) or `zero` (features replaced by zeros).
    pub features: String,
    /// Block whose output is used, from 0; -1: the last.
    pub block: i64,
    /// How many of the blocks in use train, counted from the last.
    pub trainable_blocks: TrainableBlocks,
    /// `cls`, `mean`, `grid`, or `attention`: learned queries over the grid.
    pub pool: String,
    /// Side of the pooled grid when `pool` is `grid` or `attention` (0: one cell per patch).
    pub grid: usize,
    /// Learned queries when `pool = "attention"`.
    pub queries: usize,
    /// Principal components kept per pooled feature (0: all numbers, standardised only).
    pub reduce: usize,
    /// Calibration frames from random actions that mean, deviation and components are computed on.
    pub calibration: usize,
    /// Trainable layers between the pooled features and the RSSM.
    pub adapter: AdapterConfig,
    /// What the decoder predicts: `features`, `image` or `both`.
    pub decode: String,
    /// Of the trunk's matrix products: `float32`, `split` or `bf16`.
    pub precision: String,
}

impl VitConfig {
    /// Of the trunk's matrix products; float32 for what [`Config::check`] refuses.
    pub fn products(&self) -> Precision {
        Precision::of_products(&self.precision).unwrap_or_default()
    }
}

/// How many of a ViT's last blocks train: a number, or the word `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum TrainableBlocks {
    /// The last so many; with 0 the ViT is frozen.
    Last(usize),
    /// Every block in use.
    All,
}

impl TryFrom<Value> for TrainableBlocks {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let count = match &value {
            Value::Integer(count) => usize::try_from(*count).ok(),
            Value::String(word) if word == "all" => return Ok(Self::All),
            Value::String(digits) => digits.parse().ok(),
            _ => None,
        };
        count.map(Self::Last).ok_or_else(|| format!("`vit.trainable_blocks` is {value}, must be 0, 1, 2, … or all"))
    }
}

impl From<TrainableBlocks> for Value {
    fn from(blocks: TrainableBlocks) -> Self {
        match blocks {
            TrainableBlocks::Last(count) => Value::Integer(i64::try_from(count).unwrap_or(i64::MAX)),
            TrainableBlocks::All => Value::String("all".into()),
        }
    }
}

/// Actor processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ActorConfig {
    /// Number of actor processes.
    pub count: usize,
    /// Environments in each.
    pub envs: usize,
    /// Environments that must be ready before the policy acts for those that are; 0: all.
    pub wait_for: usize,
    /// Threads of the kernels in each.
    pub threads: usize,
    /// Of the policy's matrix products: `float32`, `split` or `bf16`.
    pub precision: String,
    /// Steps per chunk sent to the learner.
    pub chunk: usize,
    /// Restarts of one actor within a minute before the run is ended.
    pub max_restarts: usize,
}

/// Replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ReplayConfig {
    /// Cap, in steps.
    pub size: usize,
    /// Cap, in GiB of memory; whichever comes first.
    pub gib: f64,
    /// Above 0: full blocks of steps are on disk only, up to this many GiB.
    pub disk_gib: f64,
    /// Newest steps are trained on at least once.
    pub online: bool,
    /// Shares of the ways to draw the other items; their sum is 1.
    pub fracs: FracsConfig,
    /// The draw by priority.
    pub prio: PrioConfig,
    /// Exponent of the recency draw: an item of age k has weight k^-recexp.
    pub recexp: f64,
    /// Steps per chunk file.
    pub chunksize: usize,
    /// Folder of recorded steps that a new run starts with (`docs/offline_data.md`); empty: none.
    pub import: String,
    /// Updates that are due on them.
    pub import_updates: u64,
}

/// Shares of the ways to draw items from replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct FracsConfig {
    pub uniform: f64,
    pub priority: f64,
    pub recency: f64,
}

impl Default for FracsConfig {
    fn default() -> Self {
        Self { uniform: 1.0, priority: 0.0, recency: 0.0 }
    }
}

impl ReplayConfig {
    /// What is set here and has no effect, beside each other or as in the official code.
    pub fn ignored(&self) -> Vec<String> {
        let (prio, default) = (&self.prio, PrioConfig::default());
        if self.fracs.priority == 0.0 {
            let unused = "replay.prio has no effect while replay.fracs.priority is 0";
            return (*prio != default).then(|| unused.into()).into_iter().collect();
        }
        let told = |key: &str, value: f64, why: &str| format!("replay.prio.{key} = {value} has no effect, {why}");
        let only_scale = "as the only priorities are zero and the initial one";
        let mut ignored = vec![];
        if prio.exponent != default.exponent && prio.exponent != 0.0 {
            ignored.push(told("exponent", prio.exponent, only_scale));
        }
        if prio.maxfrac != default.maxfrac && prio.initial.is_infinite() {
            ignored.push(told("maxfrac", prio.maxfrac, "since replay.prio.initial is inf"));
        }
        ignored
    }
}

/// The draw by priority, with the names of the official DreamerV3. Training sends no priorities, there as here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrioConfig {
    /// Power that a priority is raised to.
    pub exponent: f64,
    /// Share of the largest priority of an item's steps in its weight; the rest is their mean.
    pub maxfrac: f64,
    /// Priority of a step that was not drawn by priority; `inf`: before all others.
    pub initial: f64,
    /// A step that was drawn has priority zero from then on.
    pub zero_on_sample: bool,
}

impl Default for PrioConfig {
    fn default() -> Self {
        Self { exponent: 0.8, maxfrac: 0.5, initial: f64::INFINITY, zero_on_sample: true }
    }
}

/// Publishing of policy snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SyncConfig {
    /// `async`, or `lockstep`: actor and learner wait for each other, so that a run can be repeated bit for bit.
    pub mode: String,
    /// Updates between two published snapshots.
    pub publish_every: u64,
    /// An actor waits rather than act on weights older than this many updates (0: never).
    pub max_lag_updates: u64,
    /// `hard`: so it is; `soft`: it acts, and how often is told.
    pub max_lag_mode: String,
    /// Chunks an actor may have under way without an answer.
    pub credits: usize,
    /// Seconds within which a started process must have joined.
    pub join_timeout: f64,
    /// Seconds, beyond `env.timeout`, after which an actor that says nothing is ended and started again.
    pub silence_timeout: f64,
}

/// Actors on other hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct HostsConfig {
    /// Address where hosts join; empty: nobody does.
    pub listen: String,
    /// Whether everything is encrypted, and both sides prove who they are.
    pub secure: bool,
    /// Seconds that a host may be away before its actors are given up.
    pub timeout: f64,
}

/// Evaluations while a run trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct EvalConfig {
    /// Environment steps from the start of one to the start of the next (0: none).
    pub every: u64,
    /// Environments stepped together.
    pub envs: usize,
    /// Episodes in each.
    pub episodes: usize,
    /// How actions are chosen: `sample` or `mode`.
    pub actions: String,
    /// The first episode of each is kept as an animation.
    pub video: bool,
}

/// Checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct CheckpointConfig {
    /// Seconds between two.
    pub every: f64,
    /// How many complete ones are kept.
    pub keep: usize,
}

/// What is reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct LogConfig {
    /// Updates between two records in `metrics.jsonl` (0: by time).
    pub updates: u64,
    /// Seconds between two records in `metrics.jsonl`.
    pub every: f64,
    /// Records go to TensorBoard too.
    pub tensorboard: bool,
    /// Seconds between two reports of what the world model predicts (0: none).
    pub report_every: f64,
    /// Newest pictures of each kind and name that are kept.
    pub media_keep: usize,
    /// Seconds between two heartbeat lines when the output is not a terminal.
    pub heartbeat: f64,
}

/// The page about the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct WebConfig {
    /// Whether the launcher serves it.
    pub enabled: bool,
    /// Where it listens.
    pub address: IpAddr,
    /// Port; 0: one that is free.
    pub port: u16,
    /// File with the secret that visitors must know; empty: one is made for the run.
    pub token_file: String,
    /// Names by which browsers may ask for the page, beside localhost and addresses.
    pub hosts: Vec<String>,
}

impl WebConfig {
    /// Whether others than the users of this machine may reach it, so that the user must choose the secret.
    pub fn public(&self) -> bool {
        !self.address.is_loopback() || !self.hosts.is_empty()
    }
}
