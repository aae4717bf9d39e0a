//! `lucid eval`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use actor::env::make;
use actor::{ActLoop, Features, Meter, Policy, stream_seed};
use shared::array::Array;
use shared::config::Config;
use shared::dreamer::Acting;
use shared::experience::StreamId;
use shared::vit::PREFIX;

use crate::RunError;
use crate::agent::Agent;
use crate::checkpoint::{Checkpoints, Loaded};
use crate::error::io;
use crate::frozen::Trunk;
use crate::process::{RunSpaces, origin};
use crate::proof::check_frozen;

/// Environments that are stepped together.
const ENVS: usize = 8;
/// Streams of evaluation do not share seeds with those of training.
const EVALUATION: u32 = u32::MAX;

/// Run episodes with a run's newest checkpoint; actions are sampled, as in training.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder.
    run: PathBuf,
    /// Episodes.
    #[arg(long, default_value_t = 100)]
    episodes: usize,
    /// Seed of environments and actions.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// A run's newest checkpoint with its agent.
pub struct Snapshot {
    /// Options.
    pub config: Config,
    /// The frozen encoder.
    pub trunk: Option<Trunk>,
    /// Spaces.
    pub spaces: RunSpaces,
    /// The agent.
    pub agent: Agent,
    /// What else was saved.
    pub loaded: Loaded,
}

impl Snapshot {
    /// Read it; changes nothing.
    pub fn read(run: &Path) -> Result<Self, RunError> {
        let path = run.join("config.toml");
        let config = Config::load(&[path.to_string_lossy()], &[] as &[&str])?;
        let none = || RunError::Folder {
            path: run.to_path_buf(),
            message: "it has no checkpoint yet".into(),
            help: "wait for the first one (checkpoint.every), or let the run end in order".into(),
        };
        let mut loaded = Checkpoints::new(run, config.checkpoint.keep).latest()?.ok_or_else(none)?;
        let trunk = Trunk::load(&config, run, loaded.cut.frozen.get(PREFIX))?;
        let spaces = RunSpaces::of(&config, trunk.as_ref())?;
        let state = std::mem::take(&mut loaded.cut.agent);
        let options = config.agent_through(trunk.as_ref().map(|trunk| &trunk.spec), &spaces.env)?;
        let agent = Agent::restore(&options, origin(&config, &spaces), state)?;
        Ok(Self { config, trunk, spaces, agent, loaded })
    }
}

/// Run it.
pub fn run(args: &Args) -> Result<(), RunError> {
    let snapshot = Snapshot::read(&args.run)?;
    check_frozen(&snapshot.agent, snapshot.trunk.as_ref(), &snapshot.loaded.cut.frozen)?;
    let scores = episodes(&snapshot, args.episodes, args.seed)?;
    let counters = &snapshot.loaded.cut.counters;
    let n = scores.len().max(1) as f64;
    let mean = scores.iter().sum::<f64>() / n;
    let std = (scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n).sqrt();
    let (steps, updates) = (counters.env_steps, counters.updates);
    println!("{} episodes at {steps} steps, {updates} updates: return {mean:.3} ± {std:.3}", scores.len());
    let record = serde_json::json!({
        "step": steps, "update": updates, "seed": args.seed, "episodes": scores.len(), "mean": mean, "std": std,
        "returns": scores,
    });
    let file = args.run.join("eval.jsonl");
    let open = OpenOptions::new().create(true).append(true).open(&file);
    open.and_then(|mut f| writeln!(f, "{record}")).map_err(io("write", &file))
}

/// Returns of episodes. Each environment plays the same number of episodes, so that short ones are not preferred.
fn episodes(snapshot: &Snapshot, count: usize, seed: u64) -> Result<Vec<f64>, RunError> {
    let Snapshot { config, trunk, spaces, agent, loaded } = snapshot;
    let n = count.clamp(1, ENVS);
    let stream = |env: usize| StreamId { actor: EVALUATION, generation: 0, env: env as u32 };
    let envs = (0..n).map(|i| make(&config.env, stream_seed(seed, stream(i)))).collect::<Result<Vec<_>, _>>()?;
    let encoder = trunk.as_ref().map(|trunk| trunk.features(&config.vit, rayon::current_num_threads())).transpose()?;
    let features = Features::new(encoder, spaces.agent.clone());
    let options = config.acting_through(trunk.as_ref().map(|trunk| &trunk.spec), &spaces.env)?;
    let acting = Acting::new(&options, &spaces.agent, &spaces.act, agent.params())?;
    let counters = &loaded.cut.counters;
    let policy = Policy { version: counters.version, update: counters.updates, acting };
    let noise = stream_seed(seed, stream(EVALUATION as usize));
    let mut acts = ActLoop::new(&config.env.task, spaces.env.clone(), envs, features, noise);
    let (mut meter, mut tally) = (Meter::new(n), Tally::new(n, count));
    while !tally.complete() {
        let step = acts.step(&policy, &mut meter)?;
        tally.add(&step["reward"], &step["is_last"]);
    }
    Ok(tally.scores)
}

/// Scores of episodes that count.
struct Tally {
    running: Vec<f64>,
    left: Vec<usize>,
    scores: Vec<f64>,
}

impl Tally {
    fn new(envs: usize, count: usize) -> Self {
        let left = (0..envs).map(|i| count / envs + usize::from(i < count % envs)).collect();
        Self { running: vec![0.0; envs], left, scores: Vec::new() }
    }

    fn complete(&self) -> bool {
        self.left.iter().all(|&n| n == 0)
    }

    fn add(&mut self, reward: &Array, is_last: &Array) {
        for (env, (reward, last)) in reward.to_f32().into_iter().zip(is_last.to_f32()).enumerate() {
            self.running[env] += f64::from(reward);
            if last != 0.0 {
                let score = std::mem::take(&mut self.running[env]);
                if self.left[env] > 0 {
                    self.left[env] -= 1;
                    self.scores.push(score);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_environment_plays_its_share() {
        let mut tally = Tally::new(2, 3);
        let ends = Array::u8(&[2], &[1, 0]);
        for _ in 0..5 {
            tally.add(&Array::f32(&[2], &[1.0, 2.0]), &ends);
        }
        assert!(!tally.complete());
        assert_eq!(tally.scores, [1.0, 1.0]);
        tally.add(&Array::f32(&[2], &[1.0, 2.0]), &Array::u8(&[2], &[1, 1]));
        assert!(tally.complete());
        assert_eq!(tally.scores, [1.0, 1.0, 12.0]);
    }
}
