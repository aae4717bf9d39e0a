//! The command line.

mod bench;
mod child;
mod control;
mod env;
mod eval;
mod export;
#[cfg(feature = "hosts")]
mod host;
mod import;
#[cfg(feature = "hosts")]
mod launch;
mod params;
mod plot;
mod report;
mod trace;
mod train;
mod vit;
mod watch;

use clap::{Parser, Subcommand};

use crate::control::Request;
use crate::{RunError, descriptors};

/// Lucid: DreamerV3 agents that see through a frozen Vision Transformer, one learner, many actors.
#[derive(Debug, Parser)]
#[command(name = "lucid", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a run, or go on with one.
    Train(train::Args),
    /// Have another number of actors in a run that goes on.
    Scale(control::ScaleArgs),
    /// Let a run rest: no update, no step, until `resume`.
    Pause(control::Args),
    /// Go on with a run that rests.
    Resume(control::Args),
    /// Have a run write a checkpoint now.
    Checkpoint(control::Args),
    /// Have a run save and end.
    Stop(control::Args),
    /// Change an option of a run that goes on.
    Set(control::SetArgs),
    Watch(watch::Args),
    Trace(trace::Args),
    Eval(eval::Args),
    #[command(subcommand)]
    Env(env::Args),
    /// List a run's parameters, or verify the frozen ones.
    Params(params::Args),
    Import(import::Args),
    Export(export::Args),
    /// Draw a metric of one run or several.
    Plot(plot::Args),
    Report(report::Args),
    /// Weights of the frozen ViT.
    #[command(subcommand)]
    Vit(vit::Args),
    /// Measure how long parts of Lucid take on this machine.
    #[command(subcommand)]
    Bench(bench::Args),
    #[cfg(feature = "hosts")]
    Launch(launch::Args),
    #[cfg(feature = "hosts")]
    Host(host::Args),
    /// The gate for other hosts; started by `train`.
    #[cfg(feature = "hosts")]
    #[command(hide = true)]
    Gate(host::GateProcess),
    /// A learner process; started by `train`.
    #[command(hide = true)]
    Learner(child::LearnerArgs),
    /// An actor process; started by `train`.
    #[command(hide = true)]
    Actor(child::ActorArgs),
    /// The evaluation actor's process; started by `train`.
    #[command(hide = true)]
    Evaluator(child::EvaluatorArgs),
}

/// Run what the command line says.
pub fn main() -> Result<(), RunError> {
    descriptors::allow_many();
    match Cli::parse().command {
        Command::Train(args) => train::run(args),
        Command::Scale(args) => control::scale(&args),
        Command::Pause(args) => control::ask(&args, Request::Pause),
        Command::Resume(args) => control::ask(&args, Request::Resume),
        Command::Checkpoint(args) => control::ask(&args, Request::Checkpoint),
        Command::Stop(args) => control::ask(&args, Request::Stop),
        Command::Set(args) => control::set(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Env(args) => env::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Params(args) => params::run(&args),
        Command::Import(args) => import::run(args),
        Command::Export(args) => export::run(&args),
        Command::Plot(args) => plot::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Vit(args) => vit::run(&args),
        Command::Bench(args) => bench::run(&args),
        #[cfg(feature = "hosts")]
        Command::Launch(args) => launch::run(args),
        #[cfg(feature = "hosts")]
        Command::Host(args) => host::run(args),
        #[cfg(feature = "hosts")]
        Command::Gate(args) => host::gate_process(args),
        Command::Learner(args) => child::learner(args),
        Command::Actor(args) => child::actor(args),
        Command::Evaluator(args) => child::evaluator(args),
    }
}
