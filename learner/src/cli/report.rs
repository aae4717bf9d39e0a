//! `lucid report`.

use std::fs;
use std::path::PathBuf;

use crate::RunError;
use crate::error::io;
use crate::summary;

/// Write a page about a run, in one file to send to somebody: what ran, how it went, curves and pictures.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder.
    run: PathBuf,
    /// The file to write.
    #[arg(long, short, default_value = "report.html")]
    output: PathBuf,
}

/// Run it.
pub fn run(args: &Args) -> Result<(), RunError> {
    let page = summary::page(&args.run)?;
    fs::write(&args.output, page).map_err(io("write", &args.output))?;
    println!("{}", args.output.display());
    Ok(())
}
