//! A checkpoint of the official code becomes a run, trains on, and goes back.

use std::path::Path;

use learner::official;

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
