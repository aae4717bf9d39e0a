//! The learner dies: another one goes on from the last checkpoint, with all steps that were counted and with the same actors.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use shared::metrics::Report;

use crate::support::{Run, checkpoint, children, is_alive, kill, lucid, small_vit, through, versions, wait_for};

/// A run that saves every second and evicts nothing.
const SAVING: [&str; 8] =
    ["-c", "dummy", "--set", "run.train_ratio=1", "--set", "checkpoint.every=1", "--set", "replay.size=1000000"];

fn start(folder: &Path, more: &[&str]) -> Run {
    let run = Run::start(folder, &[&SAVING[..], more].concat());
    run.wait_for_checkpoint();
    run
}

/// The newest report before the learner is killed, and the first of another one that has made an update and has all actors.
fn kill_learner(run: &Run, actors: usize) -> (Report, Report) {
    let old = run.learner().expect("a learner runs");
    let before = run.reports().nth(1).unwrap();
    kill(old, Signal::KILL);
    wait_for("another learner", || run.learner().is_some_and(|pid| pid != old));
    let mut first = None;
    let goes_on = |report: &Report| {
        // The last report of the old one is told first to whoever begins to watch.
        let new = report.version > before.version && report.steps > before.steps;
        let begun = *first.get_or_insert(report.updates);
        new && report.updates > begun && report.actors.iter().filter(|actor| actor.version > 0).count() == actors
    };
    let after = run.reports().take(240).find(goes_on).expect("updates of another learner");
    (before, after)
}

#[test]
fn another_learner_goes_on_with_the_same_actors_and_loses_no_step() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let mut run = start(&folder, &["--actors", "2", "--set", "actor.envs=2"]);
    let actors = run.actors();
    for _ in 0..3 {
        let (before, after) = kill_learner(&run, 2);
        assert!(after.steps > before.steps && after.version > before.version, "{before:?} {after:?}");
        assert_eq!(run.actors(), actors, "no actor was started again\n{}", run.logs());
    }
    run.signal(Signal::INT);
    run.end_well();
    let cut = checkpoint(&folder);
    assert_eq!(cut.replay.streams.iter().map(|stream| stream.next).sum::<u64>(), cut.counters.env_steps);
    assert!(cut.replay.streams.iter().all(|stream| stream.id.generation == 0));
    let versions = versions(&folder, &cut);
    assert!(versions.len() == 4 && versions.values().all(|versions| versions.is_sorted()));
    assert!(!run.output().contains("steps, but"), "all steps that actors made are there: {}", run.output());
    assert!(run.output().contains("starting it again"), "{}", run.output());
}

#[test]
fn a_learner_that_dies_before_the_first_checkpoint_starts_over_with_the_steps_that_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let args = [&SAVING[..4], &["--actors", "2", "--set", "replay.size=1000000"]].concat();
    let mut run = Run::start(&folder, &args);
    run.make_steps(300);
    let (before, after) = kill_learner(&run, 2);
    assert!(after.steps > before.steps && after.version > before.version, "{before:?} {after:?}");
    assert!(run.output().contains("gone on from update 0;"), "{}", run.output());
    run.signal(Signal::INT);
    run.end_well();
    let cut = checkpoint(&folder);
    assert_eq!(cut.replay.streams.iter().map(|stream| stream.next).sum::<u64>(), cut.counters.env_steps);
}

#[test]
fn what_arrived_after_the_last_checkpoint_is_there_after_everything_was_killed_and_resuming_twice_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let args = [&SAVING[..4], &["--set", "checkpoint.every=1000000", "--set", "replay.size=1000000"]].concat();
    let mut run = Run::start(&folder, &args);
    run.make_steps(200);
    assert!(lucid(&["checkpoint", folder.to_str().unwrap()]).0);
    let saved = checkpoint(&folder);
    run.make_steps(300);
    let counted = run.reports().nth(1).unwrap();
    let learner = run.learner().unwrap();
    // The learner first: it would save when it notices that the launcher has gone.
    kill(learner, Signal::KILL);
    run.signal(Signal::KILL);
    run.end();
    wait_for("everything to have ended", || !is_alive(learner) && children(run.pid()).is_empty());
    assert_eq!(checkpoint(&folder), saved);
    let journals = || {
        let files = fs::read_dir(folder.join("replay")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "bin")).collect();
        files.sort();
        files.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let kept = journals();
    assert!(!kept.is_empty());
    // Reached already: each of these only loads.
    for _ in 0..2 {
        Run::start(&folder, &["--steps", "1"]).end_well();
        let cut = checkpoint(&folder);
        assert!(cut.counters.env_steps >= counted.steps, "{} of {}", cut.counters.env_steps, counted.steps);
        assert_eq!(cut.replay.streams.iter().map(|stream| stream.next).sum::<u64>(), cut.counters.env_steps);
        assert_eq!(cut.agent, saved.agent, "no update was made");
        assert_eq!(cut.limiter, saved.limiter, "what arrived makes no burst of updates due");
        assert!(cut.counters.version > saved.counters.version);
    }
    let gone = kept.iter().all(|(_, path)| !path.exists());
    assert!(gone, "journals go with the checkpoints that need them");
}

#[test]
fn the_encoder_is_in_memory_once_with_another_learner() {
    let dir = tempfile::tempdir().unwrap();
    let weights = small_vit(dir.path());
    let folder = dir.path().join("run");
    let sets = ["--actors", "2", "--set", "checkpoint.every=1"].map(String::from).to_vec();
    let args = [through(weights.to_str().unwrap()), sets].concat();
    let mut run = Run::start(&folder, &args.iter().map(String::as_str).collect::<Vec<_>>());
    run.wait_for_checkpoint();
    let actors = run.actors();
    kill_learner(&run, 2);
    assert_eq!(run.actors(), actors);
    // Of the old one nothing is mapped any more: a region has one inode, whoever maps it.
    let regions = |pid: u32| {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let size = |line: &str| {
            let (from, to) = line.split(' ').next()?.split_once('-')?;
            Some(u64::from_str_radix(to, 16).ok()? - u64::from_str_radix(from, 16).ok()?)
        };
        let large = fs::metadata(&weights).unwrap().len() / 2;
        let shared = maps.lines().filter(|line| line.contains("s 0") && size(line).is_some_and(|size| size > large));
        shared
            .map(|line| line.split_whitespace().nth(4).unwrap().to_string())
            .collect::<std::collections::BTreeSet<_>>()
    };
    let learner = run.learner().unwrap();
    wait_for("actors to see through the new learner's region", || {
        actors.iter().all(|pid| !regions(*pid).is_empty() && regions(*pid).is_subset(&regions(learner)))
    });
    run.signal(Signal::INT);
    run.end_well();
}

/// Actors are started again there: the round begins anew.
#[test]
fn in_lockstep_another_learner_goes_on_too() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let mut run = start(&folder, &["--actors", "1", "--set", "sync.mode=lockstep", "--set", "actor.max_restarts=9"]);
    let (before, after) = kill_learner(&run, 1);
    assert!(after.steps > before.steps && after.version > before.version, "{before:?} {after:?}");
    run.signal(Signal::INT);
    run.end_well();
    let cut = checkpoint(&folder);
    assert_eq!(cut.replay.inserted, cut.counters.env_steps);
}

#[test]
fn a_paused_run_rests_with_another_learner_too() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let mut run = start(&folder, &["--actors", "1"]);
    assert!(lucid(&["pause", folder.to_str().unwrap()]).0);
    let old = run.learner().unwrap();
    kill(old, Signal::KILL);
    wait_for("another learner", || run.learner().is_some_and(|pid| pid != old));
    let rests = |report: &Report| report.phase == shared::metrics::Phase::Paused && !report.actors.is_empty();
    let first = run.reports().take(240).skip(2).find(rests).expect("it rests");
    let later = run.reports().nth(4).unwrap();
    assert!(rests(&later) && later.updates == first.updates);
    assert!(lucid(&["resume", folder.to_str().unwrap()]).0);
    run.make_steps(50);
    run.signal(Signal::INT);
    run.end_well();
}

#[test]
fn a_learner_that_dies_again_and_again_ends_the_run_with_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::start(&dir.path().join("run"), &["-c", "dummy"]);
    run.make_steps(50);
    let all = children(run.pid());
    let (mut last, deadline) = (0, Instant::now() + Duration::from_secs(100));
    while run.ended().is_none() {
        assert!(Instant::now() < deadline);
        if let Some(pid) = run.learner().filter(|pid| *pid != last) {
            kill(pid, Signal::KILL);
            last = pid;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(!run.end().success());
    let text = run.output();
    assert!(text.contains("learner ended") && text.contains("lucid train --run"), "{text}");
    wait_for("the children to end", || all.iter().all(|(pid, _)| !is_alive(*pid)));
}
