//! `lucid import`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shared::config::Config;
use shared::params::{Tree, fingerprint};

use crate::RunError;
use crate::agent::Agent;
use crate::checkpoint::{Checkpoints, Counters, Cut};
use crate::error::io;
use crate::launch::{Resolved, RunLock};
use crate::official::{self, OfficialError};
use crate::process::{RunSpaces, import_steps, origin};
use crate::replay::Replay;
use crate::saver;

/// Make a run from a checkpoint of the official DreamerV3 code.
///
/// Parameters, slow value, optimizer state, normalisers and counters are taken over. Replay is with `--set replay.import=FOLDER`
/// (the official code's is `replay` in its logdir); else the run collects its own steps before its next update. Options must be those that the checkpoint was trained with; a shape that does not fit is an
/// error.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The official code's logdir, its ckpt folder (the newest checkpoint counts), or one checkpoint's folder.
    #[arg(value_name = "OFFICIAL_DIR")]
    checkpoint: PathBuf,
    /// Run folder to make; `lucid train --run` goes on with it.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Preset: a built-in name or the path of a .toml file; later ones win.
    #[arg(short, long = "config", value_name = "PRESET")]
    config: Vec<String>,
    /// Override one option.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Run it.
pub fn run(args: Args) -> Result<(), RunError> {
    check_new(&args.run)?;
    let config = Config::load(&args.config, &args.set)?;
    let found = official::read(&args.checkpoint)?;
    let (spaces, agent) = agent(&config, &found.values)?;
    let (updates, steps, imports) = (agent.updates(), found.step, !config.replay.import.is_empty());
    let news = save(Resolved { dir: args.run.clone(), config, resumed: false }, &spaces, &agent, steps)?;
    println!("{}: {steps} environment steps, {updates} updates, {} arrays", found.path.display(), found.values.len());
    if !imports {
        println!(
            "replay is not imported: the run collects its own steps before its next update; --set replay.import=FOLDER imports one"
        );
    }
    news.iter().for_each(|line| println!("{line}"));
    println!("go on with: lucid train --run {}", args.run.display());
    Ok(())
}

fn check_new(run: &Path) -> Result<(), RunError> {
    match ["config.toml", "checkpoints"].into_iter().any(|name| run.join(name).exists()) {
        true => Err(RunError::Folder {
            path: run.to_path_buf(),
            message: "it holds a run already".into(),
            help: "import into another folder with --run".into(),
        }),
        false => Ok(()),
    }
}

/// The agent of this config with the official values.
fn agent(config: &Config, values: &Tree) -> Result<(RunSpaces, Agent), RunError> {
    if !config.vit.weights.is_empty() {
        let (weights, remedy) = (config.vit.weights.clone(), "import with --set 'vit.weights=\"\"'");
        return Err(OfficialError::Vit { weights, remedy }.into());
    }
    let spaces = RunSpaces::of(config)?;
    let origin = || origin(config, &spaces);
    let options = config.agent();
    let fresh = Agent::new(&options, origin())?.save()?;
    let agent = Agent::restore(&options, origin(), official::from_official(values, fresh, &options)?)?;
    Ok((spaces, agent))
}

/// Write the run folder: its config last, since that is what makes it a run.
fn save(run: Resolved, spaces: &RunSpaces, agent: &Agent, env_steps: u64) -> Result<Vec<String>, RunError> {
    let Resolved { dir, config, .. } = &run;
    let logs = dir.join("logs");
    fs::create_dir_all(&logs).map_err(io("create", &logs))?;
    let _lock = RunLock::take(dir, "launcher.lock", Duration::ZERO)?;
    check_new(dir)?;
    let checkpoints = Checkpoints::new(dir, config.checkpoint.keep);
    let (length, context) = (config.agent.sample_length(), config.agent.replay_context);
    let replay = Replay::new(&config.replay, length, context, config.run.seed, checkpoints.replay_dir())?;
    let mut news = Vec::new();
    let limiter = import_steps(config, spaces, None, 1, &replay, &mut news)?;
    let cut = Cut {
        journal: 0,
        agent: agent.save()?,
        counters: Counters { env_steps, updates: agent.updates(), ..Counters::default() },
        limiter,
        replay: replay.save()?,
        pending: Vec::new(),
        frozen: saver::frozen(agent),
        config: saver::fingerprint(config)?,
        layout: format!("{:016x}", fingerprint(&agent.policy_params()?)),
    };
    checkpoints.save(&cut)?;
    run.save()?;
    Ok(news)
}
