//! `lucid watch`.

use std::io::IsTerminal;
use std::path::PathBuf;

use crate::RunError;
use crate::watch;

/// Watch a run, and change it while it goes on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder.
    run: PathBuf,
    /// Print how the run is now, and end; so it is too where the output is not a terminal.
    #[arg(long)]
    once: bool,
}

/// Run it.
pub fn run(args: &Args) -> Result<(), RunError> {
    let screen = !args.once && std::io::stdout().is_terminal() && !console::is_dumb();
    if screen { watch::screen(&args.run) } else { watch::once(&args.run) }
}
