//! Bad input: a clear error each, an exit code that is not 0, nothing lost.

use std::fs;

use shared::array::Array;
use shared::params::{Tree, load, save};

use crate::support::{Run, checkpoint, flat, lucid};

#[test]
fn an_unknown_key_names_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let (ok, text) = lucid(&["train", "-c", "dummy", "--set", "run.train_ratoi=3", "--run", run.to_str().unwrap()]);
    assert!(!ok && text.contains("run.train_ratoi") && text.contains("train_ratio"), "{text}");
    assert!(!run.exists());
}

#[test]
fn a_wrong_type_and_an_unknown_task_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let train = |set: &str| lucid(&["train", "-c", "dummy", "--set", set, "--run", run.to_str().unwrap()]);
    let (ok, text) = train("run.seed=many");
    assert!(!ok && text.contains("run.seed"), "{text}");
    let (ok, text) = train("env.task=pong");
    assert!(!ok && text.contains("pong") && text.contains("catch"), "{text}");
}

#[test]
fn missing_and_truncated_weights_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vit.safetensors");
    let train = |run: &str| {
        let set = format!("vit.weights={}", file.display());
        let run = dir.path().join(run);
        lucid(&["train", "-c", "quickstart", "--set", &set, "--run", run.to_str().unwrap()])
    };
    let (ok, text) = train("a");
    assert!(!ok && text.contains("vit.safetensors"), "{text}");
    let whole = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parity/vit/hf_dinov2.safetensors");
    let bytes = fs::read(whole).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let (ok, text) = train("b");
    assert!(!ok && text.contains("vit.safetensors"), "{text}");
}

#[test]
fn weights_of_another_depth_or_width_are_refused_with_both_shapes() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, file) = (dir.path().join("run"), dir.path().join("vit.safetensors"));
    let whole = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parity/vit/hf_dinov2.safetensors");
    fs::copy(whole, &file).unwrap();
    fs::copy(whole.replace(".safetensors", "_config/config.json"), dir.path().join("config.json")).unwrap();
    let sets = [format!("vit.weights={}", file.display()), "vit.decode=features".into(), "vit.calibration=32".into()];
    let mut args = vec!["-c", "dummy", "--steps", "100"];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    Run::start(&folder, &args).end_well();
    let before = checkpoint(&folder).counters;

    let refused = |change: &dyn Fn(&str, Array) -> Option<Array>, expected: &[&str]| {
        let (tree, metadata) = load(whole.as_ref()).unwrap();
        let tree: Tree = tree.into_iter().filter_map(|(k, a)| Some((k.clone(), change(&k, a)?))).collect();
        save(&file, &tree, &metadata).unwrap();
        let (ok, text) = lucid(&["train", "--run", folder.to_str().unwrap(), "--steps", "200"]);
        let flat: String = text.split_whitespace().collect();
        assert!(!ok && expected.iter().all(|part| flat.contains(part)), "{text}");
        assert_eq!(checkpoint(&folder).counters, before);
    };
    refused(&|key, array| (!key.contains("layer.1.")).then_some(array), &["blocks/1/", "vit.safetensors"]);
    // Half of every hidden layer.
    let narrow = |key: &str, array: Array| match key {
        _ if key.contains("mlp.fc1") => Some(Array::zeros(array.dtype, &halved(&array.shape, 0))),
        _ if key.contains("mlp.fc2.weight") => Some(Array::zeros(array.dtype, &halved(&array.shape, 1))),
        _ => Some(array),
    };
    refused(&narrow, &["blocks/0/mlp/fc1/kernel", "[32,64]", "[32,128]"]);
}

fn halved(shape: &[usize], axis: usize) -> Vec<usize> {
    shape.iter().enumerate().map(|(i, n)| if i == axis { n / 2 } else { *n }).collect()
}

#[test]
fn a_freeze_pattern_that_matches_nothing_lists_what_exists() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let set = "run.freeze=[\"^encoder/\"]";
    let (ok, text) = lucid(&["train", "-c", "dummy", "--set", set, "--run", run.to_str().unwrap()]);
    assert!(!ok && text.contains("^encoder/") && text.contains("dyn/dyngru") && text.contains("enc/"), "{text}");
}

#[test]
fn a_lag_limit_that_would_stop_both_sides_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let sets = ["--set", "sync.publish_every=4", "--set", "sync.max_lag_updates=3"];
    let (ok, text) = lucid(&[&["train", "-c", "dummy", "--run", run.to_str().unwrap()], &sets[..]].concat());
    assert!(!ok && text.contains("sync.max_lag_updates") && text.contains("sync.publish_every"), "{text}");
}

#[test]
fn three_updates_that_are_not_finite_end_a_run_and_keep_their_batches() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    // Finite as a config, infinite as a float32 loss.
    let mut run = Run::start(&folder, &["-c", "dummy", "--set", "agent.loss_scales.rec=1e300"]);
    assert!(!run.end().success());
    let text = run.output();
    let flat: String = text.split_whitespace().collect();
    assert!(flat.contains("3updatesinarowwerenotfinite") && flat.contains("nonfinite"), "{text}");
    assert!(flat.contains("first:loss`image`"), "{text}");
    let batches: Vec<_> = fs::read_dir(folder.join("nonfinite")).unwrap().flatten().map(|e| e.path()).collect();
    assert_eq!(batches.len(), 3);
    for batch in batches {
        let (columns, metadata) = load(&batch).unwrap();
        assert!(columns.contains_key("reward") && metadata.contains_key("not_finite"), "{metadata:?}");
    }
}

#[test]
fn a_run_whose_steps_overflow_ends_with_the_last_good_checkpoint_as_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let path = folder.to_str().unwrap();
    Run::start(&folder, &["-c", "dummy", "--set", "run.train_ratio=1", "--steps", "300"]).end_well();
    let before = checkpoint(&folder);
    assert!(before.counters.updates > 0);
    // Options that a resumed run may not change, changed by hand where they are kept.
    let file = folder.join("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("\nagc = ", "\nagc = 0.0 # ", 1).replacen("\nrew = ", "\nrew = 1e25 # ", 1))
        .unwrap();
    let (ok, text) = lucid(&["train", "--run", path, "--steps", "600"]);
    let flat = flat(&text);
    assert!(
        !ok && flat.contains("3updatesinarowwerenotfinite") && flat.contains("first:thenextvalueofparameter`"),
        "{text}"
    );
    let after = checkpoint(&folder);
    assert_eq!(after.counters, before.counters);
    assert!(after.agent.values().all(|array| array.first_non_finite().is_none()));
}

#[test]
fn a_run_folder_in_use_names_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let run = Run::start(&folder, &["-c", "dummy"]);
    run.make_steps(1);
    let (ok, text) = lucid(&["train", "--run", folder.to_str().unwrap()]);
    assert!(!ok && text.contains(&run.pid().to_string()) && text.contains("in use"), "{text}");
}

#[test]
fn another_config_on_a_run_folder_is_refused_and_a_cut_replay_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let path = folder.to_str().unwrap();
    Run::start(&folder, &["-c", "dummy", "--set", "run.train_ratio=1", "--steps", "200"]).end_well();
    let (ok, text) = lucid(&["train", "--run", path, "--set", "agent.batch_size=5"]);
    assert!(!ok && text.contains("agent.batch_size"), "{text}");

    let before = checkpoint(&folder);
    let name = before.replay.files().next().unwrap().to_string();
    let file = folder.join("replay").join(&name);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let (ok, text) = lucid(&["train", "--run", path, "--steps", "300"]);
    // The terminal may wrap the name.
    let flat: String = text.split_whitespace().collect();
    assert!(!ok && flat.contains("--drop-damaged-replay"), "{text}");
    assert_eq!(checkpoint(&folder).counters, before.counters);
    Run::start(&folder, &["--steps", "300", "--drop-damaged-replay"]).end_well();
    assert!(checkpoint(&folder).counters.env_steps >= 300);
}
