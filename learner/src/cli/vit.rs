//! `lucid vit`, and fetching what a config names.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use shared::config::VitConfig;

use crate::RunError;
use crate::vit::{Event, Located, fetch, locate, verify};

/// Weights of the frozen ViT.
#[derive(Debug, Subcommand)]
pub enum Args {
    /// Bring weights into the user's cache.
    Fetch {
        /// Short name, such as dinov2-small.
        name: String,
    },
}

/// Run it.
pub fn run(args: &Args) -> Result<(), RunError> {
    let Args::Fetch { name } = args;
    let path = fetch_shown(name)?;
    let record = verify(&path)?;
    println!("{}\nfrom {}, BLAKE3 {}", path.display(), record.source, record.blake3);
    if !record.note.is_empty() {
        println!("note: {}", record.note);
    }
    Ok(())
}

/// Fetch the weights that a config names, if it needs them and they are missing.
pub fn fetch_missing(config: &VitConfig) -> Result<(), RunError> {
    let needed = !config.weights.is_empty() && config.features == "pretrained";
    if needed && locate(&config.weights)? == Located::Missing {
        println!("the ViT `{}` is not on this machine yet: fetching it, once", config.weights);
        fetch_shown(&config.weights)?;
    }
    Ok(())
}

/// Fetch with a progress bar, or a spinner while the source does not tell its size.
fn fetch_shown(name: &str) -> Result<PathBuf, RunError> {
    let style =
        |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::no_length().with_style(style("{spinner} {elapsed}"));
    bar.enable_steady_tick(Duration::from_millis(100));
    let fetched = fetch(name, &mut |event| match event {
        Event::Trying { source } => bar.suspend(|| println!("downloading {name} from {source}")),
        Event::Bytes { done, total } => {
            bar.set_style(style("{spinner} {bytes}/{total_bytes} {bar:30} {eta}"));
            bar.set_length(total);
            bar.set_position(done);
        }
        Event::GaveUp { source, reason } => {
            bar.set_style(style("{spinner} {elapsed}"));
            bar.suspend(|| println!("{source} cannot be reached: {reason}"));
        }
        Event::Converting => bar.suspend(|| println!("rewriting it as safetensors")),
    });
    bar.finish_and_clear();
    Ok(fetched?)
}
