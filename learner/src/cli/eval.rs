//! `lucid eval`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use actor::{Blueprint, Features, Policy};
use shared::config::Config;
use shared::dreamer::Choice;
use shared::params::fingerprint;
use shared::snapshot::format::{SnapshotHeader, encode};
use shared::vit::PREFIX;
use shared::wire::Bulk;

use crate::RunError;
use crate::agent::Agent;
use crate::checkpoint::{Checkpoints, Loaded};
use crate::evaluation::{Plan, Play, Record, Source, can_film};
use crate::film_file;
use crate::frozen::Trunk;
use crate::process::{RunSpaces, origin};
use crate::proof::check_frozen;

/// Environments that are stepped together.
const ENVS: usize = 8;

/// Run episodes with a run's newest checkpoint, and append what came of them to the run folder's eval.jsonl.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder.
    run: PathBuf,
    /// Episodes.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    episodes: u32,
    /// Seed of environments and actions.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How actions are chosen: sampled from the policy, as in training and as the official code evaluates too, or its mode (the
    /// likeliest class, the mean of continuous actions). The recurrent state is sampled either way.
    #[arg(long, value_name = "HOW", default_value = Choice::NAMES[0], value_parser = Choice::NAMES)]
    actions: String,
    /// Keep the first episode (at most 1,000 frames) as an animated GIF, or as MP4 where ffmpeg is installed. It shows the environment
    /// also where the agent observes a vector only; tmaze draws no pictures.
    #[arg(long, value_name = "FILE.gif|FILE.mp4")]
    video: Option<PathBuf>,
    /// Print one JSON object, the line of eval.jsonl, instead of a sentence.
    #[arg(long)]
    json: bool,
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
        let (spaces, trunk) = RunSpaces::through(&config, run, loaded.cut.frozen.get(PREFIX))?;
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
    let env = &snapshot.config.env;
    if args.video.is_some() && !can_film(env)? {
        return Err(RunError::Film { task: env.task.clone() });
    }
    let play = play(&snapshot, args)?;
    let counters = &snapshot.loaded.cut.counters;
    let (steps, updates) = (counters.env_steps, counters.updates);
    let record = Record::new(Source::Command, choice(args), args.seed, play.episodes());
    let record = record.of(counters.version, updates, steps);
    record.append(&args.run)?;
    if let Some((file, frames)) = args.video.as_ref().zip(play.film()) {
        film_file::write(file, &frames)?;
    }
    let (episodes, mean, std) = (record.episodes, record.mean, record.std);
    match args.json {
        true => println!("{}", record.to_json()),
        false => println!("{episodes} episodes at {steps} steps, {updates} updates: return {mean:.3} ± {std:.3}"),
    }
    Ok(())
}

/// Clap lets no other word through.
fn choice(args: &Args) -> Choice {
    Choice::parse(&args.actions).unwrap_or_default()
}

fn play(snapshot: &Snapshot, args: &Args) -> Result<Play, RunError> {
    let Snapshot { config, trunk, spaces, .. } = snapshot;
    let encoder = trunk.as_ref().map(|trunk| trunk.features(&config.vit, rayon::current_num_threads())).transpose()?;
    let features = Arc::new(Features::new(encoder, spaces.agent.clone()));
    let policy = policy(snapshot, choice(args))?;
    let plan = Plan { envs: ENVS, episodes: args.episodes as usize, seed: args.seed, film: args.video.is_some() };
    let mut play = Play::new(config, spaces.env.clone(), features, plan)?;
    while !play.step(&policy)? {}
    Ok(play)
}

/// The policy as actors have it: over a snapshot of the parameters.
fn policy(snapshot: &Snapshot, choice: Choice) -> Result<Policy, RunError> {
    let Snapshot { config, trunk, spaces, agent, loaded } = snapshot;
    let (version, params) = (loaded.cut.counters.version, agent.policy_params()?);
    let blueprint = Blueprint {
        config: config.acting_through(trunk.as_ref().map(|trunk| &trunk.spec), &spaces.env)?,
        obs: spaces.agent.clone(),
        act: spaces.act.clone(),
        layout: fingerprint(&params),
    };
    let header = SnapshotHeader { version, update: loaded.cut.counters.updates, published: 0 };
    let (policy, _) = blueprint.build(version, Bulk::Bytes(encode(&header, &params)?))?;
    Ok(Policy { acting: policy.acting.choosing(choice), ..policy })
}
