//! `lucid params`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use regex::Regex;

use super::eval::Snapshot;
use crate::RunError;
use crate::proof::check_frozen;

/// List a run's parameters, or verify the frozen ones.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Run folder.
    run: Option<PathBuf>,
    /// Only paths that match.
    pattern: Option<Regex>,
    #[command(subcommand)]
    verify: Option<Verify>,
}

#[derive(Debug, Subcommand)]
enum Verify {
    /// Compute the digest of every frozen subtree again, from its source, and compare it with the checkpoint's.
    Verify {
        /// Run folder.
        run: PathBuf,
    },
}

/// Run it.
pub fn run(args: &Args) -> Result<(), RunError> {
    match (&args.verify, &args.run) {
        (Some(Verify::Verify { run }), _) => verify(run),
        (None, Some(run)) => list(run, args.pattern.as_ref()),
        (None, None) => Err(RunError::Folder {
            path: PathBuf::new(),
            message: "none was given".into(),
            help: "lucid params RUN [REGEX], or lucid params verify RUN".into(),
        }),
    }
}

fn verify(run: &Path) -> Result<(), RunError> {
    let snapshot = Snapshot::read(run)?;
    let frozen = &snapshot.loaded.cut.frozen;
    check_frozen(&snapshot.agent, snapshot.trunk.as_ref(), frozen)?;
    for (prefix, record) in frozen {
        println!("{prefix}: {} ({})", record.digest, record.source);
    }
    println!("{} frozen subtrees are as they were", frozen.len());
    Ok(())
}

fn list(run: &Path, pattern: Option<&Regex>) -> Result<(), RunError> {
    let snapshot = Snapshot::read(run)?;
    let trainable: Vec<String> = snapshot.agent.trainable_paths();
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for path in snapshot.agent.params().paths() {
        let shape = snapshot.agent.params().lookup(&path)?.shape().to_vec();
        shapes.insert(path, shape);
    }
    for (path, shape, _) in snapshot.trunk.iter().filter(|t| t.record.is_some()).flat_map(|t| t.spec.params()) {
        shapes.insert(format!("{}/{path}", shared::vit::PREFIX), shape);
    }
    let mut totals = [0usize; 2];
    for (path, shape) in shapes.iter().filter(|(path, _)| pattern.is_none_or(|p| p.is_match(path))) {
        let (count, frozen) = (shape.iter().product::<usize>(), !trainable.contains(path));
        totals[usize::from(frozen)] += count;
        println!("{path:48} {:18} {count:>10} {}", format!("{shape:?}"), if frozen { "frozen" } else { "trainable" });
    }
    println!("{} trainable, {} frozen", totals[0], totals[1]);
    Ok(())
}
