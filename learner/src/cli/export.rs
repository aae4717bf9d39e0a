//! `lucid export`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use shared::params::{Metadata, save, to_tree};

use super::eval::Snapshot;
use crate::RunError;
use crate::official::{self, OfficialError};

/// Write a run's newest checkpoint for the official DreamerV3 code, or its parameters as safetensors.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder.
    run: PathBuf,
    /// Form.
    #[arg(long, value_enum)]
    to: Form,
    /// What to write: a folder (official), or a file (safetensors).
    out: PathBuf,
}

/// Forms of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A ckpt folder that the official DreamerV3 code loads: everything but replay.
    Official,
    /// One file with every parameter by its path, and the config in its metadata.
    Safetensors,
}

/// Run it.
pub fn run(args: &Args) -> Result<(), RunError> {
    let snapshot = Snapshot::read(&args.run)?;
    match args.to {
        Form::Official => official(&snapshot, &args.out),
        Form::Safetensors => safetensors(&snapshot, &args.out),
    }
}

fn official(snapshot: &Snapshot, out: &Path) -> Result<(), RunError> {
    let config = &snapshot.config;
    if !config.vit.weights.is_empty() {
        let (weights, remedy) = (config.vit.weights.clone(), "use --to safetensors");
        return Err(OfficialError::Vit { weights, remedy }.into());
    }
    let counters = &snapshot.loaded.cut.counters;
    let values = official::to_official(&snapshot.agent.save()?, &config.agent())?;
    let path = official::write(out, &values, counters.env_steps, snapshot.agent.updates())?;
    println!("{}: {} arrays; replay stays in the run folder", path.display(), values.len());
    Ok(())
}

fn safetensors(snapshot: &Snapshot, out: &Path) -> Result<(), RunError> {
    if out.exists() {
        return Err(OfficialError::Exists { path: out.to_path_buf() }.into());
    }
    let counters = &snapshot.loaded.cut.counters;
    let metadata: Metadata = [
        ("format", "lucid".to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_string()),
        ("env_steps", counters.env_steps.to_string()),
        ("updates", counters.updates.to_string()),
        ("config", snapshot.config.to_toml()?),
    ]
    .map(|(key, value)| (key.to_string(), value))
    .into();
    let tree = to_tree(&snapshot.agent.params().subset(&[".*"])?)?;
    save(out, &tree, &metadata)?;
    println!("{}: {} parameters", out.display(), tree.len());
    Ok(())
}
