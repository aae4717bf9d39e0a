//! Runs with fake actors, and what each costs.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use shared::config::Config;
use shared::metrics::Report;

use super::{Args, grow};
use crate::RunError;
use crate::cli::bench::scale::busy_seconds;
use crate::cli::bench::{cpu_seconds, median};
use crate::control::{Client, Word};
use crate::error::io;
use crate::hosts::HostError;
use crate::hosts::bench::{beside, fan_out, far};
use crate::hosts::fake::{Recorded, take_part};
use crate::hosts::growth::{Costs, Load, Place, simulate};
use crate::reporter::resident;

/// How long a run and its hosts may take until all takes part.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a run may take to end.
const FAREWELL: Duration = Duration::from_secs(60);

/// File with what a run said of errors.
const SAID: &str = "said";

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
        let own = [format!("hosts.listen={join}"), "run.train_ratio=0.005".into(), "replay.gib=4.0".into()];
        for set in own.iter().chain(&args.set) {
            command.args(["--set", set]);
        }
        let said = fs::File::create(dir.path().join(SAID)).map_err(io("create", dir.path()))?;
        let child = command.stdout(Stdio::null()).stderr(said).spawn().map_err(io("start", &binary))?;
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

    /// The first report, within the time and before `stop` is raised, of which this is so.
    fn report(&mut self, stop: &AtomicBool, so: impl Fn(&Report) -> bool) -> Result<Report, RunError> {
        let deadline = Instant::now() + PATIENCE;
        let over = || Instant::now() > deadline || stop.load(Ordering::Acquire);
        while !over() && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if let Ok(words) = Client::connect(&self.run()).and_then(Client::watch) {
                for word in words.map_while(Result::ok) {
                    if let Word::Report(report) = word
                        && so(&report)
                    {
                        return Ok(*report);
                    }
                    if over() {
                        break;
                    }
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
        let said = fs::read_to_string(self.dir.path().join(SAID)).unwrap_or_default();
        Err(RunError::Bench { message: format!("the run did not come so far: try fewer hosts. {}", said.trim()) })
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
    let credits = Config::load(&[&args.config], &args.set)?.sync.credits as u32;
    let (mut recorded, mut first) = (None, None);
    for &hosts in &args.fake {
        let mut whole = Whole::start(args)?;
        let stop = AtomicBool::new(false);
        whole.report(&stop, |report| report.actors.iter().any(|actor| actor.version > 0))?;
        let recorded = match &recorded {
            Some(recorded) => recorded,
            None => recorded.insert(record(args, &whole)?),
        };
        let (run, join) = (whole.run(), whole.join.clone());
        let found = thread::scope(|scope| {
            for number in 0..hosts {
                let (run, join, stop) = (&run, &join, &stop);
                scope.spawn(move || {
                    let name = format!("fake{number}");
                    if let Err(error) = take_part(run, join, &name, args.actors, recorded, stop) {
                        eprintln!("{name}: {error}");
                        stop.store(true, Ordering::Release);
                    }
                });
            }
            let found = measure(args, &mut whole, &stop, (hosts * args.actors) as usize, recorded);
            stop.store(true, Ordering::Release);
            found
        })?;
        let expected = found.expected(first.get_or_insert(found), args, credits);
        print(args, hosts, &found, expected);
    }
    match (&recorded, first) {
        (Some(recorded), Some(Found { costs, .. })) if !args.grow.is_empty() => {
            let costs = Costs { byte: byte_cost(args)?, word: word_cost()?, ..costs };
            grow::print(args, &costs, recorded.rates().steps, credits);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn record(args: &Args, whole: &Whole) -> Result<Recorded, RunError> {
    let time = Duration::from_secs_f64(args.seconds.max(5.0));
    let recorded = Recorded::of(&whole.run(), &whole.join, &whole.dir.path().join("recorded"), time)?;
    let recorded = match args.pace {
        Some(pace) => recorded.at_pace(pace),
        None => recorded,
    };
    let rates = recorded.rates();
    if !args.json {
        println!(
            "Each fake actor says again what a real one said: {:.0} steps in {:.1} chunks, {:.2} MiB a second.\n\
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
    fn expected(&self, like: &Self, args: &Args, credits: u32) -> f64 {
        let all = thread::available_parallelism().map_or(1, usize::from);
        // Cores are whole there: as if all were for this, and slower.
        let slower = all as f64 / self.cores.max(0.1);
        let Costs { ingest, links, gate, .. } = like.costs;
        let [ingest, links, gate] = [ingest, links, gate + like.hosts].map(|seconds| seconds * slower);
        let place = Place { cores: all, network: 1e12, round_trip: 1e-3 };
        let actors = args.actors as usize;
        let load = Load { hosts: self.actors / actors, actors, pace: self.pace, credits, update: 1e3, snapshot: 1.0 };
        simulate(&Costs { ingest, links, gate, ..like.costs }, &place, &load).steps
    }
}

fn measure(
    args: &Args,
    whole: &mut Whole,
    stop: &AtomicBool,
    actors: usize,
    recorded: &Recorded,
) -> Result<Found, RunError> {
    let fake = |report: &Report| report.actors.iter().filter(|actor| actor.host.is_some()).count();
    let there = |report: &Report| fake(report) >= actors && report.actors.iter().all(|actor| actor.version > 0);
    let first = whole.report(stop, there)?;
    let (before, busy) = (Spent::until_now(whole), busy_seconds());
    let begun = Instant::now();
    let last = whole.report(stop, |report| there(report) && begun.elapsed().as_secs_f64() >= args.seconds)?;
    let (spent, busy, wall) = (Spent::until_now(whole).since(&before), busy_seconds() - busy, begun.elapsed());
    let cores = thread::available_parallelism().map_or(1, usize::from) as f64;
    let others = (busy - spent.ingest - spent.links - spent.gate - spent.hosts) / wall.as_secs_f64();
    let [_, updates, age] = last.lag().ok_or_else(|| RunError::Bench { message: "no actor".into() })?;
    let (time, rates) = (last.elapsed - first.elapsed, recorded.rates());
    // The real actor's are not theirs.
    let own = |report: &Report| report.actors_on(None).map(|actor| actor.steps).sum::<u64>();
    let all = last.steps - first.steps;
    let steps = all.saturating_sub(own(&last) - own(&first)) as f64;
    let bytes = |report: &Report| report.hosts.iter().map(|host| host.received).sum::<u64>();
    let received = (bytes(&last) - bytes(&first)) as f64 / time;
    let chunks_of = |steps: f64| (steps * rates.chunks / rates.steps).max(1.0);
    let chunks = chunks_of(steps);
    let costs = Costs {
        ingest: spent.ingest / chunks_of(all as f64),
        links: spent.links / chunks,
        gate: spent.gate / chunks,
        byte: 0.0,
        word: 0.0,
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
        // Actor 0 is the real one.
        let of_actor = |name: &str| {
            let number = name.strip_prefix("from actor ").or(name.strip_prefix("to actor "));
            number.is_some_and(|number| number != "0")
        };
        Self {
            ingest: sum(&learner, &|name| name == "ingest"),
            links: sum(&learner, &|name| of_actor(name)),
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
    let (before, _) = (cpu_seconds(), fan_out(args.snapshot, hosts, rounds, true)?);
    Ok((cpu_seconds() - before) / 2.0 / (args.snapshot * hosts) as f64 / rounds as f64)
}

/// CPU seconds for a word: of both ends of a link between the gate and the learner, and of one end of the line to a host.
fn word_cost() -> Result<f64, RunError> {
    let (bytes, time) = (16, Duration::from_secs(2));
    let cost = |rate: &dyn Fn() -> Result<f64, HostError>| {
        let (before, rate) = (cpu_seconds(), rate()?);
        Ok::<_, HostError>((cpu_seconds() - before) / (rate * time.as_secs_f64()))
    };
    Ok(cost(&|| beside(bytes, time))? + cost(&|| far(bytes, time, true))? / 2.0)
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
