//! A run with actors on three other hosts, over a network that is slow, lossy, cut and mended, while processes die at both ends.
//!
//! LUCID_NETWORK_SECONDS (60), LUCID_NETWORK_ACTORS (2, of each host) and LUCID_CHAOS_SEED (1) say how long, how many, and with which
//! faults; with LUCID_NETWORK_NAMESPACES, each host and the run are in network namespaces of their own (needs root, and `ip`).

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use learner::control::{Client, Word};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rustix::process::Signal;
use shared::metrics::{ActorReport, Report};

use crate::chaos::{Seen, check_replay, listen as listen_to, pause, signal, table, variable};
use crate::hosts::{free_port, token};
use crate::slow_link::{Conditions, SlowLink};
use crate::support::{Run, children, is_alive, lucid, wait_within};

/// How long a run may take to go on after a fault.
const PATIENCE: Duration = Duration::from_secs(100);
const HOSTS: [&str; 3] = ["near", "far", "farther"];

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing comes through for a while.
    Cut,
    /// A hundredth of the rate.
    Slow,
    /// A fifth of what is sent is lost.
    Lossy,
    /// What is sent comes in another order, some of it twice.
    Reordered,
    /// The relay is killed, with its actors, and started again.
    KillRelay,
    /// The relay, and its network: what was under way is lost.
    Vanish,
    /// The relay is stopped for a while, and continued.
    StopRelay,
    KillGate,
    KillLearner,
}

const FAULTS: [Fault; 9] = [
    Fault::Cut,
    Fault::Slow,
    Fault::Lossy,
    Fault::Reordered,
    Fault::KillRelay,
    Fault::Vanish,
    Fault::StopRelay,
    Fault::KillGate,
    Fault::KillLearner,
];

/// Where the run and the hosts are.
enum Places {
    /// All on this machine's own network.
    Here,
    /// In network namespaces, each with a cable of its own to this machine's: the run's, then one for each host.
    Apart(Vec<String>),
}

impl Places {
    fn new() -> Self {
        if std::env::var_os("LUCID_NETWORK_NAMESPACES").is_none() {
            return Self::Here;
        }
        let name = |number: usize| format!("lucid{}-{number}", std::process::id());
        let places = Self::Apart((0..=HOSTS.len()).map(name).collect());
        let Self::Apart(names) = &places else { return places };
        for (number, name) in names.iter().enumerate() {
            let (here, there) = (format!("lu{}-{number}", std::process::id()), "eth0");
            ip(&format!("netns add {name}"));
            ip(&format!("link add {here} type veth peer name {there} netns {name}"));
            ip(&format!("address add 10.77.{number}.1/24 dev {here}"));
            ip(&format!("link set {here} up"));
            ip(&format!("-n {name} address add 10.77.{number}.2/24 dev {there}"));
            ip(&format!("-n {name} link set {there} up"));
            ip(&format!("-n {name} link set lo up"));
        }
        places
    }

    /// To start something at place 0, the run's, or of a host from 1 on.
    fn command(&self, number: usize) -> Command {
        let lucid = env!("CARGO_BIN_EXE_lucid");
        match self {
            Self::Here => Command::new(lucid),
            Self::Apart(names) => {
                let mut command = Command::new("ip");
                // The process of `ip` becomes that of the program.
                command.args(["netns", "exec", &names[number], lucid]);
                command
            }
        }
    }

    /// Where the run listens, as it is told, and as it is reached from here.
    fn listening(&self) -> (String, SocketAddr) {
        match self {
            Self::Here => {
                let free = free_port();
                (free.to_string(), free)
            }
            Self::Apart(_) => ("0.0.0.0:7447".into(), "10.77.0.2:7447".parse().unwrap()),
        }
    }

    /// Where a host's network begins, as the host sees it.
    fn gateway(&self, number: usize) -> String {
        match self {
            Self::Here => "127.0.0.1".into(),
            Self::Apart(_) => format!("10.77.{number}.1"),
        }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        if let Self::Apart(names) = self {
            names.iter().for_each(|name| drop(Command::new("ip").args(["netns", "delete", name]).status()));
        }
    }
}

fn ip(args: &str) {
    let done = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {args}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A host: a relay with its actors behind a network of its own.
struct Host {
    link: SlowLink,
    token: PathBuf,
    folder: PathBuf,
    actors: usize,
    /// Where it is.
    number: usize,
    relay: Option<Child>,
}

impl Host {
    fn start(&mut self, places: &Places) {
        let output = File::options().create(true).append(true).open(self.folder.with_extension("out")).unwrap();
        let child = places
            .command(self.number)
            .args(["host", "--token", self.token.to_str().unwrap(), "--actors", &self.actors.to_string()])
            .args(["--join", &self.link.address.to_string(), "--folder", self.folder.to_str().unwrap()])
            .env("XDG_CACHE_HOME", self.folder.join("cache"))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn();
        self.relay = Some(child.unwrap());
    }

    fn pid(&self) -> u32 {
        self.relay.as_ref().unwrap().id()
    }

    fn kill(&mut self) {
        let mut relay = self.relay.take().unwrap();
        let actors = children(relay.id());
        relay.kill().unwrap();
        relay.wait().unwrap();
        wait_within(PATIENCE, "actors to end with their relay", &mut || actors.iter().all(|(pid, _)| !is_alive(*pid)));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(relay) = &mut self.relay {
            let _ = relay.kill();
            let _ = relay.wait();
        }
    }
}

struct Network {
    random: Xoshiro256PlusPlus,
    run: Run,
    hosts: Vec<Host>,
    seen: Arc<Mutex<Seen>>,
    /// Of each fault, how long it took until all went on, seconds.
    taken: BTreeMap<String, Vec<f64>>,
    places: Places,
    _folder: tempfile::TempDir,
}

impl Network {
    /// A run with these options, and so many actors on each host.
    fn new(seed: u64, actors: usize, args: &[&str]) -> Self {
        let (folder, places) = (tempfile::tempdir().unwrap(), Places::new());
        let (listen, address) = places.listening();
        let listening = format!("hosts.listen={listen}");
        let args = [args, &["--actors", "1", "--set", &listening]].concat();
        let run = Run::start_as("train", places.command(0), &folder.path().join("run"), &args, &[]);
        run.make_steps(50);
        let host = |(index, name): (usize, &&str)| {
            let number = index + 1;
            let link = SlowLink::new(&places.gateway(number), address, Conditions::FAR, seed + number as u64);
            let token = token(&run.dir, name, &folder.path().join(format!("{name}.token")));
            Host { link, token, folder: folder.path().join(name), actors, number, relay: None }
        };
        let hosts = HOSTS.iter().enumerate().map(host).collect();
        let random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (seen, taken) = Default::default();
        let mut network = Self { random, run, hosts, seen, taken, places, _folder: folder };
        network.hosts.iter_mut().for_each(|host| host.start(&network.places));
        listen_to(&network.seen, &network.run);
        network
    }

    fn seconds(&mut self, least: f64, most: f64) -> Duration {
        Duration::from_secs_f64(self.random.random_range(least..most))
    }

    fn harm(&mut self, fault: Fault) {
        let (index, far) = (self.random.random_range(0..self.hosts.len()), Conditions::FAR);
        let rest = self.seconds(0.5, 15.0);
        match fault {
            Fault::Cut => self.worsen(index, Conditions { cut: true, ..far }, rest),
            Fault::Slow => self.worsen(index, Conditions { rate: far.rate / 100.0, ..far }, rest),
            Fault::Lossy => self.worsen(index, Conditions { loss: 0.2, ..far }, rest),
            Fault::Reordered => self.worsen(index, Conditions { late: 0.3, twice: 0.1, ..far }, rest),
            Fault::KillRelay => {
                self.hosts[index].kill();
                self.hosts[index].start(&self.places);
            }
            Fault::Vanish => {
                self.hosts[index].link.change(Conditions { cut: true, ..far });
                self.hosts[index].kill();
                pause(rest);
                self.hosts[index].link.change(far);
                self.hosts[index].start(&self.places);
            }
            Fault::StopRelay => {
                signal(self.hosts[index].pid(), Signal::STOP);
                pause(rest);
                signal(self.hosts[index].pid(), Signal::CONT);
            }
            Fault::KillGate => self.kill_child("gate"),
            Fault::KillLearner => self.kill_child("learner"),
        }
    }

    fn worsen(&self, index: usize, conditions: Conditions, rest: Duration) {
        self.hosts[index].link.change(conditions);
        pause(rest);
        self.hosts[index].link.change(Conditions::FAR);
    }

    fn kill_child(&self, word: &str) {
        let child = children(self.run.pid()).into_iter().find(|(_, args)| args.get(1).is_some_and(|arg| arg == word));
        if let Some((pid, _)) = child {
            signal(pid, Signal::KILL);
        }
    }

    /// Until updates and steps are made again and all actors of all hosts are there.
    fn go_on(&mut self) {
        let (since, deadline) = (Instant::now(), Instant::now() + PATIENCE);
        let wanted: BTreeMap<_, _> = HOSTS.iter().zip(&self.hosts).map(|(name, host)| (*name, host.actors)).collect();
        let complete = |report: &Report| {
            let mut there = BTreeMap::new();
            // Those of a relay that was killed are reported for as long as its silence is not noticed.
            let acts = |actor: &&ActorReport| actor.version > 0 && actor.silent < 5.0 && is_alive(actor.pid);
            let acting = report.actors.iter().filter(acts);
            acting.filter_map(|actor| actor.host.as_deref()).for_each(|name| *there.entry(name).or_insert(0) += 1);
            there == wanted && report.actors.iter().all(|actor| actor.version > 0)
        };
        self.seen.lock().progress = [0; 2];
        loop {
            let ended = self.run.ended();
            assert!(ended.is_none(), "{ended:?}\n{}", self.told());
            let seen = self.seen.lock();
            assert!(seen.violations.is_empty(), "{:#?}\n{}", seen.violations, self.told());
            let whole = seen.last.as_ref().is_some_and(|(at, report)| *at > since && complete(report));
            if whole && seen.progress.iter().all(|more| *more > 1) {
                return;
            }
            let state = seen.last.as_ref().map(|(at, report)| (at.elapsed(), report.clone()));
            drop(seen);
            assert!(Instant::now() < deadline, "{state:#?}\n{}", self.told());
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn told(&self) -> String {
        let said = |host: &Host| std::fs::read_to_string(host.folder.with_extension("out")).unwrap_or_default();
        let hosts: String = self.hosts.iter().map(said).collect();
        format!("{}{}{hosts}", self.run.output(), self.run.logs())
    }

    fn end(mut self) {
        self.run.signal(Signal::INT);
        self.run.end_well();
        for host in &mut self.hosts {
            let mut relay = host.relay.take().unwrap();
            let mut status = None;
            wait_within(PATIENCE, "a relay to end with the run", &mut || {
                status = relay.try_wait().unwrap();
                status.is_some()
            });
            let said = std::fs::read_to_string(host.folder.with_extension("out")).unwrap();
            assert!(status.unwrap().success(), "{said}");
        }
        check_replay(&self.run.dir, false);
    }
}

#[test]
fn whatever_the_network_does_nothing_that_was_counted_is_lost_or_counted_twice() {
    let seed = variable("LUCID_CHAOS_SEED", 1);
    let limit = Duration::from_secs(variable("LUCID_NETWORK_SECONDS", 60));
    // An environment that sleeps: it is the network that is tried here, and other tests need the cores.
    let own = ["env.task=dummy_sleep", "env.observe=vector", "run.train_ratio=0.2"];
    let sets = [&own[..], &["replay.size=5000", "checkpoint.every=2", "log.every=2"]].concat();
    let args: Vec<&str> = ["-c", "dummy"].into_iter().chain(sets.iter().flat_map(|set| ["--set", set])).collect();
    let mut network = Network::new(seed, variable("LUCID_NETWORK_ACTORS", 2) as usize, &args);
    network.go_on();
    let begun = Instant::now();
    while begun.elapsed() < limit {
        let rest = network.seconds(0.0, 2.0);
        pause(rest);
        let fault = FAULTS[network.random.random_range(0..FAULTS.len())];
        network.harm(fault);
        let since = Instant::now();
        network.go_on();
        network.taken.entry(format!("{fault:?}")).or_default().push(since.elapsed().as_secs_f64());
    }
    let Seen { steps, version, .. } = *network.seen.lock();
    println!(
        "Seed {seed}, {:.0} s, {steps} steps, version {version}.\n{}",
        begun.elapsed().as_secs_f64(),
        table(&network.taken)
    );
    network.end();
}

/// Mean return of 32 episodes with a run's last policy.
fn learned(run: &Run) -> f64 {
    let (ok, text) = lucid(&["eval", run.dir.to_str().unwrap(), "--episodes", "32", "--json"]);
    println!("{text}");
    assert!(ok);
    let record: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    record["mean"].as_f64().unwrap()
}

/// The last number of this name in a run's records.
fn recorded(run: &Run, name: &str) -> f64 {
    let text = std::fs::read_to_string(run.dir.join("metrics.jsonl")).unwrap();
    let records = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    records.filter_map(|record| record[name].as_f64()).next_back().unwrap()
}

#[test]
#[ignore = "trains twice, for LUCID_NETWORK_STEPS (32000) steps each: for an hour"]
fn a_run_over_slow_networks_learns_as_one_beside_the_learner_and_each_host_gets_one_copy() {
    let steps = variable("LUCID_NETWORK_STEPS", 32_000).to_string();
    let seed = variable("LUCID_CHAOS_SEED", 3);
    let sets = ["run.train_ratio=96", &format!("run.seed={seed}"), "agent.opt.lr=3e-4", "agent.opt.warmup=200"];
    let own = ["-c", "cartpole", "--steps", &steps].into_iter().chain(sets.iter().flat_map(|set| ["--set", set]));
    let own: Vec<&str> = own.collect();
    let folder = tempfile::tempdir().unwrap();
    let mut beside = Run::start(&folder.path().join("beside"), &[&own[..], &["--actors", "25"]].concat());
    let mut network = None;
    let (mut last, mut returns) = ([Report::default(), Report::default()], [0.0; 2]);
    for far in [false, true] {
        let run = if far { &mut network.insert(Network::new(seed, 8, &own)).run } else { &mut beside };
        let begun = Instant::now();
        wait_within(PATIENCE, "a run that can be watched", &mut || Client::connect(&run.dir).is_ok());
        let words = Client::connect(&run.dir).unwrap().watch().unwrap();
        for word in words.map_while(Result::ok) {
            if let Word::Report(report) = word
                && !report.returns.is_empty()
            {
                last[usize::from(far)] = *report;
            }
        }
        run.end_well();
        returns[usize::from(far)] = learned(run);
        let (where_, took) = (if far { "far" } else { "beside" }, begun.elapsed().as_secs_f64());
        let report = &last[usize::from(far)];
        let lag = report.actors.iter().map(|actor| actor.lag_updates).max();
        let training = report.returns.iter().sum::<f64>() / report.returns.len() as f64;
        println!(
            "{where_}: {} steps, {} updates in {took:.0} s, lag {lag:?}, last 20 returns in training {training:.1}",
            report.steps, report.updates
        );
        report.hosts.iter().for_each(|host| println!("{host:?}"));
    }
    let snapshot = recorded(&network.unwrap().run, "snapshot/bytes");
    assert_eq!(last[1].hosts.len(), HOSTS.len());
    for host in &last[1].hosts {
        let bytes = host.sent as f64 / host.snapshots as f64;
        println!("{}: {bytes:.0} bytes for each snapshot of {snapshot} that arrived, with 8 actors", host.name);
        assert!(bytes < 1.5 * snapshot);
    }
    // Without having learned, about 30.
    let [beside, far] = returns;
    assert!(beside > 100.0 && far > 0.7 * beside, "{returns:?}");
}
