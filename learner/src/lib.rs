//! The learner and launcher of Lucid: replay, training, publishing, checkpoints, command line.

pub mod agent;
mod batches;
pub mod calibrate;
pub mod checkpoint;
pub mod cli;
pub mod control;
mod desk;
pub mod dreamer;
pub mod durable;
mod error;
mod frozen;
mod ingest;
pub mod launch;
pub mod limiter;
mod links;
mod lockstep;
pub mod official;
pub mod optim;
pub mod pickle;
pub mod plot;
mod principal;
mod process;
mod proof;
mod publisher;
pub mod replay;
pub mod report;
mod reporter;
mod run;
mod saver;
mod threads;
mod train_loop;
pub mod vit;
mod watch;
pub mod web;
pub mod weights;

pub use error::RunError;
