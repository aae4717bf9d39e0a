//! `lucid train`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::vit::fetch_missing;
use crate::RunError;
use crate::launch::{Request, RunLock, resolve, supervise};
use crate::report::say;

/// Start a run, or go on with one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Preset: a built-in name or the path of a .toml file; later ones win.
    #[arg(short, long = "config", value_name = "PRESET")]
    config: Vec<String>,
    /// Override one option.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Actor processes (actor.count).
    #[arg(long)]
    actors: Option<usize>,
    /// End after this many environment steps (run.steps).
    #[arg(long)]
    steps: Option<u64>,
    /// End after this many minutes (run.minutes).
    #[arg(long)]
    minutes: Option<f64>,
    /// Run folder; one that holds a run is gone on with. Default: a new one in runs/.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Go on without replay files that are damaged.
    #[arg(long)]
    drop_damaged_replay: bool,
}

/// Run it.
pub fn run(args: Args) -> Result<(), RunError> {
    run_with(args, vec![], |_| Ok(()))
}

/// Run it with further options, and with something that is started once its folder is there, and dropped when it has ended.
pub fn run_with<T>(
    args: Args,
    more: Vec<String>,
    start: impl FnOnce(&Path) -> Result<T, RunError>,
) -> Result<(), RunError> {
    let mut sets = args.set;
    sets.extend(more);
    sets.extend(args.actors.map(|n| format!("actor.count={n}")));
    sets.extend(args.steps.map(|n| format!("run.steps={n}")));
    sets.extend(args.minutes.map(|m| format!("run.minutes={m:?}")));
    let request = Request { presets: args.config, sets, run: args.run };
    let resolved = resolve(&request)?;
    let _lock = RunLock::take(&resolved.dir, "launcher.lock", Duration::ZERO)?;
    resolved.save()?;
    fetch_missing(&resolved.config.vit)?;
    let verb = if resolved.resumed { "going on with" } else { "new run in" };
    say(format!("{verb} {}", resolved.dir.display()));
    let extra: &[String] = if args.drop_damaged_replay { &["--drop-damaged-replay".into()] } else { &[] };
    let _beside = start(&resolved.dir)?;
    supervise(&resolved, extra)
}
