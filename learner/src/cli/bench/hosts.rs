//! `lucid bench hosts`: what messages between hosts cost.

use std::time::Duration;

use super::median;
use crate::RunError;
use crate::hosts::bench::{beside, fan_out, far, noise};

/// Chunks of steps from another host, beside chunks from an actor on the learner's; and a snapshot to many hosts. All over this machine's
/// own network, of bytes that cannot be compressed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Bytes of a chunk.
    #[arg(long, default_value_t = 16 << 10)]
    chunk: usize,
    /// Seconds that each rate is measured, in turns.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Bytes of a snapshot.
    #[arg(long, default_value_t = 4 << 20)]
    snapshot: usize,
    /// Hosts that it goes to.
    #[arg(long, default_value_t = 8)]
    hosts: usize,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// One line of JSON instead of sentences.
    #[arg(long)]
    json: bool,
}

/// Measure.
pub fn run(args: &Args) -> Result<(), RunError> {
    let (chunk, time) = (noise(args.chunk), Duration::try_from_secs_f64(args.seconds).unwrap_or_default());
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..args.rounds {
        rates[0].push(beside(&chunk, time)?);
        rates[1].push(far(&chunk, time, false)?);
        rates[2].push(far(&chunk, time, true)?);
    }
    let [local, plain, secure] = rates.map(median);
    let fan = |secure| {
        fan_out(args.snapshot, args.hosts, 4 * args.rounds as u64, secure).map(|seconds| 1e3 * median(seconds))
    };
    let [plain_ms, secure_ms] = [fan(false)?, fan(true)?];
    let (chunk, snapshot, hosts) = (args.chunk, args.snapshot, args.hosts);
    if args.json {
        println!(
            r#"{{"chunk_bytes": {chunk}, "local_per_s": {local:.0}, "plain_per_s": {plain:.0}, "secure_per_s": {secure:.0}, "snapshot_bytes": {snapshot}, "hosts": {hosts}, "plain_ms": {plain_ms:.2}, "secure_ms": {secure_ms:.2}}}"#
        );
        return Ok(());
    }
    let kib = chunk as f64 / 1024.0;
    println!(
        "chunks of {kib:.0} KiB a second: {local:.0} from an actor beside the learner; from another host {plain:.0} in clear ({:.2}), {secure:.0} encrypted ({:.2})",
        plain / local,
        secure / local
    );
    let mib = snapshot as f64 / 1024.0 / 1024.0;
    println!(
        "a snapshot of {mib:.1} MiB to {hosts} hosts: {plain_ms:.1} ms in clear, {secure_ms:.1} ms encrypted, until the last has it"
    );
    Ok(())
}
