//! Other hosts: `lucid host`, `lucid host token`, and the gate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::child;
use crate::RunError;
use crate::hosts::{Authority, GateArgs, HostError, Relay, Token, connect, encoders, gate};
use crate::launch::temporary::Temporary;
use crate::report::{complain, say};
use crate::threads::{on_signals, spawn};

/// Have actors on this host take part in a run elsewhere, until it ends.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The file that `lucid host token` wrote where the run is. `-`: it comes by standard input, up to a line with a dot; the host
    /// leaves the run when that input ends.
    #[arg(long, required = true)]
    token: Option<PathBuf>,
    /// Where the run listens, HOST:PORT; by default what the token says.
    #[arg(long)]
    join: Option<String>,
    /// How many actors to have here.
    #[arg(long, default_value_t = 1)]
    actors: u32,
    /// Where logs go.
    #[arg(long, default_value = "lucid-host")]
    folder: PathBuf,
    /// Without encryption, for a run with hosts.secure = false.
    #[arg(long)]
    plain: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Admit a host to a run: write a file to carry there.
    Token(TokenArgs),
}

#[derive(Debug, clap::Args)]
struct TokenArgs {
    /// Run folder.
    run: PathBuf,
    /// What the host is to be called.
    #[arg(long)]
    name: String,
    /// Where the run listens, as the host reaches it: HOST:PORT.
    #[arg(long, default_value = "")]
    join: String,
    /// The file to write.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// The gate's process.
#[derive(Debug, clap::Args)]
pub struct GateProcess {
    #[arg(long)]
    run: PathBuf,
    #[arg(long)]
    join: String,
}

/// Run what the command line says.
pub fn run(args: Args) -> Result<(), RunError> {
    match args.command {
        Some(Command::Token(args)) => write_token(&args),
        None => relay(args),
    }
}

fn write_token(args: &TokenArgs) -> Result<(), RunError> {
    if !args.run.join("config.toml").exists() {
        return Err(HostError::NoRun { path: args.run.clone() }.into());
    }
    let path = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.token", args.name)));
    Authority::of_run(&args.run)?.token(&args.name, &args.join)?.write(&path)?;
    say(format!("{} admits {} to the run: carry it there, and keep it as a password", path.display(), args.name));
    Ok(())
}

fn relay(args: Args) -> Result<(), RunError> {
    let path = args.token.unwrap_or_default();
    let by_input = path.as_os_str() == "-";
    let token = if by_input { from_input()? } else { Token::read(&path)? };
    let join = args.join.unwrap_or(token.join);
    if join.is_empty() {
        return Err(HostError::NoAddress.into());
    }
    let temporary = Temporary::open();
    if let Err(error) = &temporary {
        complain(format!("no folder for doors: {error}"));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let heard = stop.clone();
    on_signals(&[SIGINT, SIGTERM], move |signal| {
        if heard.swap(true, Ordering::AcqRel) && signal == SIGINT {
            // Asked twice. Actors end with this process.
            std::process::exit(130);
        }
        true
    })?;
    if by_input {
        leave_at_end_of_input(stop.clone())?;
    }
    say(format!("joining {join} as {}", token.name));
    let session = connect(&join, (!args.plain).then_some(&token.identity))?;
    std::fs::create_dir_all(args.folder.join("logs"))
        .map_err(|source| HostError::File { path: args.folder.clone(), source })?;
    let relay = Relay {
        name: token.name,
        secret: token.secret,
        actors: args.actors,
        folder: args.folder,
        cache: encoders(),
        stop,
        tap: None,
    };
    let result = relay.run(&session);
    drop(temporary);
    result
}

fn from_input() -> Result<Token, RunError> {
    let path = Path::new("standard input");
    let failed = |source| HostError::File { path: path.into(), source };
    let mut text = String::new();
    while !text.ends_with("\n.\n") && std::io::stdin().read_line(&mut text).map_err(failed)? > 0 {}
    Ok(Token::parse(text.trim_end_matches(".\n"), path)?)
}

/// Whoever started this has gone, and would start another one.
fn leave_at_end_of_input(stop: Arc<AtomicBool>) -> Result<(), RunError> {
    spawn("end of input", move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        stop.store(true, Ordering::Release);
    })
}

/// The gate's whole life. When the launcher has gone, it ends.
pub fn gate_process(args: GateProcess) -> Result<(), RunError> {
    child::begin("gate".into(), Signal::TERM, drop, || std::process::exit(1))?;
    gate(&GateArgs { run: args.run, join: args.join, token: child::token() })
}
