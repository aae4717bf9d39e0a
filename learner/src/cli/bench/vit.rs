//! `lucid bench vit`: the frozen encoder, from frames of bytes to features.

use std::path::Path;

use shared::config::Config;
use shared::dist::{Draws, Seeded};

use super::time;
use crate::RunError;
use crate::frozen::Trunk;

/// Side of a frame.
const SIDE: usize = 70;
/// Operations of a frame: 26 tokens through the twelve blocks of ViT-S/14, and the embedding of 25 patches.
const GFLOP: f64 = 1.13;

/// The frozen ViT-S/14 (untrained weights) on frames of 70 x 70 pixels.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Frames that are encoded together.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Batches that are measured.
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// Threads (0: one per core).
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Override one option.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// One line of JSON instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// Measure.
pub fn run(args: &Args) -> Result<(), RunError> {
    // Fails only where a pool exists already, which then serves.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global();
    let threads = rayon::current_num_threads();
    let trunk = ["vit.weights=dinov2-small", "vit.features=random"].map(String::from);
    let config = Config::load(&[] as &[&str], &[&trunk, args.set.as_slice()].concat())?;
    let Some(trunk) = Trunk::load(&config, Path::new(""), None)? else { return Ok(()) };
    let features = trunk.features(&config.vit, threads)?;
    let noise = Seeded::new(1).normal(&[args.batch * SIDE * SIDE * 3]);
    let frames: Vec<u8> = noise.iter().map(|x| (127.0 + 60.0 * x) as u8).collect();
    let (wall, cpu) = time(2, args.steps, || {
        std::hint::black_box(features.encode(&frames, args.batch, SIDE, SIDE));
        Ok::<_, RunError>(())
    })?;
    let (wall, cpu, batch) = (wall / args.batch as f64, cpu / args.batch as f64, args.batch);
    match args.json {
        true => println!(
            r#"{{"case": "vit-s14", "batch": {batch}, "wall_s": {wall:.6}, "cpu_s": {cpu:.6}, "threads": {threads}}}"#
        ),
        false => println!(
            "vit-s14: {:.2} ms a frame in batches of {batch}, {:.2} ms of CPU, {threads} threads, {:.0} GFLOP/s",
            1e3 * wall,
            1e3 * cpu,
            GFLOP / wall
        ),
    }
    Ok(())
}
