//! Runs that go well.

use std::path::Path;

use learner::vit::{Hints, load};
use rustix::process::Signal;

use crate::pty::OnTerminal;
use crate::support::{Run, checkpoint, lucid, small_vit, through, versions};

fn runs_and_ends(actors: usize) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let actors_text = actors.to_string();
    let args = ["-c", "dummy", "--set", "run.train_ratio=1", "--actors", &actors_text, "--steps", "600"];
    let mut run = Run::start(&folder, &args);
    run.end_well();
    let cut = checkpoint(&folder);
    assert!(cut.counters.env_steps >= 600 && cut.counters.updates > 0, "{:?}", cut.counters);
    assert_eq!(cut.counters.generations.len(), actors);
    let versions = versions(&folder, &cut);
    assert!(versions.len() <= actors && !versions.is_empty());
    for (stream, versions) in versions {
        assert!(versions[0] > 0 && versions.is_sorted(), "{stream:?}: {versions:?}");
        assert!(*versions.last().unwrap() <= cut.counters.version);
    }
    assert!(!run.output().contains("starting it again"), "an actor that ends in order is not missed: {}", run.output());
    assert!(run.steps() >= 600, "metrics.jsonl tells where the run ended");
}

#[test]
fn one_actor() {
    runs_and_ends(1);
}

#[test]
fn four_actors() {
    runs_and_ends(4);
}

#[test]
fn sixteen_actors() {
    runs_and_ends(16);
}

#[test]
fn two_runs_in_lockstep_give_the_same_numbers_with_and_without_reports() {
    let dir = tempfile::tempdir().unwrap();
    let start = |name: &str, reports: &[&str]| {
        let folder = dir.path().join(name);
        let sets = ["--set", "sync.mode=lockstep", "--set", "log.updates=1", "--set", "actor.envs=2"];
        let run = ["-c", "dummy", "--actors", "1", "--set", "agent.consec_train=2", "--steps", "400"];
        Run::start(&folder, &[&run[..], &sets, reports].concat()).end_well();
        let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        (folder, text.lines().map(steady).collect::<Vec<_>>())
    };
    let (first, first_numbers) = start("first", &["--set", "log.report_every=0"]);
    let (second, second_numbers) =
        start("second", &["--set", "log.report_every=1e-9", "--set", "agent.report_gradnorms=true"]);
    assert!(first_numbers.len() > 20 && first_numbers.iter().any(|record| record.contains_key("train/loss/dyn")));
    assert!(first_numbers.iter().any(|record| record.contains_key("episode/return")));
    assert_eq!(first_numbers, second_numbers);
    assert_eq!(checkpoint(&first).agent, checkpoint(&second).agent);
    assert!(!first.join("media").exists() && second.join("media").exists());

    let [picture, data] = ["plot.png", "plot.csv"].map(|name| dir.path().join(name).display().to_string());
    let runs = [first.to_str().unwrap(), second.to_str().unwrap()];
    let (ok, text) = lucid(&[&["plot"], &runs[..], &["--out", &picture, "--data", &data]].concat());
    assert!(ok && text.contains("first: episode/return"), "{text}");
    let rows = std::fs::read_to_string(&data).unwrap();
    let of = |run: &str| rows.lines().filter_map(|row| row.strip_prefix(run)).map(String::from).collect::<Vec<_>>();
    assert!(!of("first,").is_empty() && of("first,") == of("second,"), "{rows}");
}

/// A record without what depends on time.
fn steady(line: &str) -> serde_json::Map<String, serde_json::Value> {
    let record: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
    let steady = ["train/", "episode/", "replay/", "staleness/", "env/steps", "learner/updates", "learner/skipped"];
    let kept = |key: &String| steady.iter().any(|part| key.starts_with(part)) && !key.ends_with("_per_s");
    record.into_iter().filter(|(key, _)| kept(key)).collect()
}

#[test]
fn an_interrupted_run_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let mut run = Run::start(&folder, &["-c", "dummy"]);
    run.make_steps(200);
    run.signal(Signal::INT);
    run.end_well();
    let before = checkpoint(&folder);
    assert!(before.counters.updates > 0);

    // A resumed run that is at its end already saves what it loaded.
    let steps = before.counters.env_steps.to_string();
    Run::start(&folder, &["--steps", &steps]).end_well();
    let same = checkpoint(&folder);
    assert_eq!(same.agent, before.agent);
    assert_eq!((same.limiter, &same.pending), (before.limiter, &before.pending));
    assert_eq!(same.counters.env_steps, before.counters.env_steps);
    assert_eq!(same.counters.updates, before.counters.updates);
    assert_eq!(same.counters.episodes, before.counters.episodes);
    assert_eq!(same.replay.items, before.replay.items);

    let more = (before.counters.env_steps + 100).to_string();
    Run::start(&folder, &["--steps", &more]).end_well();
    let after = checkpoint(&folder);
    assert!(after.counters.env_steps >= before.counters.env_steps + 100);
    assert!(after.counters.updates > before.counters.updates);
    assert!(after.counters.generations.values().all(|generation| *generation > 0));

    let (ok, text) = lucid(&["eval", folder.to_str().unwrap(), "--episodes", "3"]);
    assert!(ok && text.contains("3 episodes at"), "{text}");
    assert!(std::fs::read_to_string(folder.join("eval.jsonl")).unwrap().contains("\"mean\""));
    let (ok, text) = lucid(&["params", folder.to_str().unwrap(), "^dyn/"]);
    assert!(ok && text.contains("dyn/") && !text.contains("\nenc/") && text.contains("trainable"), "{text}");
}

#[test]
fn ctrl_c_on_a_terminal_is_not_drawn_into_the_block() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let args = ["train", "-c", "dummy", "--actors", "1", "--run", run.to_str().unwrap()];
    let mut training = OnTerminal::start(env!("CARGO_BIN_EXE_lucid"), &args, &[]);
    training.wait_for("  acts");
    training.press("\x03");
    let (status, written) = training.give_back();
    assert!(status.success(), "{written:?}");
    assert!(written.contains("ended in order (interrupted)") && !written.contains("^C"), "{written:?}");
}

#[test]
fn a_run_that_trains_the_last_block_of_a_vit_keeps_what_is_frozen_and_resumes_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let weights = dir.path().join("vit.safetensors");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parity/vit/hf_dinov2");
    std::fs::copy(format!("{source}.safetensors"), &weights).unwrap();
    std::fs::copy(format!("{source}_config/config.json"), dir.path().join("config.json")).unwrap();
    let sets = [
        format!("vit.weights={}", weights.display()),
        "vit.trainable_blocks=1".into(),
        "vit.decode=features".into(),
        "vit.reduce=4".into(),
        "vit.calibration=64".into(),
        "env.task=catch".into(),
        "env.observe=pixels".into(),
        "env.size=[32, 32]".into(),
        "run.train_ratio=8".into(),
        "run.freeze=[\"enc/vit/.*norm1.*\"]".into(),
        "agent.opt.lr=1e-3".into(),
        "agent.opt.warmup=1".into(),
    ];
    let mut args = vec!["-c", "dummy", "--steps", "300"];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    let mut started = Run::start(&folder, &args);
    started.end_well();
    assert!(started.output().contains("trains from block 1 to 1 of 0 to 1"), "{}", started.output());
    let cut = checkpoint(&folder);
    let newest = versions(&folder, &cut).into_values().flatten().max();
    assert!(newest > Some(1), "actors act with blocks that have trained: version {newest:?}");
    let recorded = cut.replay.columns.iter().find(|column| column.key == "vit/image").unwrap();
    assert_eq!(recorded.shape, [17, 32], "actors record a class token and 4 x 4 patches");

    let media = std::fs::read_dir(folder.join("media")).unwrap().map(|entry| entry.unwrap().file_name());
    let maps: Vec<String> = media.map(|name| name.into_string().unwrap()).collect();
    assert!(maps.len() == 1 && maps[0].starts_with("openloop-vit.image-") && maps[0].ends_with(".png"), "{maps:?}");

    let loaded = load(&weights, &Hints::default()).unwrap().tensors;
    assert!(!cut.agent.keys().any(|key| key.starts_with("params/enc/vit/blocks/0/")));
    let (mut same, mut changed) = (0, 0);
    for (path, (_, pretrained)) in loaded.iter().filter(|(path, _)| path.starts_with("blocks/1/")) {
        match cut.agent[&format!("params/enc/vit/{path}")].to_f32() == *pretrained {
            true => same += 1,
            false => changed += 1,
        }
    }
    assert_eq!((same, changed), (2, loaded.keys().filter(|path| path.starts_with("blocks/1/")).count() - 2));

    // Resumed at its end, it saves what it loaded; and what it loaded can be played with and told.
    let steps = cut.counters.env_steps.to_string();
    Run::start(&folder, &["--steps", &steps]).end_well();
    assert_eq!(checkpoint(&folder).agent, cut.agent);
    let run = folder.to_str().unwrap();
    let (ok, text) = lucid(&["eval", run, "--episodes", "2"]);
    assert!(ok && text.contains("2 episodes at"), "{text}");
    let (ok, text) = lucid(&["params", run, "^enc/vit/blocks/.*/(qkv/kernel|norm1/scale)"]);
    let told = |path: &str, how: &str| text.lines().any(|line| line.starts_with(path) && line.ends_with(how));
    assert!(ok && told("enc/vit/blocks/1/attn/qkv/kernel", "trainable"), "{text}");
    assert!(told("enc/vit/blocks/0/attn/qkv/kernel", "frozen") && told("enc/vit/blocks/1/norm1", "frozen"), "{text}");

    let (ok, text) = lucid(&["params", "verify", run]);
    assert!(ok && text.contains("enc/vit") && text.contains("norm1"), "{text}");
    change(&weights, "encoder.layer.1.mlp.fc1.weight");
    let (ok, text) = lucid(&["params", "verify", run]);
    assert!(ok, "what trains is in the checkpoint, not in the file: {text}");
    change(&weights, "encoder.layer.0.mlp.fc1.weight");
    let (ok, text) = lucid(&["params", "verify", run]);
    assert!(!ok && text.contains("enc/vit"), "{text}");
}

/// Alters one number of a tensor in a weights file.
fn change(file: &Path, name: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = {
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        tensors.tensor(name).unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_run_through_a_frozen_encoder_proves_that_it_stayed_frozen() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let weights = small_vit(dir.path());
    let args = [through(weights.to_str().unwrap()), vec!["--steps".into(), "200".into()]].concat();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Run::start(&folder, &args).end_well();
    let cut = checkpoint(&folder);
    assert!(cut.frozen.contains_key("enc/vit") && cut.counters.updates > 0);
    assert!(
        cut.replay.columns.iter().any(|c| c.key == "vit/image") && !cut.replay.columns.iter().any(|c| c.key == "image")
    );

    let run = folder.to_str().unwrap();
    let (ok, text) = lucid(&["params", "verify", run]);
    assert!(ok && text.contains("enc/vit"), "{text}");
}
