//! Processes that die, and strangers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actor::env::make;
use candle_core::{Device, Var};
use learner::agent::{Agent, Origin};
use learner::launch::{Notice, Order, PARENT_VAR};
use rustix::process::Signal;
use shared::array::Array;
use shared::config::Config;
use shared::experience::{Chunk, StreamId, VERSION};
use shared::metrics::Report;
use shared::params::{Tree, Weight, fingerprint};
use shared::snapshot::format::{SnapshotHeader, SnapshotView, encode};
use shared::snapshot::{PolicySnapshot, digest};
use shared::wire::{
    Doorway, Hello, Incoming, Numbers, ToActor, ToLearner, Visitor, Waiting, Welcome, WireError, chunk, knock,
};

use crate::support::{PATIENCE, Run, checkpoint, children, is_alive, kill, small_vit, through, wait_for, wait_within};

#[test]
fn a_killed_actor_is_back_within_ten_seconds_and_the_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let mut run = Run::start(&folder, &["-c", "dummy", "--actors", "2", "--set", "run.train_ratio=1"]);
    run.make_steps(100);
    let old = run.actor(0).expect("actor 0 runs");
    kill(old, Signal::KILL);
    wait_within(Duration::from_secs(10), "actor 0 to be back", &mut || run.actor(0).is_some_and(|pid| pid != old));
    run.make_steps(300);
    run.signal(Signal::INT);
    run.end_well();
    let streams: Vec<_> = checkpoint(&folder).replay.streams.iter().map(|s| (s.id.actor, s.id.generation)).collect();
    assert!(streams.contains(&(0, 0)) && streams.contains(&(0, 1)) && streams.contains(&(1, 0)), "{streams:?}");
    assert!(run.output().contains("actor 0"), "{}", run.output());
}

#[test]
fn no_process_outlives_a_killed_launcher() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let mut run = Run::start(&folder, &["-c", "dummy", "--actors", "3"]);
    run.make_steps(50);
    let children: Vec<u32> = children(run.pid()).into_iter().map(|(pid, _)| pid).collect();
    assert_eq!(children.len(), 4);
    run.signal(Signal::KILL);
    run.end();
    wait_for("the children to end", || children.iter().all(|pid| !is_alive(*pid)));
    // The learner saved before it ended.
    assert!(checkpoint(&folder).counters.env_steps >= 50);
}

#[test]
fn a_second_interrupt_ends_everything_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::start(&dir.path().join("run"), &["-c", "dummy", "--actors", "2"]);
    run.make_steps(50);
    let all = children(run.pid());
    let learner = all.iter().find(|(_, args)| args.iter().any(|a| a == "learner")).expect("a learner runs").0;
    // A learner that cannot react keeps the orderly end waiting.
    kill(learner, Signal::STOP);
    run.signal(Signal::INT);
    wait_for("the first interrupt to be heard", || run.output().contains("Ctrl-C again"));
    run.signal(Signal::INT);
    assert!(!run.end().success());
    wait_for("the children to end", || all.iter().all(|(pid, _)| !is_alive(*pid)));
}

/// A learner or actor process of this binary, as the launcher would start it, with the token `secret`.
fn start(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lucid"))
        .args(args)
        .env(PARENT_VAR, std::process::id().to_string())
        .env(actor::TOKEN_VAR, "secret")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A learner of `dummy`, with a door open for actor 0, and the launcher's end of the link to it.
struct Invited {
    learner: Child,
    launcher: Visitor<Notice, Order>,
    door: String,
    generation: u32,
    begun: Instant,
    dir: tempfile::TempDir,
}

impl Invited {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::load(&["dummy"], &["log.every=0.2"]).unwrap();
        std::fs::write(dir.path().join("config.toml"), config.to_toml().unwrap()).unwrap();
        let door = Doorway::open().unwrap();
        let learner = start(&["learner", "--since", "0", "--join", door.name(), "--run", dir.path().to_str().unwrap()]);
        let launcher: Visitor<Notice, Order> = door.accept(PATIENCE).unwrap();
        let next = || launcher.receiver.recv_timeout(PATIENCE).unwrap().message;
        while !matches!(next(), Notice::Ready(_)) {}
        launcher.sender.send(&Order::Invite { actor: 0 }).unwrap();
        let invitation = |notice| match notice {
            Notice::Invitation { door, generation, .. } => Some((door, generation)),
            _ => None,
        };
        let (door, generation) = std::iter::repeat_with(next).find_map(invitation).unwrap();
        Self { learner, launcher, door, generation, begun: Instant::now(), dir }
    }

    fn next(&self) -> Notice {
        assert!(self.begun.elapsed() < PATIENCE, "what is waited for does not come");
        self.launcher.receiver.recv_timeout(PATIENCE).unwrap().message
    }

    fn hello(&self, token: &str, pid: u32) -> ToLearner {
        let (token, binary) = (token.into(), env!("CARGO_PKG_VERSION").into());
        ToLearner::Hello(Box::new(Hello { token, actor: 0, generation: self.generation, pid, binary, version: 0 }))
    }

    /// What the run has counted under this name, all in all.
    fn counted(&self, name: &str) -> f64 {
        let text = std::fs::read_to_string(self.dir.path().join("metrics.jsonl")).unwrap_or_default();
        let records = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        records.filter_map(|record| record[name].as_f64()).sum()
    }

    fn end(mut self) {
        self.launcher.sender.send(&Order::Stop { reason: "test".into() }).unwrap();
        while !matches!(self.next(), Notice::Done { .. }) {}
        assert!(self.learner.wait().unwrap().success());
    }
}

#[test]
fn a_stranger_is_refused_and_named() {
    let invited = Invited::new();
    let (_sender, answers) = knock::<ToLearner, ToActor>(&invited.door, &invited.hello("guess", 4242)).unwrap();
    let ToActor::Refused { reason } = answers.recv_timeout(PATIENCE).unwrap().message else { panic!("not refused") };
    assert!(reason.contains("4242") && reason.contains("token"), "{reason}");
    loop {
        match invited.next() {
            Notice::Report(report) if report.warnings.iter().any(|w| w.contains("4242")) => break,
            Notice::Joined { .. } => panic!("a stranger joined"),
            _ => {}
        }
    }
    wait_for("the refusal to be counted", || invited.counted("wire/refused") == 1.0);
    invited.end();
}

#[test]
fn what_is_no_message_and_what_was_said_before_is_not_taken_and_counted() {
    let invited = Invited::new();
    let hello = invited.hello("secret", std::process::id());
    let (sender, answers) = knock::<ToLearner, ToActor>(&invited.door, &hello).unwrap();
    while !matches!(answers.recv_timeout(PATIENCE).unwrap().message, ToActor::Credits { .. }) {}
    let flags = Array::u8(&[2], &[0, 0]);
    let stream = StreamId { actor: 0, generation: invited.generation, env: 0 };
    let columns = ["is_first", "is_last"].map(|key| (key.to_string(), flags.clone())).into();
    let (head, block) = chunk::pack(&Chunk { stream, first_step: 0, columns });
    for _ in 0..2 {
        sender.send_bytes(&ToLearner::Chunk(head.clone()), &block).unwrap();
    }
    wait_for("the repeated steps to be counted", || invited.counted("wire/repeated") == 2.0);
    assert_eq!(invited.counted("wire/refused"), 0.0);
    sender.send(&ToLearner::SnapshotTaken { version: 0, digest: 0 }).unwrap();
    while answers.recv_timeout(PATIENCE).is_ok() {}
    wait_for("an old version to be counted", || invited.counted("wire/refused") == 1.0);
    invited.end();
}

#[test]
fn garbage_at_a_door_is_counted_and_lets_nobody_in() {
    let invited = Invited::new();
    let mut stream = UnixStream::connect(&invited.door).unwrap();
    stream.write_all(&[0xff; 100]).unwrap();
    while !matches!(invited.next(), Notice::NotJoined { actor: 0, .. }) {}
    wait_for("the garbage to be counted", || invited.counted("wire/refused") == 1.0);
    invited.end();
}

#[test]
fn an_actor_that_acts_with_other_weights_than_it_was_sent_is_named_and_cut_off() {
    let invited = Invited::new();
    let hello = invited.hello("secret", std::process::id());
    let (sender, answers) = knock::<ToLearner, ToActor>(&invited.door, &hello).unwrap();
    let (version, sent) = loop {
        let incoming = answers.recv_timeout(PATIENCE).unwrap();
        if let ToActor::Snapshot { version, .. } = incoming.message {
            break (version, digest(&SnapshotView::open(incoming.bulk.into_region()).unwrap()));
        }
    };
    sender.send(&ToLearner::SnapshotTaken { version, digest: sent ^ 1 }).unwrap();
    loop {
        if let Notice::Report(report) = invited.next()
            && report.warnings.iter().any(|w| w.contains("actor 0") && w.contains("other weights"))
        {
            break;
        }
    }
    while answers.recv_timeout(PATIENCE).is_ok() {}
    invited.end();
}

#[test]
fn experience_with_a_number_that_is_not_finite_is_refused_and_its_actor_named() {
    let invited = Invited::new();
    let hello = invited.hello("secret", std::process::id());
    let (sender, answers) = knock::<ToLearner, ToActor>(&invited.door, &hello).unwrap();
    while !matches!(answers.recv_timeout(PATIENCE).unwrap().message, ToActor::Snapshot { .. }) {}
    let stream = StreamId { actor: 0, generation: invited.generation, env: 0 };
    let columns = [("reward".to_string(), Array::f32(&[3], &[0.0, 1.0, f32::NAN]))].into();
    let (head, block) = chunk::pack(&Chunk { stream, first_step: 0, columns });
    sender.send_bytes(&ToLearner::Chunk(head), &block).unwrap();
    loop {
        if let Notice::Report(report) = invited.next()
            && let Some(told) = report.warnings.iter().find(|w| w.contains("not finite"))
        {
            let expected = ["actor 0", "env: 0", "reward", "step 2"];
            assert!(expected.iter().all(|part| told.contains(part)), "{told}");
            break;
        }
    }
    while answers.recv_timeout(PATIENCE).is_ok() {}
    invited.end();
}

#[test]
fn an_actor_whose_policy_overflows_ends_and_sends_nothing_of_it() {
    let mut actor = Tested::join(&[]);
    actor.publish(1, 0);
    actor.read_until(|_, versions| versions.contains(&1));
    // Finite, as published parameters are; what they are multiplied with is not.
    for (path, var) in actor.agent.params().trainable() {
        if path.starts_with("dyn/") && path.ends_with("kernel") {
            var.set(&var.affine(0.0, f64::from(f32::MAX)).unwrap()).unwrap();
        }
    }
    actor.publish(2, 1);
    let closed = loop {
        match actor.link.receiver.recv_timeout(PATIENCE) {
            Ok(incoming) => {
                if let ToLearner::Chunk(head) = incoming.message {
                    let chunk = chunk::unpack(head, incoming.bulk.as_ref()).unwrap();
                    assert_eq!(chunk.first_non_finite(), None);
                }
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(closed, WireError::Closed), "{closed}");
    let _held = actor.process.stdin.take();
    assert!(!actor.process.wait().unwrap().success());
}

#[test]
fn an_actor_needs_no_file_of_weights() {
    let dir = tempfile::tempdir().unwrap();
    let weights = small_vit(dir.path());
    let args = through(weights.to_str().unwrap());
    let args: Vec<&str> = args.iter().map(String::as_str).chain(["--actors", "1"]).collect();
    let mut run = Run::start(&dir.path().join("run"), &args);
    run.make_steps(50);
    std::fs::remove_file(&weights).unwrap();
    let old = run.actor(0).expect("actor 0 runs");
    kill(old, Signal::KILL);
    wait_for("actor 0 to be back", || run.actor(0).is_some_and(|pid| pid != old));
    run.make_steps(200);
    run.signal(Signal::INT);
    run.end_well();
    assert!(checkpoint(&run.dir).replay.streams.iter().any(|stream| stream.id.generation == 1));
}

/// What a learner of this config welcomes actors with, and its agent.
fn welcome(config: &Config) -> (Welcome, Agent) {
    let env = make(&config.env, 0).unwrap();
    let (obs, act) = (env.obs_space(), env.act_space());
    let agent_obs = actor::agent_spaces(&obs, &config.vit, None).unwrap();
    let origin = Origin {
        obs: &agent_obs,
        act: &act,
        seed: 0,
        statistics: Tree::new(),
        pretrained: Tree::new(),
        freeze: &[],
        device: Device::Cpu,
    };
    let agent = Agent::new(&config.agent(), origin).unwrap();
    let layout = fingerprint(&agent.policy_params().unwrap());
    (
        Welcome { config: config.to_toml().unwrap(), env_obs: obs, agent_obs, act, layout, vit: None, stored: vec![] },
        agent,
    )
}

/// An actor process whose learner is the test.
struct Tested {
    process: Child,
    link: Visitor<ToLearner, ToActor>,
    agent: Agent,
    published: Vec<PolicySnapshot>,
}

impl Tested {
    /// Joined, with credits to spare.
    fn join(sets: &[&str]) -> Self {
        let config = Config::load(&["dummy"], sets).unwrap();
        let (welcome, agent) = welcome(&config);
        let door = Doorway::open().unwrap();
        let process = start(&["actor", "--index", "0", "--generation", "0", "--timeout", "60", "--join", door.name()]);
        let link: Visitor<ToLearner, ToActor> = door.accept(PATIENCE).unwrap();
        link.sender.send(&ToActor::Welcome(Box::new(welcome))).unwrap();
        link.sender.send(&ToActor::Credits { count: 1_000_000, stored: 0 }).unwrap();
        Self { process, link, agent, published: Vec::new() }
    }

    fn publish(&mut self, version: u64, update: u64) {
        let header = SnapshotHeader { version, update, published: 0 };
        let snapshot =
            PolicySnapshot::publish(&encode(&header, &self.agent.policy_params().unwrap()).unwrap()).unwrap();
        self.link.sender.send_region(&ToActor::Snapshot { version, update }, &snapshot.region).unwrap();
        self.published.push(snapshot);
    }

    fn clock(&self, update: u64) {
        self.link.sender.send(&ToActor::Clock { update }).unwrap();
    }

    /// Reads until `done` holds of an actor's numbers or of the versions of a chunk's steps.
    fn read_until(&self, done: impl Fn(Option<&Numbers>, &[u64]) -> bool) {
        loop {
            let incoming = self.link.receiver.recv_timeout(PATIENCE).unwrap();
            let (numbers, versions) = match incoming.message {
                ToLearner::Numbers(numbers) => (Some(numbers), vec![]),
                ToLearner::Chunk(head) => {
                    let chunk = chunk::unpack(head, incoming.bulk.as_ref()).unwrap();
                    (None, chunk.columns[VERSION].values::<u64>())
                }
                ToLearner::Goodbye { .. } => panic!("the actor left"),
                _ => continue,
            };
            if done(numbers.as_ref(), &versions) {
                return;
            }
        }
    }

    /// It ends in order.
    fn stop(mut self) {
        self.link.sender.send(&ToActor::Stop).unwrap();
        while !matches!(self.link.receiver.recv_timeout(PATIENCE).unwrap().message, ToLearner::Goodbye { .. }) {}
        // Waiting closes the pipe by which an actor knows that its launcher lives; held, so that it ends in order.
        let _held = self.process.stdin.take();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

#[test]
fn an_actor_waits_rather_than_act_on_weights_that_are_too_old() {
    let mut actor = Tested::join(&["sync.max_lag_updates=5"]);
    actor.publish(1, 0);
    actor.read_until(|_, versions| versions.contains(&1));
    actor.clock(5);
    actor.read_until(|_, versions| versions.contains(&1));
    actor.clock(6);
    actor.read_until(|numbers, _| numbers.is_some_and(|numbers| numbers.waiting == Waiting::Snapshot));
    actor.publish(2, 6);
    actor.read_until(|_, versions| versions.ends_with(&[2]));
    actor.stop();
}

/// An actor ends, so that its launcher starts it anew, rather than act with such a snapshot.
fn is_not_acted_with(mut actor: Tested, version: u64) {
    loop {
        match actor.link.receiver.recv_timeout(PATIENCE) {
            Ok(Incoming { message: ToLearner::SnapshotTaken { version: taken, .. }, .. }) => assert!(taken != version),
            Ok(_) => {}
            Err(WireError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let _held = actor.process.stdin.take();
    assert!(!actor.process.wait().unwrap().success());
}

#[test]
fn an_actor_takes_no_snapshot_of_another_layout_or_of_another_version_than_was_announced() {
    let mut actor = Tested::join(&[]);
    actor.publish(1, 0);
    actor.read_until(|_, versions| versions.contains(&1));
    let mut params = actor.agent.policy_params().unwrap();
    params.pop();
    let header = SnapshotHeader { version: 2, update: 1, published: 0 };
    let other = PolicySnapshot::publish(&encode(&header, &params).unwrap()).unwrap();
    actor.link.sender.send_region(&ToActor::Snapshot { version: 2, update: 1 }, &other.region).unwrap();
    is_not_acted_with(actor, 2);

    let mut actor = Tested::join(&[]);
    actor.publish(1, 0);
    actor.read_until(|_, versions| versions.contains(&1));
    let old = &actor.published[0].region;
    actor.link.sender.send_region(&ToActor::Snapshot { version: 3, update: 1 }, old).unwrap();
    is_not_acted_with(actor, 3);
}

#[test]
fn an_actor_does_not_go_back_to_an_old_version() {
    let mut actor = Tested::join(&[]);
    actor.publish(7, 3);
    actor.read_until(|_, versions| versions.contains(&7));
    actor.publish(6, 2);
    is_not_acted_with(actor, 6);
}

#[test]
fn with_a_soft_bound_an_actor_goes_on_and_counts_what_is_beyond_it() {
    let mut actor = Tested::join(&["sync.max_lag_updates=5", "sync.max_lag_mode=soft"]);
    actor.publish(1, 0);
    actor.read_until(|numbers, _| numbers.is_some_and(|n| n.first_uses.iter().any(|(version, _)| *version == 1)));
    actor.clock(5);
    actor.read_until(|numbers, _| numbers.is_some_and(|n| n.lag == 5.0 && n.beyond == 0));
    actor.clock(9);
    actor.read_until(|numbers, _| numbers.is_some_and(|n| n.lag == 9.0 && n.beyond == n.steps && n.steps > 0));
    actor.publish(2, 9);
    actor.read_until(|numbers, _| numbers.is_some_and(|n| n.lag == 0.0 && n.steps > 0 && n.beyond == 0));
    actor.stop();
}

#[test]
fn a_stuck_actor_is_named_ended_and_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let sets = ["--set", "run.train_ratio=1", "--set", "env.timeout=1", "--set", "sync.silence_timeout=2"];
    let mut run = Run::start(&dir.path().join("run"), &[&["-c", "dummy", "--actors", "2"], &sets[..]].concat());
    run.make_steps(50);
    let stuck = run.actor(1).expect("actor 1 runs");
    kill(stuck, Signal::STOP);
    wait_for("another process of actor 1", || run.actor(1).is_some_and(|pid| pid != stuck) && !is_alive(stuck));
    run.report(|report| report.actors.iter().any(|row| row.index == 1 && row.version > 0 && row.pid != stuck));
    run.signal(Signal::INT);
    run.end_well();
    let text = run.output();
    assert!(text.contains(&format!("actor 1 (process {stuck}) has said nothing")), "{text}");
}

/// Lag is what an actor has acknowledged: what is sent to one that is stopped does not count.
#[test]
fn a_stopped_actor_holds_what_it_acknowledged_whatever_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::start(&dir.path().join("run"), &["-c", "dummy", "--actors", "2", "--set", "run.train_ratio=1"]);
    run.make_steps(50);
    let pid = run.actor(1).expect("actor 1 runs");
    kill(pid, Signal::STOP);
    let row = |report: &Report| report.actors.iter().find(|row| row.pid == pid).cloned();
    // What was on its way when it was stopped may still be told.
    let held = row(&run.reports().nth(2).unwrap()).unwrap().version;
    let later = run.report(|report| report.version > held + 20);
    let row = row(&later).unwrap();
    assert!(row.version == held && row.lag_versions >= later.version - held, "{row:?}");
    kill(pid, Signal::CONT);
    run.report(|report| report.actors.iter().any(|row| row.pid == pid && row.version > held));
    run.signal(Signal::INT);
    run.end_well();
}

/// A snapshot whose weights are those of `params`, scaled by something of its version alone.
fn scaled(params: &[(String, Weight)], version: u64) -> PolicySnapshot {
    let scaled = |weight: &Weight| weight.tensor().unwrap().affine(1.0 + 1e-4 * version as f64, 0.0).unwrap();
    let var = |weight: &Weight| Weight::Var(Var::from_tensor(&scaled(weight)).unwrap());
    let params: Vec<_> = params.iter().map(|(path, weight)| (path.clone(), var(weight))).collect();
    let header = SnapshotHeader { version, update: version, published: 0 };
    PolicySnapshot::publish(&encode(&header, &params).unwrap()).unwrap()
}

#[test]
fn in_a_storm_of_snapshots_an_actor_acts_with_whole_ones_and_never_with_an_older_one() {
    const LAST: u64 = 2000;
    let mut actor = Tested::join(&["actor.envs=2", "actor.chunk=4"]);
    actor.publish(1, 1);
    actor.read_until(|_, versions| versions.contains(&1));
    let params = actor.agent.policy_params().unwrap();
    let (sender, pid) = (actor.link.sender.clone(), actor.process.id());
    let (tell, published) = std::sync::mpsc::channel();
    let acknowledged = Arc::new(AtomicU64::new(1));
    let told = acknowledged.clone();
    let storm = std::thread::spawn(move || {
        for version in 2..=LAST {
            match version {
                // It sleeps through some of it, and finds all these versions at once. None is under way before: a socket holds only so many.
                500 => {
                    wait_for("it to hold what was sent", || told.load(Ordering::Acquire) == 499);
                    kill(pid, Signal::STOP);
                }
                550 => kill(pid, Signal::CONT),
                _ => {}
            }
            let snapshot = scaled(&params, version);
            tell.send(snapshot.digest).unwrap();
            sender.send_region(&ToActor::Snapshot { version, update: version }, &snapshot.region).unwrap();
        }
    });
    let (mut taken, mut acted) = (1, BTreeMap::<StreamId, BTreeSet<u64>>::new());
    // What is acted with and what is acknowledged comes from two threads, in either order.
    while taken < LAST || acted.len() < 2 || acted.values().any(|versions| !versions.contains(&LAST)) {
        let incoming = actor.link.receiver.recv_timeout(PATIENCE).unwrap();
        match incoming.message {
            ToLearner::SnapshotTaken { version, digest } => {
                assert_eq!(version, taken + 1, "acknowledged versions rise, and every one is acknowledged");
                assert_eq!(digest, published.recv().unwrap(), "version {version}");
                taken = version;
                acknowledged.store(version, Ordering::Release);
            }
            ToLearner::Chunk(head) => {
                let chunk = chunk::unpack(head, incoming.bulk.as_ref()).unwrap();
                let seen = acted.entry(chunk.stream).or_default();
                for version in chunk.columns[VERSION].values::<u64>() {
                    assert!(seen.last() <= Some(&version), "{:?}: {version} after {seen:?}", chunk.stream);
                    seen.insert(version);
                }
            }
            ToLearner::Goodbye { reason, .. } => panic!("the actor left: {reason}"),
            _ => {}
        }
    }
    assert_eq!(taken, LAST);
    assert!(acted.values().all(|versions| versions.len() > 10), "it acted while they came: {acted:?}");
    storm.join().unwrap();
    actor.stop();
}
