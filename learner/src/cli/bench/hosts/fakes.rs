//! Runs with fake actors, and what each costs.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use shared::metrics::Report;

use super::{Args, CREDITS, grow};
use crate::RunError;
use crate::cli::bench::median;
use crate::cli::bench::scale::busy_seconds;
use crate::control::{Client, Word};
use crate::error::io;
use crate::hosts::bench::fan_out;
use crate::hosts::fake::{Recorded, take_part};
use crate::hosts::growth::{Costs, Load, Place, simulate};
use crate::reporter::resident;

/// How long a run and its hosts may take until all takes part.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a run may take to end.
const FAREWELL: Duration = Duration::from_secs(60);

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
        let own = [format!("hosts.listen={join}"), "run.train_ratio=0.005".into()];
        for set in own.iter().chain(&args.set) {
            command.args(["--set", set]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(io("start", &binary))?;
        Ok(Self { child, dir, join })
    }

    fn run(&self) -> std::path::PathBuf {
        self.dir.path().join("run")
    }

    /// The launcher's child that is started with this word.
    fn child(&self, word: &str) -> Option<u32> {
        let launcher = self.child.id();
        let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap_or_default();
        let is = |pid: &&str| {
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split('\0').nth(1) == Some(word)
        };
        children.split_whitespace().find(is).and_then(|pid| pid.parse().ok())
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
        let Some(pid) = Pid::from_raw(self.child.id() as i32) else { return };
        let deadline = Instant::now() + FAREWELL;
        // In order, so that nobody writes to its folder any more.
        let _ = kill_process(pid, Signal::INT);
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Measure a run for each number of hosts; then simulate those that are asked for.
pub fn run(args: &Args) -> Result<(), RunError> {
    let (mut recorded, mut first, mut last) = (None, None, None);
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
            let found = measure(args, &whole, (hosts * args.actors) as usize, recorded);
            stop.store(true, Ordering::Release);
            found
        })?;
        let expected = found.expected(first.get_or_insert(found), args);
        print(args, hosts, &found, expected);
        last = Some(found.costs);
    }
    match (&recorded, last) {
        (Some(recorded), Some(costs)) if !args.grow.is_empty() => {
            grow::print(args, &Costs { byte: byte_cost(args)?, ..costs }, recorded.rates().steps);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn record(args: &Args, whole: &Whole) -> Result<Recorded, RunError> {
    let time = Duration::from_secs_f64(args.seconds.max(5.0));
    let recorded = Recorded::of(&whole.run(), &whole.join, &whole.dir.path().join("recorded"), time)?;
    let rates = recorded.rates();
    if !args.json {
        println!(
            "A real actor sent {:.0} steps in {:.1} chunks, {:.2} MiB a second; each fake one says that again.\n\
             us a chunk: of the ingest thread, and CPU of the learner's other threads for actors, of the gate, and of the fake hosts.\n\
             Simulated steps/s: by what the first of these runs cost, and the cores that were left to them.",
            rates.steps,
            rates.chunks,
            rates.bytes / 1048576.0
        );
        println!(
            "{:>5} {:>6} {:>8} {:>7} {:>12} {:>7} {:>14} {:>12} {:>9} {:>10} {:>9} {:>8} {:>9} {:>9}",
            "hosts",
            "actors",
            "steps/s",
            "MiB/s",
            "lag, updates",
            "lag, s",
            "round trip, ms",
            "learner, MiB",
            "gate, MiB",
            "ingest, us",
            "links, us",
            "gate, us",
            "hosts, us",
            "simulated"
        );
    }
    Ok(recorded)
}

/// What a run with fake actors came to.
#[derive(Clone, Copy)]
struct Found {
    actors: usize,
    steps: f64,
    received: f64,
    updates: f64,
    age: f64,
    round_trip: f64,
    learner: u64,
    gate: u64,
    costs: Costs,
    /// CPU seconds of the fake hosts for a chunk.
    hosts: f64,
    /// Cores that others did not use: training, a real actor, what else this machine does.
    cores: f64,
    /// Steps a second that the recorded actor made.
    pace: f64,
}

impl Found {
    /// Steps a second that a simulation of this run says, if it costs what another did.
    fn expected(&self, like: &Self, args: &Args) -> f64 {
        let all = thread::available_parallelism().map_or(1, usize::from);
        // Cores are whole there: as if all were for this, and slower.
        let slower = all as f64 / self.cores.max(0.1);
        let Costs { ingest, links, gate, .. } = like.costs;
        let [ingest, links, gate] = [ingest, links, gate + like.hosts].map(|seconds| seconds * slower);
        let place = Place { cores: all, network: 1e12, round_trip: 1e-3 };
        let actors = args.actors as usize;
        let load =
            Load { hosts: self.actors / actors, actors, pace: self.pace, credits: CREDITS, update: 1e3, snapshot: 1.0 };
        simulate(&Costs { ingest, links, gate, ..like.costs }, &place, &load).steps
    }
}

fn measure(args: &Args, whole: &Whole, actors: usize, recorded: &Recorded) -> Result<Found, RunError> {
    let fake = |report: &Report| report.actors.iter().filter(|actor| actor.host.is_some()).count();
    let there = |report: &Report| fake(report) >= actors && report.actors.iter().all(|actor| actor.version > 0);
    let first = whole.report(there)?;
    let (before, busy) = (Spent::until_now(whole), busy_seconds());
    let begun = Instant::now();
    let last = whole.report(|report| there(report) && begun.elapsed().as_secs_f64() >= args.seconds)?;
    let (spent, busy, wall) = (Spent::until_now(whole).since(&before), busy_seconds() - busy, begun.elapsed());
    let cores = thread::available_parallelism().map_or(1, usize::from) as f64;
    let others = (busy - spent.ingest - spent.links - spent.gate - spent.hosts) / wall.as_secs_f64();
    let [_, updates, age] = last.lag().ok_or_else(|| RunError::Bench { message: "no actor".into() })?;
    let (time, rates) = (last.elapsed - first.elapsed, recorded.rates());
    let (steps, received) =
        ((last.steps - first.steps) as f64, last.hosts.iter().map(|host| host.received_per_s).sum());
    let chunks = (steps * rates.chunks / rates.steps).max(1.0);
    let costs = Costs {
        ingest: spent.ingest / chunks,
        links: spent.links / chunks,
        gate: spent.gate / chunks,
        byte: 0.0,
        chunk_bytes: received * time / chunks,
        chunk_steps: rates.steps / rates.chunks,
    };
    Ok(Found {
        actors,
        steps: steps / time,
        received,
        updates: updates.p95,
        age: age.p95,
        round_trip: median(last.hosts.iter().map(|host| host.round_trip_ms).collect()),
        learner: last.rss,
        gate: whole.child("gate").and_then(resident).map_or(0, |bytes| bytes as u64),
        costs,
        hosts: spent.hosts / chunks,
        cores: cores - others,
        pace: rates.steps,
    })
}

/// CPU seconds of those who carry chunks.
struct Spent {
    ingest: f64,
    links: f64,
    gate: f64,
    hosts: f64,
}

impl Spent {
    fn until_now(whole: &Whole) -> Self {
        let threads = |name| whole.child(name).map(threads).unwrap_or_default();
        let sum = |all: &BTreeMap<String, f64>, of: &dyn Fn(&str) -> bool| {
            all.iter().filter(|(name, _)| of(name)).map(|(_, seconds)| seconds).sum()
        };
        let learner = threads("learner");
        Self {
            ingest: sum(&learner, &|name| name == "ingest"),
            links: sum(&learner, &|name| name.starts_with("from actor") || name.starts_with("to actor")),
            gate: sum(&threads("gate"), &|_| true),
            hosts: sum(&self::threads(std::process::id()), &|_| true),
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            ingest: self.ingest - before.ingest,
            links: self.links - before.links,
            gate: self.gate - before.gate,
            hosts: self.hosts - before.hosts,
        }
    }
}

/// CPU seconds of a process' threads, by name, from Linux' /proc.
fn threads(pid: u32) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let time = read("schedstat").split_whitespace().next().and_then(|text| text.parse::<f64>().ok());
        *all.entry(read("comm").trim().to_string()).or_insert(0.0) += 1e-9 * time.unwrap_or(0.0);
    }
    all
}

/// CPU seconds of the gate for a byte of a snapshot to one host: half of what both ends need.
fn byte_cost(args: &Args) -> Result<f64, RunError> {
    let (hosts, rounds) = (args.hosts, 20);
    let before: f64 = threads(std::process::id()).values().sum();
    fan_out(args.snapshot, hosts, rounds, true)?;
    let after: f64 = threads(std::process::id()).values().sum();
    Ok((after - before) / 2.0 / (args.snapshot * hosts) as f64 / rounds as f64)
}

fn print(args: &Args, hosts: u32, found: &Found, expected: f64) {
    let Found { actors, steps, received, updates, age, round_trip, learner, gate, costs, .. } = found;
    let [ingest_us, links_us, gate_us, hosts_us] =
        [costs.ingest, costs.links, costs.gate, found.hosts].map(|seconds| 1e6 * seconds);
    match args.json {
        true => println!(
            r#"{{"hosts": {hosts}, "actors": {actors}, "steps_per_s": {steps:.0}, "received_per_s": {received:.0}, "lag_updates_p95": {updates}, "lag_seconds_p95": {age:.3}, "round_trip_ms": {round_trip:.2}, "learner_bytes": {learner}, "gate_bytes": {gate}, "ingest_us": {ingest_us:.2}, "links_us": {links_us:.2}, "gate_us": {gate_us:.2}, "hosts_us": {hosts_us:.2}, "simulated_steps_per_s": {expected:.0}}}"#
        ),
        false => println!(
            "{hosts:>5} {actors:>6} {steps:>8.0} {:>7.2} {updates:>12.0} {age:>7.2} {round_trip:>14.1} {:>12} {:>9} {ingest_us:>10.1} {links_us:>9.1} {gate_us:>8.1} {hosts_us:>9.1} {expected:>9.0}",
            received / 1048576.0,
            learner >> 20,
            gate >> 20
        ),
    }
}
