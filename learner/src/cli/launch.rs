//! `lucid launch`: a run here, with actors on other hosts, in one command.

use std::path::PathBuf;

use super::train;
use crate::RunError;
use crate::hosts::Fleet;

/// Start a run here, or go on with one, and by ssh actors on other hosts. See docs/hosts_ssh.md.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file that names the hosts.
    #[arg(long, value_name = "FILE")]
    hosts: PathBuf,
    #[command(flatten)]
    train: train::Args,
}

/// Run it.
pub fn run(args: Args) -> Result<(), RunError> {
    let fleet = Fleet::read(&args.hosts)?;
    let listen = format!("hosts.listen={}", fleet.listen);
    train::run_with(args.train, vec![listen], |run| Ok(fleet.start(run)?))
}
