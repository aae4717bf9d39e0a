//! `lucid bench hosts`: what messages between hosts cost, and how a run fares with many of them.

mod fakes;
mod grow;

use std::time::Duration;

use super::median;
use crate::RunError;
use crate::hosts::bench::{beside, fan_out, far};

/// Chunks of steps from another host, beside chunks from an actor on the learner's; and a snapshot to many hosts. All over this machine's
/// own network, of bytes that cannot be compressed. With `--fake`, instead: a run whose actors on other hosts are none, but say again what a
/// real one said. With `--grow` too: how a run would fare with more hosts than that, simulated by what the first of those cost.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Bytes of a chunk.
    #[arg(long, default_value_t = 16 << 10)]
    chunk: usize,
    /// Seconds that each rate is measured, in turns.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Bytes of a snapshot, here and in simulated runs.
    #[arg(long, default_value_t = 4 << 20)]
    snapshot: usize,
    /// Hosts that it goes to.
    #[arg(long, default_value_t = 8)]
    hosts: usize,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Numbers of hosts whose actors are fake.
    #[arg(long, value_delimiter = ',')]
    fake: Vec<u32>,
    /// Fake actors of each.
    #[arg(long, default_value_t = 64)]
    actors: u32,
    /// Preset of the run with fake actors.
    #[arg(long, default_value = "dummy")]
    config: String,
    /// Override one option of the run with fake actors.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Numbers of hosts of simulated runs, with --actors each.
    #[arg(long, value_delimiter = ',', requires = "fake")]
    grow: Vec<u32>,
    /// Steps a second of each fake actor; else what the recorded one made.
    #[arg(long)]
    pace: Option<f64>,
    /// In simulated runs: steps a second of each actor; else those of a fake one.
    #[arg(long)]
    grow_pace: Option<f64>,
    /// In simulated runs: cores that the gate and the learner share, besides those that train.
    #[arg(long, default_value_t = 16)]
    cores: usize,
    /// In simulated runs: Gbit/s of the learner's network.
    #[arg(long, default_value_t = 10.0)]
    gbits: f64,
    /// In simulated runs: milliseconds to a host and back.
    #[arg(long, default_value_t = 1.0)]
    round_trip: f64,
    /// In simulated runs: seconds of an update.
    #[arg(long, default_value_t = 0.2)]
    update: f64,
    /// One line of JSON instead of sentences.
    #[arg(long)]
    json: bool,
}

/// Measure.
pub fn run(args: &Args) -> Result<(), RunError> {
    if !args.fake.is_empty() {
        return fakes::run(args);
    }
    let (chunk, time) = (args.chunk.max(1), Duration::try_from_secs_f64(args.seconds).unwrap_or_default());
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..args.rounds {
        rates[0].push(beside(chunk, time)?);
        rates[1].push(far(chunk, time, false)?);
        rates[2].push(far(chunk, time, true)?);
    }
    let [local, plain, secure] = rates.map(median);
    let fan = |secure| {
        fan_out(args.snapshot, args.hosts, 4 * args.rounds as u64, secure).map(|seconds| 1e3 * median(seconds))
    };
    let [plain_ms, secure_ms] = [fan(false)?, fan(true)?];
    let (snapshot, hosts) = (args.snapshot, args.hosts);
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
