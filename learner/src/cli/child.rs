//! The processes that `train` starts.

use std::path::PathBuf;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actor::env::EnvError;
use actor::{ActorError, TOKEN_VAR, guard};
use crossbeam::channel::unbounded;
use rustix::process::Signal;

use crate::RunError;
use crate::error::io;
use crate::launch::{HOPELESS, PARENT_VAR, temporary};
use crate::replay::Damaged;
use crate::{evaluation, process};

/// A learner process.
#[derive(Debug, clap::Args)]
pub struct LearnerArgs {
    #[arg(long)]
    run: PathBuf,
    #[arg(long)]
    join: String,
    /// How long the run has gone on with earlier processes of the learner, seconds.
    #[arg(long)]
    since: f64,
    #[arg(long)]
    drop_damaged_replay: bool,
}

/// An actor process.
#[derive(Debug, clap::Args)]
pub struct ActorArgs {
    #[arg(long)]
    join: String,
    #[arg(long)]
    index: u32,
    #[arg(long)]
    generation: u32,
    #[arg(long)]
    timeout: f64,
}

/// The evaluation actor's process.
#[derive(Debug, clap::Args)]
pub struct EvaluatorArgs {
    #[arg(long)]
    run: PathBuf,
    #[arg(long)]
    join: String,
    #[arg(long)]
    timeout: f64,
}

/// The learner's whole life. When the launcher has gone, it saves and ends.
pub fn learner(args: LearnerArgs) -> Result<(), RunError> {
    let gone = Arc::new(AtomicBool::new(false));
    begin("learner".into(), Signal::TERM, drop, {
        let gone = gone.clone();
        move || gone.store(true, Ordering::Release)
    })?;
    signal_hook::flag::register(signal_hook::consts::SIGTERM, gone.clone()).map_err(io("watch", "signals".as_ref()))?;
    let damaged = if args.drop_damaged_replay { Damaged::Drop } else { Damaged::Refuse };
    let before = Duration::try_from_secs_f64(args.since).unwrap_or_default();
    let result =
        process::run(&process::Args { run: args.run, join: args.join, token: token(), before, damaged }, &gone);
    if gone.load(Ordering::Acquire) {
        temporary::remove_of(parent());
    }
    result
}

/// An actor's whole life. When the launcher has gone, it ends at once: it holds nothing that a resumed run needs.
pub fn actor(args: ActorArgs) -> Result<(), RunError> {
    let (tell, doors) = unbounded();
    begin(format!("actor {}", args.index), Signal::KILL, move |door| drop(tell.send(door)), || exit(1))?;
    let timeout = patience(args.timeout);
    let ActorArgs { join, index, generation, .. } = args;
    match actor::run(&actor::Args { join, token: token(), actor: index, generation, timeout, doors }) {
        Err(ActorError::Env(error @ EnvError::GaveUp { .. })) => {
            tracing::error!("{error}");
            exit(HOPELESS)
        }
        ended => Ok(ended?),
    }
}

/// The evaluation actor's whole life. When the launcher has gone, it ends at once.
pub fn evaluator(args: EvaluatorArgs) -> Result<(), RunError> {
    begin("evaluation actor".into(), Signal::KILL, drop, || exit(1))?;
    let timeout = patience(args.timeout);
    evaluation::run(&evaluation::Args { join: args.join, token: token(), run: args.run, timeout })
}

fn parent() -> u32 {
    std::env::var(PARENT_VAR).ok().and_then(|pid| pid.parse().ok()).unwrap_or(0)
}

fn patience(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(60))
}

pub(super) fn token() -> String {
    std::env::var(TOKEN_VAR).unwrap_or_default()
}

/// `heard`: lines that the launcher writes to the standard input.
pub(super) fn begin(
    name: String,
    signal: Signal,
    heard: impl FnMut(String) + Send + 'static,
    gone: impl FnOnce() + Send + 'static,
) -> Result<(), RunError> {
    // A log on a full disk takes no lines; that is no reason to end, nor to say so where nothing can be said.
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).log_internal_errors(false).init();
    guard::end_on_panic(name);
    temporary::join(parent());
    guard::bind_to_parent(parent(), signal, heard, gone).map_err(io("start below", "`lucid train`".as_ref()))
}
