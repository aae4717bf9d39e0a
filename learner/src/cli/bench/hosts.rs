//! `lucid bench hosts`: what messages between hosts cost, and how a run fares with many of them.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use shared::metrics::Report;

use super::median;
use crate::RunError;
use crate::control::{Client, Word};
use crate::error::io;
use crate::hosts::bench::{beside, fan_out, far};
use crate::hosts::fake::{Recorded, take_part};
use crate::reporter::resident;

/// Chunks of steps from another host, beside chunks from an actor on the learner's; and a snapshot to many hosts. All over this machine's
/// own network, of bytes that cannot be compressed. With `--fake`, instead: a run whose actors on other hosts are none, but say again what a
/// real one said.
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
    /// One line of JSON instead of sentences.
    #[arg(long)]
    json: bool,
}

/// Measure.
pub fn run(args: &Args) -> Result<(), RunError> {
    if !args.fake.is_empty() {
        return fakes(args);
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

/// How long a run and its hosts may take until all takes part.
const PATIENCE: Duration = Duration::from_secs(300);

/// A run in a folder of its own; ended when dropped.
struct Whole {
    child: Child,
    dir: tempfile::TempDir,
    join: String,
}

impl Whole {
    fn start(args: &Args) -> Result<Self, RunError> {
        let dir = tempfile::tempdir().map_err(io("create", &std::env::temp_dir()))?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let join = free.map_err(io("find", Path::new("a free port")))?.to_string();
        let binary = std::env::current_exe().map_err(io("find", Path::new("the running binary")))?;
        let mut command = Command::new(&binary);
        command.args(["train", "-c", &args.config, "--actors", "1", "--run"]).arg(dir.path().join("run"));
        let own = [format!("hosts.listen={join}"), "run.train_ratio=0.05".into()];
        for set in own.iter().chain(&args.set) {
            command.args(["--set", set]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(io("start", &binary))?;
        Ok(Self { child, dir, join })
    }

    fn run(&self) -> std::path::PathBuf {
        self.dir.path().join("run")
    }

    /// The first report, within the time, of which this is so.
    fn report(&self, so: impl Fn(&Report) -> bool) -> Result<Report, RunError> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(words) = Client::connect(&self.run()).and_then(Client::watch) {
                for word in words.map_while(Result::ok) {
                    if let Word::Report(report) = word
                        && so(&report)
                    {
                        return Ok(*report);
                    }
                    if Instant::now() > deadline {
                        break;
                    }
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
        Err(RunError::Bench { message: "the run did not come so far: try fewer hosts".into() })
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // Twice, so that it does not save.
            for _ in 0..2 {
                let _ = kill_process(pid, Signal::INT);
                thread::sleep(Duration::from_millis(200));
            }
        }
        let _ = self.child.wait();
    }
}

fn fakes(args: &Args) -> Result<(), RunError> {
    let mut recorded = None;
    for &hosts in &args.fake {
        let whole = Whole::start(args)?;
        whole.report(|report| report.actors.iter().any(|actor| actor.version > 0))?;
        let recorded = match &recorded {
            Some(recorded) => recorded,
            None => recorded.insert(record(args, &whole)?),
        };
        let stop = AtomicBool::new(false);
        let found = thread::scope(|scope| {
            for number in 0..hosts {
                let (whole, stop) = (&whole, &stop);
                scope.spawn(move || {
                    let name = format!("fake{number}");
                    if let Err(error) = take_part(&whole.run(), &whole.join, &name, args.actors, recorded, stop) {
                        eprintln!("{name}: {error}");
                    }
                });
            }
            let found = measure(args, &whole, (hosts * args.actors) as usize);
            stop.store(true, Ordering::Release);
            found
        })?;
        print(args, hosts, &found);
    }
    Ok(())
}

fn record(args: &Args, whole: &Whole) -> Result<Recorded, RunError> {
    let time = Duration::from_secs_f64(args.seconds.max(5.0));
    let recorded = Recorded::of(&whole.run(), &whole.join, &whole.dir.path().join("recorded"), time)?;
    let (bytes, steps) = recorded.rates();
    if !args.json {
        println!(
            "a real actor sent {steps:.0} steps, {:.2} MiB a second; each fake one says that again",
            bytes / 1048576.0
        );
        println!(
            "{:>6} {:>7} {:>9} {:>9} {:>13} {:>11} {:>15} {:>13} {:>12}",
            "hosts",
            "actors",
            "steps/s",
            "MiB/s",
            "lag, updates",
            "lag, s",
            "round trip, ms",
            "learner, MiB",
            "gate, MiB"
        );
    }
    Ok(recorded)
}

/// What a run with fake actors came to.
struct Found {
    actors: usize,
    steps: f64,
    received: f64,
    updates: f64,
    age: f64,
    round_trip: f64,
    learner: u64,
    gate: u64,
}

fn measure(args: &Args, whole: &Whole, actors: usize) -> Result<Found, RunError> {
    let fake = |report: &Report| report.actors.iter().filter(|actor| actor.host.is_some()).count();
    let there = |report: &Report| fake(report) >= actors && report.actors.iter().all(|actor| actor.version > 0);
    let first = whole.report(there)?;
    let begun = Instant::now();
    let last = whole.report(|report| there(report) && begun.elapsed().as_secs_f64() >= args.seconds)?;
    let [_, updates, age] = last.lag().ok_or_else(|| RunError::Bench { message: "no actor".into() })?;
    Ok(Found {
        actors,
        steps: (last.steps - first.steps) as f64 / (last.elapsed - first.elapsed),
        received: last.hosts.iter().map(|host| host.received_per_s).sum(),
        updates: updates.p95,
        age: age.p95,
        round_trip: median(last.hosts.iter().map(|host| host.round_trip_ms).collect()),
        learner: last.rss,
        gate: gate_memory(whole.child.id()),
    })
}

/// Resident memory of the gate below a launcher, bytes; 0 if nobody says.
fn gate_memory(launcher: u32) -> u64 {
    let children = std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap_or_default();
    let is_gate = |pid: &&str| {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split('\0').nth(1) == Some("gate")
    };
    let Some(gate) = children.split_whitespace().find(is_gate) else { return 0 };
    gate.parse().ok().and_then(resident).map_or(0, |bytes| bytes as u64)
}

fn print(args: &Args, hosts: u32, found: &Found) {
    let Found { actors, steps, received, updates, age, round_trip, learner, gate } = found;
    match args.json {
        true => println!(
            r#"{{"hosts": {hosts}, "actors": {actors}, "steps_per_s": {steps:.0}, "received_per_s": {received:.0}, "lag_updates_p95": {updates}, "lag_seconds_p95": {age:.3}, "round_trip_ms": {round_trip:.2}, "learner_bytes": {learner}, "gate_bytes": {gate}}}"#
        ),
        false => println!(
            "{hosts:>6} {actors:>7} {steps:>9.0} {:>9.2} {updates:>13.0} {age:>11.2} {round_trip:>15.1} {:>13} {:>12}",
            received / 1048576.0,
            learner >> 20,
            gate >> 20
        ),
    }
}
