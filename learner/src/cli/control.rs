//! `lucid scale`, `pause`, `resume`, `checkpoint`, `stop` and `set`: words to a run that goes on.

use std::path::{Path, PathBuf};

use crate::RunError;
use crate::control::{Client, ControlError, Request};

/// A run that goes on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder.
    run: PathBuf,
}

/// Have another number of actors.
#[derive(Debug, clap::Args)]
pub struct ScaleArgs {
    /// Run folder.
    run: PathBuf,
    /// Actor processes from now on.
    actors: usize,
}

/// Change an option while the run goes on.
#[derive(Debug, clap::Args)]
pub struct SetArgs {
    /// Run folder.
    run: PathBuf,
    /// The option; those that may change are marked (live) in configs/defaults.toml.
    #[arg(value_name = "KEY=VALUE")]
    set: String,
}

/// Ask, wait until it is so, and print what is so.
pub fn ask(args: &Args, request: Request) -> Result<(), RunError> {
    ask_run(&args.run, request)
}

/// `lucid scale`.
pub fn scale(args: &ScaleArgs) -> Result<(), RunError> {
    ask_run(&args.run, Request::Scale { actors: args.actors })
}

/// `lucid set`.
pub fn set(args: &SetArgs) -> Result<(), RunError> {
    let Some((key, value)) = args.set.split_once('=') else {
        return Err(ControlError::Refused(format!("`{}` is not KEY=VALUE, as in run.train_ratio=64", args.set)).into());
    };
    let (key, value) = (key.trim().to_string(), value.trim().to_string());
    ask_run(&args.run, Request::Set { key, value })
}

fn ask_run(dir: &Path, request: Request) -> Result<(), RunError> {
    println!("{}", Client::connect(dir)?.ask(&request)?);
    Ok(())
}
