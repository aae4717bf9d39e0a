//! Processes that die, and strangers.

use std::process::{Command, Stdio};
use std::time::Duration;

use learner::launch::{Notice, Order, PARENT_VAR};
use rustix::process::Signal;
use shared::wire::{Doorway, Hello, ToActor, ToLearner, Visitor, knock};

use crate::support::{PATIENCE, Run, checkpoint, children, is_alive, kill, wait_for, wait_within};

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
fn a_learner_that_dies_ends_the_run_with_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::start(&dir.path().join("run"), &["-c", "dummy"]);
    run.make_steps(50);
    let all = children(run.pid());
    let learner = all.iter().find(|(_, args)| args.iter().any(|a| a == "learner")).expect("a learner runs").0;
    kill(learner, Signal::KILL);
    assert!(!run.end().success());
    let text = run.output();
    assert!(text.contains("learner ended") && text.contains("lucid train --run"), "{text}");
    wait_for("the children to end", || all.iter().all(|(pid, _)| !is_alive(*pid)));
}

#[test]
fn a_stranger_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = shared::config::Config::load(&["dummy"], &[] as &[&str]).unwrap();
    std::fs::write(dir.path().join("config.toml"), config.to_toml().unwrap()).unwrap();
    let door = Doorway::open().unwrap();
    let mut learner = Command::new(env!("CARGO_BIN_EXE_lucid"))
        .args(["learner", "--join", door.name(), "--run"])
        .arg(dir.path())
        .env(PARENT_VAR, std::process::id().to_string())
        .env(actor::TOKEN_VAR, "secret")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let visitor: Visitor<Notice, Order> = door.accept(PATIENCE).unwrap();
    let next = || visitor.receiver.recv_timeout(PATIENCE).unwrap().message;
    while !matches!(next(), Notice::Ready(_)) {}
    visitor.sender.send(&Order::Invite { actor: 0 }).unwrap();
    let name = loop {
        if let Notice::Invitation { door, .. } = next() {
            break door;
        }
    };
    let hello =
        Hello { token: "guess".into(), actor: 0, generation: 0, pid: 4242, binary: env!("CARGO_PKG_VERSION").into() };
    let (_sender, answers) = knock::<ToLearner, ToActor>(&name, &ToLearner::Hello(Box::new(hello))).unwrap();
    let ToActor::Refused { reason } = answers.recv_timeout(PATIENCE).unwrap().message else { panic!("not refused") };
    assert!(reason.contains("4242") && reason.contains("token"), "{reason}");
    loop {
        match next() {
            Notice::Report(report) if report.warnings.iter().any(|w| w.contains("4242")) => break,
            Notice::Joined { .. } => panic!("a stranger joined"),
            _ => {}
        }
    }
    visitor.sender.send(&Order::Stop { reason: "test".into() }).unwrap();
    while !matches!(next(), Notice::Done { .. }) {}
    assert!(learner.wait().unwrap().success());
}
