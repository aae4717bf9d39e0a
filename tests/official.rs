//! A checkpoint of the official code becomes a run, trains on, and goes back.

use std::fs;
use std::path::Path;
use std::process::Command;

use learner::official;

use crate::python::python;
use crate::support::{Run, checkpoint, lucid};

const OFFICIAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/official");
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/official/run.toml");

fn import(run: &Path, from: &str, extra: &[&str]) -> (bool, String) {
    lucid(&[&["import", from, "--run", run.to_str().unwrap(), "-c", CONFIG], extra].concat())
}

#[test]
fn an_official_checkpoint_becomes_a_run_that_trains_on_and_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let (ok, text) = import(&folder, OFFICIAL, &[]);
    assert!(
        ok && text.contains("1234 environment steps, 3 updates") && text.contains("replay is not imported"),
        "{text}"
    );
    let before = checkpoint(&folder);
    let (ok, text) = import(&folder, OFFICIAL, &[]);
    assert!(!ok && text.contains("holds a run already"), "{text}");

    // Exported as it came, every array is the official one.
    let exported = dir.path().join("exported");
    let export = |to: &str, out: &Path| lucid(&["export", folder.to_str().unwrap(), "--to", to, out.to_str().unwrap()]);
    let (ok, text) = export("official", &exported);
    assert!(ok, "{text}");
    let (source, back) = (official::read(OFFICIAL.as_ref()).unwrap(), official::read(&exported).unwrap());
    assert_eq!((back.step, back.values), (source.step, source.values));

    Run::start(&folder, &["--actors", "1", "--steps", "1400"]).end_well();
    let after = checkpoint(&folder);
    assert!(after.counters.env_steps >= 1400 && after.counters.updates > 3, "{:?}", after.counters);
    assert!(after.replay.inserted < 1234, "only its own steps: {}", after.replay.inserted);
    assert_ne!(after.agent["params/dyn/dyngru/kernel"], before.agent["params/dyn/dyngru/kernel"]);

    let file = dir.path().join("params.safetensors");
    let (ok, text) = export("safetensors", &file);
    assert!(ok, "{text}");
    let (params, metadata) = shared::params::load(&file).unwrap();
    assert_eq!(params["dyn/dyngru/kernel"], after.agent["params/dyn/dyngru/kernel"]);
    assert_eq!(metadata["updates"], after.counters.updates.to_string());
    let (ok, text) = export("safetensors", &file);
    assert!(!ok && text.contains("is there already"), "{text}");
}

#[test]
fn an_official_replay_comes_along() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, steps) = (dir.path().join("run"), dir.path().join("replay"));
    fs::create_dir(&steps).unwrap();
    // One episode of 40 steps, as the official code writes it.
    let write = "import sys, numpy as np
step, ends = np.arange(40), np.arange(40) == 39
np.savez(sys.argv[1] + '/20260101T000000F0-0a-0b-40.npz', position=np.zeros((40, 3)), velocity=np.zeros((40, 2)),
  action=np.zeros((40, 1)), reward=step.astype(np.float32), is_first=step == 0, is_last=ends, is_terminal=np.zeros(40, bool))";
    let wrote = Command::new(python()).args(["-c", write]).arg(&steps).output().unwrap();
    assert!(wrote.status.success(), "{}", String::from_utf8_lossy(&wrote.stderr));
    let replay = format!("replay.import={}", steps.display());
    let (ok, text) = import(&folder, OFFICIAL, &["--set", &replay, "--set", "replay.import_updates=5"]);
    assert!(ok && text.contains("imported 40 steps in 1 streams") && !text.contains("not imported"), "{text}");
    assert_eq!(checkpoint(&folder).replay.inserted, 40);
    Run::start(&folder, &["--actors", "1", "--steps", "1300"]).end_well();
    let after = checkpoint(&folder);
    assert!(after.counters.updates >= 3 + 5, "{:?}", after.counters);
    assert_eq!(after.replay.inserted, after.counters.env_steps - 1234 + 40);
}

#[test]
fn what_does_not_fit_makes_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let (ok, text) = import(&folder, OFFICIAL, &["-c", "size12m"]);
    assert!(!ok && text.contains("in the checkpoint") && text.contains("deter = 32"), "{text}");
    let (ok, text) = import(&folder, OFFICIAL, &["--set", "vit.weights=dinov2-small"]);
    assert!(!ok && text.contains("vit.weights"), "{text}");
    let (ok, text) = import(&folder, dir.path().to_str().unwrap(), &[]);
    assert!(!ok && text.contains("no checkpoint of the official code"), "{text}");
    assert!(!folder.exists());
}
