//! Runs on environments of Gymnasium.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::python::python;
use crate::support::{Run, checkpoint, children, flat, is_alive, kill, wait_for};

/// Arguments of a run on a task.
fn args(task: &str, sets: &[&str], more: &[&str]) -> Vec<String> {
    let own = [format!("env.task=gymnasium:{task}"), format!("env.python={}", python()), "run.train_ratio=1".into()];
    let sets = own.into_iter().chain(sets.iter().map(ToString::to_string));
    let sets = sets.flat_map(|set| ["--set".to_string(), set]);
    more.iter().map(ToString::to_string).chain(sets).collect()
}

fn start(folder: &Path, args: &[String]) -> Run {
    Run::start(folder, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    (dir, folder)
}

/// Values of a metric in the order of the run.
fn recorded(folder: &Path, name: &str) -> Vec<f64> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    // The last line may be half written.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.filter_map(|line| serde_json::from_str::<Value>(line).unwrap()[name].as_f64()).collect()
}

/// Processes of an actor's environments.
fn environments(actor: u32) -> Vec<u32> {
    children(actor).into_iter().map(|(pid, _)| pid).collect()
}

#[test]
fn two_actors_play_cartpole() {
    let (_dir, folder) = folder();
    let args = args("CartPole-v1", &["actor.envs=2"], &["-c", "dummy", "--actors", "2", "--steps", "400"]);
    start(&folder, &args).end_well();
    assert!(checkpoint(&folder).counters.env_steps >= 400);
    let returns = recorded(&folder, "episode/return");
    assert!(!returns.is_empty() && returns.iter().all(|&score| (5.0..=500.0).contains(&score)), "{returns:?}");
    assert!(!recorded(&folder, "train/loss/dyn").is_empty());
}

#[test]
fn images_and_vectors_together_train_with_the_default_config() {
    let (_dir, folder) = folder();
    // Untrained weights of the default ViT: none are fetched.
    let sets =
        ["vit.features=random", "vit.calibration=64", "agent.report=false", "log.every=0.5", "env.kwargs.gray=true"];
    let mut run = start(&folder, &args("lucid_test_envs:Mixed-v0", &sets, &[]));
    wait_for("a loss", || folder.join("metrics.jsonl").exists() && !recorded(&folder, "train/loss/dyn").is_empty());
    run.signal(Signal::INT);
    run.end_well();
    for key in ["vit.camera/left", "vit.camera/gray", "deep", "state/1", "bits"] {
        let name = format!("train/loss/{}", key.replace("vit.", "vit/"));
        assert!(!recorded(&folder, &name).is_empty(), "{name}");
    }
}

#[test]
fn an_environment_of_your_own_trains() {
    let (_dir, folder) = folder();
    start(&folder, &args("my_module:Guess-v0", &[], &["-c", "dummy", "--steps", "300"])).end_well();
    let returns = recorded(&folder, "episode/return");
    assert!(!returns.is_empty() && returns.iter().all(|score| (0.0..=10.0).contains(score)), "{returns:?}");
}

#[test]
fn a_killed_environment_is_started_again_and_none_outlives_its_actor() {
    let (_dir, folder) = folder();
    let mut run = start(&folder, &args("CartPole-v1", &["actor.envs=3"], &["-c", "dummy", "--actors", "1"]));
    run.make_steps(50);
    let actor = run.actor(0).unwrap();
    let before = environments(actor);
    assert_eq!(before.len(), 3);
    kill(before[0], Signal::KILL);
    wait_for("another process", || {
        let now = environments(actor);
        now.len() == 3 && !now.contains(&before[0])
    });
    run.make_steps(100);
    assert_eq!(run.actor(0), Some(actor), "the actor goes on");
    let log = fs::read_to_string(folder.join("logs/actor-0.log")).unwrap();
    assert!(log.contains("signal: 9") && log.contains("its episode is cut"), "{log}");

    let left = environments(actor);
    kill(left[0], Signal::STOP);
    kill(actor, Signal::KILL);
    wait_for("the environments to end", || left.iter().all(|pid| !is_alive(*pid)));
    run.make_steps(50);
    run.signal(Signal::INT);
    run.end_well();
}

#[test]
fn with_one_that_hangs_a_run_goes_on_tells_of_it_and_ends_in_order() {
    let (dir, folder) = folder();
    let kwargs = format!("env.kwargs.folder={}", dir.path().display());
    let sets = ["actor.envs=3", "actor.wait_for=1", "actor.chunk=4", "env.timeout=1e6", &kwargs];
    let mut run = start(&folder, &args("lucid_test_envs:Held-v0", &sets, &["-c", "dummy", "--actors", "1"]));
    run.make_steps(300);
    wait_for("a record", || recorded(&folder, "acting/slowest").contains(&0.0));
    let left = environments(run.actor(0).unwrap());
    assert_eq!(left.len(), 3);
    run.signal(Signal::INT);
    run.end_well();
    assert!(left.iter().all(|pid| !is_alive(*pid)));
    assert!(!run.output().contains("arrived"), "{}", run.output());
    let cut = checkpoint(&folder);
    let mut steps: Vec<u64> = cut.replay.streams.iter().map(|stream| stream.next).collect();
    assert_eq!(steps.iter().sum::<u64>(), cut.counters.env_steps);
    steps.sort_unstable();
    assert!(steps[0] == 3 && steps[1] > 50, "{steps:?}");
    let rows = recorded(&folder, "acting/rows");
    assert!(rows.iter().all(|rows| (1.0..=3.0).contains(rows)), "{rows:?}");
    assert!(!recorded(&folder, "lag/flight/max").is_empty() && !recorded(&folder, "acting/ready_ms/median").is_empty());
}

#[test]
fn an_environment_that_always_fails_ends_the_run_with_its_traceback() {
    let (_dir, folder) = folder();
    let sets = ["env.max_restarts=1", "env.kwargs={phase=\"step\", fault=\"raise\"}"];
    let mut run = start(&folder, &args("lucid_test_envs:Faulty-v0", &sets, &["-c", "dummy"]));
    assert!(!run.end().success());
    let text = run.output();
    assert!(flat(&text).contains("thereactoristoohot") && flat(&text).contains("gaveup"), "{text}");
}
