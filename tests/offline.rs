//! Runs that start from steps which NumPy has written, as the official code does.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::python::python;
use crate::support::{Run, checkpoint, flat, small_vit, through};

/// Two streams of two chunks of 300 steps each, in episodes of ten steps, for `catch`. The first has `action` as classes, the second one-hot.
const WRITE: &str = "
import sys, numpy as np
folder, fault = sys.argv[1], sys.argv[2:]
random = np.random.default_rng(0)
for stream in range(2):
    for chunk in range(2):
        step = np.arange(300) % 10
        action = random.integers(0, 3, 300)
        steps = {
            'vector': random.integers(0, 2, (300, 50)).astype(np.float64),
            'image': random.integers(0, 256, (300, 56, 56, 3)).astype(np.uint8),
            'reward': (step == 9).astype(np.float32),
            'is_first': step == 0,
            'is_last': step == 9,
            'is_terminal': (step == 9).astype(np.uint8),
            'action': action if stream == 0 else np.eye(3, dtype=np.float32)[action],
            'dyn/deter': np.ones((300, 512), np.float32),
            'log/lives': np.ones(300),
            'depth': np.ones(300),
        }
        if fault and (stream, chunk) == (1, 1):
            steps['reward'][7] = np.nan
        names = [f'{stream}uuid{i}' for i in (chunk, chunk + 1)]
        np.savez_compressed(f'{folder}/2026010{chunk}T000000F{stream}-{names[0]}-{names[1]}-300.npz', **steps)
";

fn write(folder: &Path, fault: &[&str]) {
    fs::create_dir(folder).unwrap();
    let output = Command::new(python()).args(["-c", WRITE]).arg(folder).args(fault).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Start a run on a folder of steps.
fn start(run: &Path, folder: &Path, args: &[&str], sets: &[&str]) -> Run {
    let import = format!("replay.import={}", folder.display());
    let sets = [&[import.as_str()], sets].concat();
    let args = args.iter().copied().chain(sets.into_iter().flat_map(|set| ["--set", set]));
    Run::start(run, &args.collect::<Vec<_>>())
}

#[test]
fn imported_steps_are_trained_on_and_are_none_of_the_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, run) = (dir.path().join("steps"), dir.path().join("run"));
    write(&folder, &[]);
    let sets = ["env.task=catch", "env.observe=vector", "run.train_ratio=1", "replay.import_updates=60"];
    let mut first = start(&run, &folder, &["-c", "dummy", "--steps", "200"], &sets);
    first.end_well();
    let text = first.output();
    assert!(text.contains("imported 1200 steps in 2 streams from"), "{text}");
    assert!(text.contains("no use for these arrays, ignored: depth, image"), "{text}");
    let cut = checkpoint(&run);
    let (steps, updates) = (cut.counters.env_steps, cut.counters.updates);
    assert_eq!(cut.replay.inserted, steps + 1200);
    assert!((200..1000).contains(&steps), "{steps}");
    // An update takes 4 x 8 steps. Either side may be four of them ahead, and what was under way at the end (two actors with four chunks of
    // 16 steps) makes no update any more.
    let (least, most) = (60 + 200 / 32 - 9, 60 + steps / 32 + 5);
    assert!((least..=most).contains(&updates), "{updates} updates, due were {least} to {most}");

    // Gone on with, the folder is not even looked at.
    fs::remove_dir_all(&folder).unwrap();
    let mut second = Run::start(&run, &["--steps", "400"]);
    second.end_well();
    assert!(!second.output().contains("imported"));
    let cut = checkpoint(&run);
    assert!(cut.counters.env_steps >= 400);
    assert_eq!(cut.replay.inserted, cut.counters.env_steps + 1200);
}

#[test]
fn imported_frames_are_seen_through_the_frozen_vit() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, run) = (dir.path().join("steps"), dir.path().join("run"));
    write(&folder, &[]);
    let weights = small_vit(dir.path());
    let args = through(weights.to_str().unwrap());
    // So many that the updates on what was imported are made: the actors get no further ahead of the learner.
    let args = [&["--steps", "400"], &args.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat();
    start(&run, &folder, &args, &["replay.import_updates=3"]).end_well();
    let cut = checkpoint(&run);
    assert!(cut.counters.updates >= 3);
    let imported = cut.replay.streams.iter().filter(|stream| stream.id.actor == u32::MAX);
    let files = imported.flat_map(|stream| &stream.blocks).flat_map(|block| &block.parts).map(|part| &part.file);
    let mut features = 0;
    for file in files {
        let bytes = fs::read(run.join("replay").join(file)).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert!(tensors.tensor("image").is_err(), "frames are not recorded");
        let Ok(seen) = tensors.tensor("vit/image") else { continue };
        assert!(seen.data().iter().any(|byte| *byte != 0));
        features += seen.shape()[0];
    }
    assert_eq!(features, 1200);
}

/// Episodes as Minari gives them, for `gymnasium:CartPole-v1`; the library itself is not needed.
const MINARI: &str = "
import pathlib, sys, types, numpy as np
from gymnasium import spaces
sys.path.insert(0, sys.argv[2])
import from_minari
dataset = types.SimpleNamespace(observation_space=spaces.Box(-np.inf, np.inf, (4,), np.float32), action_space=spaces.Discrete(2))
for number in range(4):
    episode = types.SimpleNamespace(
        observations=np.ones((21, 4), np.float32), actions=np.arange(20) % 2, rewards=np.ones(20), terminations=np.arange(20) == 19)
    np.savez(pathlib.Path(sys.argv[1]) / f'{number}.npz', **from_minari.steps(dataset, episode))
";

#[test]
fn episodes_of_minari_are_imported() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, run) = (dir.path().join("steps"), dir.path().join("run"));
    fs::create_dir(&folder).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/offline_data");
    let output = Command::new(python()).args(["-c", MINARI]).arg(&folder).arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let python = format!("env.python={}", python());
    let sets = ["env.task=gymnasium:CartPole-v1", &python, "run.train_ratio=1", "replay.import_updates=5"];
    let mut run = start(&run, &folder, &["-c", "dummy", "--steps", "60"], &sets);
    run.end_well();
    let text = run.output();
    assert!(text.contains("imported 84 steps in 1 streams") && !text.contains("count as cut"), "{text}");
    assert!(checkpoint(&run.dir).counters.updates >= 5);
}

#[test]
fn a_folder_that_does_not_fit_ends_the_run_before_anything_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, run) = (dir.path().join("steps"), dir.path().join("run"));
    write(&folder, &["nan"]);
    let sets = ["env.task=catch", "env.observe=vector"];
    let mut failed = start(&run, &folder, &["-c", "dummy", "--steps", "200"], &sets);
    assert!(!failed.end().success());
    let text = flat(&failed.output());
    assert!(
        text.contains("20260101T000000F1-1uuid1-1uuid2-300.npz") && text.contains("`reward`atstep7isNaN"),
        "{text}"
    );
    assert!(fs::read_dir(run.join("checkpoints")).map_or(0, Iterator::count) == 0);
    // Other options do not fit either.
    let mut failed =
        start(&dir.path().join("other"), &folder, &["-c", "dummy"], &["env.task=catch", "env.size=[64,64]"]);
    assert!(!failed.end().success());
    let text = flat(&failed.output());
    assert!(text.contains("`image`hastheshape[300,56,56,3],musthave[300,64,64,3]"), "{text}");
}
