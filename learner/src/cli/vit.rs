//! `lucid vit`, and fetching what a config names.

mod encode;
mod inspect;

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use shared::config::VitConfig;

use crate::RunError;
use crate::vit::{Event, Hints, Located, fetch, load, locate, verify};

/// Weights of the frozen ViT.
#[derive(Debug, Subcommand)]
pub enum Args {
    /// Bring weights into the user's cache, from the Hugging Face hub.
    ///
    /// A download that was cut short goes on where it stopped. HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE are heeded;
    /// the cache is LUCID_CACHE, or else ~/.cache/lucid.
    Fetch {
        /// Short name, such as dinov2-small, or a model of the hub: owner/name or owner/name@revision.
        name: String,
    },
    /// Tell what a weights file holds: library, sizes, tensors that are missing or not known.
    Inspect(Model),
    /// Features of pictures, as numbers and as colours.
    Encode(encode::Args),
}

/// Weights, and what the file does not tell of them.
#[derive(Debug, clap::Args)]
pub struct Model {
    /// Short name, such as dinov2-small, a model of the hub (owner/name), or a file or folder of weights.
    weights: String,
    /// Whose names the file uses (default: found out), as `vit.family`.
    #[arg(long, default_value = "auto")]
    family: String,
    /// What precedes the trunk's names in the file (default: found out).
    #[arg(long, default_value = "")]
    prefix: String,
    /// Attention heads (default: found out).
    #[arg(long, default_value_t = 0)]
    heads: usize,
}

impl Model {
    fn hints(&self) -> Result<Hints, RunError> {
        Ok(Hints::new(&self.family, &self.prefix, self.heads)?)
    }

    fn path(&self) -> Result<PathBuf, RunError> {
        match locate(&self.weights)? {
            Located::Local(path) | Located::Cached(path) => Ok(path),
            Located::Missing => fetch_shown(&self.weights),
        }
    }
}

/// Run it.
pub fn run(args: &Args) -> Result<(), RunError> {
    match args {
        Args::Fetch { name } => fetch_named(name),
        Args::Inspect(model) => inspect::run(model),
        Args::Encode(args) => encode::run(args),
    }
}

fn fetch_named(name: &str) -> Result<(), RunError> {
    if let Located::Local(path) = locate(name)? {
        println!("{} is on this machine: nothing to fetch", path.display());
        return Ok(());
    }
    let path = fetch_shown(name)?;
    let record = verify(&path)?;
    let bytes = record.files.values().map(|file| file.bytes).sum();
    println!("{}, {}\nfrom {}", path.display(), BinaryBytes(bytes), record.origin());
    for (file, stored) in &record.files {
        println!("  {file}: {}, BLAKE3 {}", BinaryBytes(stored.bytes), stored.blake3);
    }
    if !record.note.is_empty() {
        println!("note: {}", record.note);
    }
    // Options of a run may still make it readable: no error.
    if let Err(reason) = load(&path, &Hints::default()) {
        println!("note: as it is, it cannot be read: {reason}");
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
        Event::Waiting => bar.suspend(|| println!("waiting for another process that fetches {name}")),
        Event::File { name } => bar.set_message(name),
        Event::Bytes { done, total } => {
            bar.set_style(style("{spinner} {msg} {bytes}/{total_bytes} {bar:30} {eta}"));
            bar.set_length(total);
            bar.set_position(done);
        }
        Event::GaveUp { source, reason } => {
            bar.set_style(style("{spinner} {elapsed}"));
            bar.suspend(|| println!("{source} cannot be had: {reason}"));
        }
        Event::Converting => bar.suspend(|| println!("rewriting it as safetensors")),
    });
    bar.finish_and_clear();
    Ok(fetched?)
}
