//! The program of the example, and one whose environment fails, with real processes.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

const OWN: &str = env!("CARGO_BIN_EXE_own_environment");
const FAULTY: &str = env!("CARGO_BIN_EXE_faulty_environment");

/// Run a program to its end: whether it succeeded, and what it printed, without what terminals add to break lines.
fn run(program: &str, args: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(program);
    let output = command.args(args).envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let words = text.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    (output.status.success(), words)
}

/// A short run with tiny networks.
fn train(program: &str, folder: &Path, sets: &[&str]) -> (bool, String) {
    let sets = sets.iter().flat_map(|set| ["--set", *set]);
    let args = ["train", "-c", "dummy", "--steps", "600", "--run", folder.to_str().unwrap()].into_iter().chain(sets);
    run(program, &args.collect::<Vec<_>>(), &[])
}

/// Values of a metric in the order of the run.
fn recorded(folder: &Path, name: &str) -> Vec<f64> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines().filter_map(|line| serde_json::from_str::<Value>(line).unwrap()[name].as_f64()).collect()
}

#[test]
fn it_trains_with_two_actors_and_is_evaluated() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let sets = ["env.task=buoy", "env.time_limit=40", "env.kwargs.current=0.02", "run.train_ratio=1", "actor.count=2"];
    let (ok, text) = train(OWN, &folder, &[&sets[..], &["eval.every=200", "eval.episodes=2"]].concat());
    assert!(ok, "{text}");
    // Progress to the buoy, at most the diagonal, and 1 for arriving.
    let returns = recorded(&folder, "episode/return");
    assert!(!returns.is_empty() && returns.iter().all(|score| (-3.0..2.5).contains(score)), "{returns:?}");
    assert!(!recorded(&folder, "train/loss/buoy").is_empty());
    assert!(!recorded(&folder, "eval/return").is_empty());
    let (ok, text) = run(OWN, &["eval", folder.to_str().unwrap(), "--episodes", "2"], &[]);
    assert!(ok, "{text}");
}

#[test]
fn it_is_listed_checked_and_filmed() {
    let (ok, text) = run(OWN, &["env", "list"], &[]);
    assert!(
        ok && text.contains("buoy action: numbers [2], -1 to 1 boat: numbers [4]; buoy: numbers [2], -1 to 1"),
        "{text}"
    );
    let (ok, text) = run(OWN, &["env", "check", "buoy"], &[]);
    assert!(ok && !text.contains("fault:"), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let film = dir.path().join("buoy.gif");
    let (ok, text) = run(OWN, &["env", "play", "buoy", "--video", film.to_str().unwrap()], &[]);
    assert!(ok && fs::read(&film).unwrap().starts_with(b"GIF89a"), "{text}");
}

#[test]
fn names_and_settings_that_cannot_be_are_refused_before_a_run_starts() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let (ok, text) = train(OWN, &folder, &["env.task=bouy"]);
    assert!(!ok && text.contains("unknown task `bouy`") && text.contains("did you mean `buoy`?"), "{text}");
    assert!(!folder.exists());
    let (ok, text) = run(OWN, &["env", "check", "buoy", "--set", "env.kwargs.current=2.0"], &[]);
    assert!(!ok && text.contains("environment `buoy` failed: a current of 2 is too strong"), "{text}");
    let (ok, text) = run(FAULTY, &["env", "list"], &[("TASK", "catch")]);
    assert!(!ok && text.contains("the task `catch` cannot be added: a task that is built in has this name"), "{text}");
}

#[test]
fn errors_and_panics_of_the_environment_end_the_run_and_name_the_task() {
    for (fault, said) in [("error", "the reactor is too hot"), ("panic", "it panicked: the reactor is on fire")] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run");
        let fault = format!("env.kwargs.fault={fault}");
        let sets = ["env.task=faulty", &fault, "actor.count=1", "actor.max_restarts=1"];
        let (ok, text) = train(FAULTY, &folder, &sets);
        assert!(!ok && text.contains("actor 0 died 2 times"), "{text}");
        assert!(text.contains(&format!("environment `faulty` failed: {said}")), "{text}");
        assert!(!text.contains("bug in Lucid"), "{text}");
    }
    let (ok, text) = run(FAULTY, &["env", "check", "faulty", "--set", "env.kwargs.fault=shape"], &[]);
    assert!(
        !ok && text.contains("environment `faulty` returned `steps` as F32 [2]; its spaces promise F32 [1]"),
        "{text}"
    );
}
