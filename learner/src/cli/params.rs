//! `lucid params`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use regex::Regex;
use shared::kernels::Precision;
use shared::snapshot::format::MAGIC;
use shared::vit::PREFIX;

use super::eval::Snapshot;
use crate::RunError;
use crate::checkpoint::Frozen;
use crate::launch::RunLock;
use crate::proof::{check_frozen, check_region};

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
    /// Compute the digest of every frozen subtree again, from its source, and compare it with the checkpoint's; of a run that goes
    /// on now, also that of the ViT in the memory that its processes share.
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
    match RunLock::holder(run, "learner.lock").zip(frozen.get(PREFIX)) {
        Some((learner, recorded)) => verify_live(learner, recorded, snapshot.config.vit.products()),
        None => Ok(()),
    }
}

/// Of a run that goes on now, the region too that its processes share.
fn verify_live(learner: u32, recorded: &Frozen, precision: Precision) -> Result<(), RunError> {
    match encoder_region(learner) {
        Some(region) => {
            check_region(region, recorded, precision)?;
            println!("{PREFIX} in the memory that process {learner} shares is as it was");
        }
        None => println!("{PREFIX} in the memory of process {learner} cannot be looked at from here"),
    }
    Ok(())
}

/// The region of the frozen encoder among the shared memory that a process has open: of this machine, and of the same user.
fn encoder_region(process: u32) -> Option<Vec<u8>> {
    let open = fs::read_dir(format!("/proc/{process}/fd")).ok()?.flatten().map(|entry| entry.path());
    let shared = |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:"));
    open.filter(shared).find_map(|path| {
        let mut file = File::open(path).ok()?;
        let mut head = [0; 32];
        file.read_exact_at(&mut head, 0).ok()?;
        // Policies have versions; the frozen encoder has 0.
        if !head.starts_with(MAGIC) || head[24..] != [0; 8] {
            return None;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    })
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
