//! Evaluations beside training, and on command.

use std::fs;
use std::path::Path;

use learner::control::{Client, Request};
use learner::evaluation::{FILE, Record, Source};
use rustix::process::Signal;
use shared::metrics::Report;

use crate::support::{Run, checkpoint, children, kill, lucid, wait_for};

/// Options of a small run that evaluates.
fn evaluating(every: u64, episodes: usize, more: &[&str]) -> Vec<String> {
    let own = [format!("eval.every={every}"), format!("eval.episodes={episodes}")];
    let sets = ["run.train_ratio=1", "eval.envs=2"].into_iter();
    let sets = sets.chain(own.iter().map(String::as_str)).chain(more.iter().copied());
    let sets = sets.flat_map(|set| ["--set".to_string(), set.to_string()]);
    ["-c", "dummy"].map(String::from).into_iter().chain(sets).collect()
}

fn start(dir: &Path, args: &[String], more: &[&str]) -> Run {
    Run::start(dir, &args.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
}

/// Evaluations so far, oldest first.
fn records(dir: &Path) -> Vec<Record> {
    let text = fs::read_to_string(dir.join(FILE)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn wait_for_records(dir: &Path, count: usize) -> Vec<Record> {
    wait_for("evaluations", || records(dir).len() >= count);
    records(dir)
}

/// Process of the evaluation actor, while it runs.
fn evaluator(run: &Run) -> Option<u32> {
    let is_it = |args: &[String]| args.iter().any(|arg| arg == "evaluator");
    children(run.pid()).into_iter().find(|(_, args)| is_it(args)).map(|(pid, _)| pid)
}

#[test]
fn a_run_evaluates_newer_and_newer_versions_and_nothing_of_it_is_training() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let mut run = start(&folder, &evaluating(200, 3, &["eval.video=true", "actor.envs=2"]), &["--actors", "2"]);
    let found = wait_for_records(&folder, 4);
    let report = run.report(|report| report.evaluation.as_ref().is_some_and(|e| e.last.is_some()));
    assert_eq!(report.actors.len(), 2, "the evaluation actor is none of those that are counted");
    let (ok, text) = lucid(&["watch", folder.to_str().unwrap(), "--once"]);
    assert!(ok && text.contains("over 3 episodes"), "{text}");
    run.signal(Signal::INT);
    run.end_well();

    assert!(found.windows(2).all(|pair| pair[0].version < pair[1].version && pair[0].step < pair[1].step));
    for record in &found {
        assert_eq!((record.source, record.episodes, record.returns.len()), (Source::Training, 3, 3));
        assert_eq!(record.lengths, [101; 3], "episodes of the task, whole");
    }
    let cut = checkpoint(&folder);
    let kept: u64 = cut.replay.streams.iter().map(|s| s.next).sum();
    assert_eq!(kept, cut.counters.env_steps, "what is counted is what was sent");
    assert!(cut.replay.streams.iter().all(|stream| stream.id.actor < 2), "no other actor has sent anything");
    assert_eq!(cut.counters.generations.keys().copied().collect::<Vec<_>>(), [0, 1]);
    assert!(!run.output().contains("arrived"), "{}", run.output());

    let metrics = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let told: Vec<serde_json::Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = told.iter().find(|record| !record["eval/return"].is_null()).expect("metrics tell of evaluations");
    assert_eq!(first["eval/episodes"], 3.0);
    let film = folder.join(format!("media/eval-0-{:012}.gif", found[0].step));
    assert!(fs::read(&film).unwrap().starts_with(b"GIF89a"));
}

#[test]
fn a_killed_evaluation_actor_is_back_and_training_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    // Long evaluations, so that one goes on when its actor dies.
    let args = evaluating(100, 200, &["env.task=dummy_sleep"]);
    let mut run = start(&folder, &args, &["--actors", "1"]);
    let plays = |r: &Report| r.evaluation.as_ref().is_some_and(|e| e.running.is_some_and(|now| now.played > 0));
    let first = run.report(|r| r.updates > 0 && plays(r));
    let broken = first.evaluation.unwrap().running.unwrap().version;
    let pid = evaluator(&run).unwrap();
    kill(pid, Signal::KILL);
    run.make_steps(200);
    let again = run.report(|r| {
        let evaluation = r.evaluation.as_ref().unwrap();
        evaluation.restarts == 1 && evaluation.running.is_some_and(|now| now.version > broken)
    });
    assert!(again.evaluation.unwrap().pid != pid);
    assert!(run.output().contains(&format!("the evaluation of version {broken} was cut off")), "{}", run.output());
    // Paused, it rests like everybody else; the run does not wait for it at its end.
    Client::connect(&folder).unwrap().ask(&Request::Pause).unwrap();
    Client::connect(&folder).unwrap().ask(&Request::Stop).unwrap();
    run.end_well();
    assert!(run.output().contains("as the run ends"), "{}", run.output());
    assert!(records(&folder).is_empty(), "what was cut off does not count");
}

#[test]
fn an_evaluation_actor_that_keeps_dying_ends_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let args = evaluating(100, 200, &["env.task=dummy_sleep", "actor.max_restarts=1"]);
    let mut run = start(&folder, &args, &["--actors", "1"]);
    let mut killed = None;
    for _ in 0..2 {
        wait_for("an evaluation actor", || evaluator(&run).is_some_and(|pid| Some(pid) != killed));
        killed = evaluator(&run);
        kill(killed.unwrap(), Signal::KILL);
    }
    wait_for("the warning", || run.output().contains("no more evaluations"));
    run.make_steps(200);
    assert_eq!(evaluator(&run), None);
    run.signal(Signal::INT);
    run.end_well();
}

#[test]
fn in_lockstep_training_is_the_same_with_and_without_evaluations() {
    let dir = tempfile::tempdir().unwrap();
    let end = |name: &str, every: u64| {
        let folder = dir.path().join(name);
        let args = evaluating(every, 3, &["sync.mode=lockstep"]);
        let mut run = start(&folder, &args, &["--actors", "1", "--steps", "500"]);
        run.end_well();
        (checkpoint(&folder), records(&folder).len())
    };
    let ((with, evaluated), (without, none)) = (end("with", 50), end("without", 0));
    assert!(evaluated > 0 && none == 0);
    assert_eq!(with.agent, without.agent);
    assert_eq!(
        (with.counters.env_steps, with.counters.updates),
        (without.counters.env_steps, without.counters.updates)
    );
    assert_eq!(with.counters.episodes, without.counters.episodes);
}

#[test]
fn the_command_plays_samples_or_modes_films_them_and_says_what_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let sets = ["env.task=catch", "env.observe=vector"].iter().flat_map(|set| ["--set", set]);
    let args: Vec<&str> = ["-c", "dummy", "--steps", "100"].into_iter().chain(sets).collect();
    Run::start(&folder, &args).end_well();
    let (run, film) = (folder.to_str().unwrap(), dir.path().join("film.gif"));
    let eval = |more: &[&str]| lucid(&[&["eval", run, "--episodes", "5"], more].concat());
    let (ok, text) = eval(&["--actions", "mode", "--json", "--video", film.to_str().unwrap()]);
    let printed: Record = serde_json::from_str(text.trim()).unwrap();
    assert!(ok && printed.episodes == 5 && printed.lengths == [10; 5], "{text}");
    assert_eq!((printed.source, printed.version), (Source::Command, checkpoint(&folder).counters.version));
    assert!(fs::read(&film).unwrap().starts_with(b"GIF89a"));
    assert!(eval(&[]).0 && eval(&["--actions", "mode"]).0);
    let found = records(&folder);
    assert_eq!(found[0], printed);
    assert_eq!(found[2].returns, printed.returns, "the same seed, policy and choice play the same");
    assert!(!eval(&["--actions", "best"]).0 && !eval(&["--episodes", "0"]).0);

    let maze = dir.path().join("maze");
    Run::start(&maze, &["-c", "dummy", "--steps", "50", "--set", "env.task=tmaze", "--set", "env.observe=vector"])
        .end_well();
    let (ok, text) = lucid(&["eval", maze.to_str().unwrap(), "--video", film.to_str().unwrap()]);
    assert!(!ok && text.contains("draws no pictures"), "{text}");
}

#[test]
fn a_stuck_evaluation_actor_is_named_ended_and_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let timeouts = ["env.timeout=1", "sync.silence_timeout=2"];
    let mut run = start(&folder, &evaluating(50, 3, &timeouts), &["--actors", "1"]);
    wait_for_records(&folder, 1);
    // Stopped until it is to evaluate, and then too.
    let stuck = evaluator(&run).expect("the evaluation actor runs");
    kill(stuck, Signal::STOP);
    wait_for("another process", || evaluator(&run).is_some_and(|pid| pid != stuck));
    let before = records(&folder).len();
    wait_for_records(&folder, before + 1);
    run.signal(Signal::INT);
    run.end_well();
    assert!(run.output().contains("has said nothing for"), "{}", run.output());
}
