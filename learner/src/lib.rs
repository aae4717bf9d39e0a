//! The learner and launcher of Lucid: replay, training, publishing, checkpoints, command line.

pub mod agent;
mod batches;
pub mod calibrate;
pub mod checkpoint;
pub mod cli;
pub mod control;
mod descriptors;
mod desk;
pub mod dreamer;
pub mod durable;
mod env_check;
mod error;
pub mod evaluation;
mod film_file;
mod frozen;
#[cfg(feature = "hosts")]
pub mod hosts;
mod ingest;
pub mod journal;
pub mod launch;
pub mod limiter;
mod links;
mod lockstep;
pub mod media;
pub mod official;
mod offline;
pub mod optim;
pub mod pickle;
pub mod plot;
pub mod predictions;
mod principal;
mod process;
mod proof;
mod publisher;
pub mod replay;
pub mod report;
mod reporter;
mod run;
mod saver;
mod summary;
mod threads;
mod told;
mod train_loop;
mod versions;
pub mod vit;
mod watch;
pub mod web;
pub mod weights;

use std::process::ExitCode;

/// Environments, for tasks of one's own.
pub use actor::env;
pub use error::RunError;

/// Here, so that a program with tasks of its own has it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The `lucid` program with tasks of one's own beside those that are built in: all of a `main`, and the first thing in it. The processes
/// of a run are this binary again, so all that stands before runs in each of them.
pub fn lucid(tasks: env::Tasks) -> ExitCode {
    match tasks.install().map_err(RunError::from).and_then(|()| cli::main()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(format!("Error: {}", told::told(error)));
            ExitCode::FAILURE
        }
    }
}
