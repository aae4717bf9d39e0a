//! What people rely on: layers win in order, errors say where and what, what is saved loads again.

use super::*;
use crate::vit::trainable_blocks;

const NONE: &[&str] = &[];

fn error(presets: &[&str], sets: &[&str]) -> String {
    Config::load(presets, sets).expect_err("must be refused").to_string()
}

#[test]
fn every_preset_loads_and_a_saved_config_loads_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    for (name, _) in PRESETS {
        // Whether or not the preset's own task is built in.
        let config = Config::load(&[name], &["env.task=catch"]).unwrap_or_else(|e| panic!("{name}: {e}"));
        std::fs::write(&path, config.to_toml().unwrap()).unwrap();
        assert_eq!(Config::load(&[path.to_str().unwrap()], NONE).unwrap(), config, "{name}");
    }
}

#[test]
fn every_file_of_the_presets_folder_is_built_in() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
    // Recipes for clusters are in a folder of their own.
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let mut files: Vec<String> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_string()).collect();
    let mut built_in: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).chain(["defaults"]).collect();
    files.sort_unstable();
    built_in.sort_unstable();
    assert_eq!(files, built_in);
}

#[test]
fn task_presets_have_the_official_settings() {
    // Train ratio, environments, action repeat, side of images.
    let settings = [
        ("dmc_proprio", 1024.0, 16, 1, None),
        ("dmc_vision", 256.0, 16, 1, Some(64)),
        ("atari", 32.0, 16, 4, Some(96)),
        ("atari100k", 256.0, 1, 4, Some(64)),
        ("crafter", 512.0, 1, 1, Some(64)),
        ("minigrid", 32.0, 16, 1, Some(64)),
        ("procgen", 64.0, 16, 1, Some(96)),
        ("bsuite", 1024.0, 1, 1, None),
    ];
    for (name, ratio, envs, repeat, side) in settings {
        let config = Config::load(&[name], &["env.task=catch"]).unwrap();
        let found = (config.run.train_ratio, config.actor.count * config.actor.envs, config.env.repeat);
        assert_eq!(found, (ratio, envs, repeat), "{name}");
        assert!(side.is_none_or(|side| config.env.size == [side, side]), "{name}");
        assert!(config.vit.weights.is_empty(), "{name}");
    }
}

#[test]
fn sizes_are_those_of_the_official_code() {
    let sizes = [
        ("size1m", [512, 64, 4, 4, 64]),
        ("size12m", [2048, 256, 16, 16, 256]),
        ("size25m", [3072, 384, 24, 24, 384]),
        ("size50m", [4096, 512, 32, 32, 512]),
        ("size100m", [6144, 768, 48, 48, 768]),
        ("size200m", [8192, 1024, 64, 64, 1024]),
        ("size400m", [12288, 1536, 96, 96, 1536]),
    ];
    for (name, expected) in sizes {
        let agent = Config::load(&[name], NONE).unwrap().agent;
        let rssm = &agent.dynamics.rssm;
        let depth = [agent.enc.simple.depth, agent.dec.simple.depth];
        assert_eq!([rssm.deter, rssm.hidden, rssm.classes, depth[0], agent.value.units], expected, "{name}");
        assert_eq!(depth[0], depth[1], "{name}");
        let units = [agent.enc.simple.units, agent.dec.simple.units, agent.rewhead.units, agent.conhead.units];
        assert_eq!(units, [expected[4]; 4], "{name}");
        assert_eq!(agent.policy.units, expected[4], "{name}");
    }
    let default = Config::load(NONE, NONE).unwrap();
    assert_eq!(default, Config::load(&["size1m"], NONE).unwrap(), "size1m is the default");
}

#[test]
fn later_layers_win() {
    let both = ["cartpole", "quickstart"];
    assert_eq!(Config::load(&both, NONE).unwrap().env.task, "catch");
    let config = Config::load(&both, &["env.task=dummy", "run.train_ratio=256", "run.steps=1e6"]).unwrap();
    assert_eq!((config.env.task.as_str(), config.run.train_ratio, config.run.steps), ("dummy", 256.0, 1_000_000));
}

#[test]
fn set_takes_toml_values_and_bare_text() {
    let sets = ["vit.weights=123", "env.size=[56, 56]", "run.freeze=[\"^enc/\"]", "agent.opt={ lr = 1, warmup = 5 }"];
    let config = Config::load(NONE, &sets).unwrap();
    assert_eq!(config.vit.weights, "123");
    assert_eq!(config.env.size, [56, 56]);
    assert_eq!(config.run.freeze, ["^enc/"]);
    assert_eq!((config.agent.opt.lr, config.agent.opt.warmup, config.agent.opt.agc), (1.0, 5, 0.3));
    assert_eq!(Config::load(NONE, &["vit.weights=\"quoted\""]).unwrap().vit.weights, "quoted");
}

#[test]
fn unknown_keys_name_their_source_and_the_nearest_key() {
    let message = error(&["quickstart"], &["run.train_ration=8"]);
    assert_eq!(message, "--set run.train_ration=8: unknown key `run.train_ration` (did you mean `run.train_ratio`?)");
    assert!(error(&[], &["agent.deter=8"]).ends_with("(did you mean `agent.dyn.rssm.deter`?)"));
    assert!(error(&[], &["rum.seed=8"]).contains("`run"), "a section with a typo");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, "[env]\ntaks = 'catch'\n").unwrap();
    let message = error(&[path.to_str().unwrap()], &[]);
    assert!(message.contains("mine.toml") && message.contains("`env.taks` (did you mean `env.task`?)"), "{message}");
}

#[test]
fn wrong_types_name_key_expectation_and_value() {
    assert_eq!(
        error(&[], &["run.seed=many"]),
        "--set run.seed=many: `run.seed` must be a whole number (such as 0), not text (\"many\")"
    );
    assert!(error(&[], &["run.steps=1.5"]).contains("must be a whole number (such as 0), not a number (1.5)"));
    assert!(error(&[], &["replay.online=1"]).contains("must be true or false, not a whole number (1)"));
    assert!(error(&[], &["agent.opt=3"]).contains("`agent.opt` must be a table of keys"));
    assert!(error(&[], &["env.size=[1, \"a\"]"]).contains("`env.size` must be a whole number"));
    assert!(error(&[], &["run.seed.x=3"]).contains("`run.seed` must be"));
}

#[test]
fn values_out_of_their_types_range_name_the_key() {
    for set in ["run.steps=-1", "env.size=[1, 2, 3]", "run.freeze=[1]"] {
        let key = set.split_once('=').unwrap().0;
        let message = error(&[], &[set]);
        assert!(message.starts_with(&format!("--set {set}: ")) && message.contains(key), "{message}");
    }
}

#[test]
fn overrides_without_effect_and_half_written_ones_are_refused() {
    assert!(error(&[], &["run.seed=1", "run.seed=2"]).contains("run.seed is given twice"));
    assert!(error(&[], &["run.seed"]).contains("key=value"));
    assert!(error(&[], &["=3"]).contains("key=value"));
}

#[test]
fn unknown_and_broken_presets_are_named() {
    let message = error(&["quikstart"], &[]);
    assert!(message.contains("`quikstart` (did you mean `quickstart`?)") && message.contains("size12m"), "{message}");
    assert!(error(&["no/such.toml"], &[]).contains("cannot read config `no/such.toml`"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.toml");
    std::fs::write(&path, "[run]\nseed = \n").unwrap();
    let message = error(&[path.to_str().unwrap()], &[]);
    assert!(message.contains("cut.toml") && message.contains("line 2"), "{message}");
}

#[test]
fn values_that_cannot_work_are_all_reported_with_their_keys() {
    let cases = [
        ("agent.dyn.rssm.deter=510", "agent.dyn.rssm.blocks"),
        ("agent.policy.act=sigmoids", "agent.policy.act"),
        ("vit.pool=max", "cls, mean, grid"),
        ("agent.batch_length=0", "agent.batch_length"),
        ("agent.value.bins=2", "agent.value.bins"),
        ("sync.mode=lockstep", "actor.count"),
        (
            "actor.wait_for=1",
            "`actor.wait_for` is 1, must be 0 (all environments step together) or less than `actor.envs` (1)",
        ),
        ("agent.opt.lr=nan", "agent.opt.lr"),
        ("agent.opt.schedule=poly", "agent.opt.schedule"),
        ("run.freeze=['(']", "not a regular expression"),
        ("replay.size=10", "must hold one sample of 65 steps"),
        ("replay.fracs.priority=0.5", "`replay.fracs` sum to 1.5"),
        ("replay.prio.maxfrac=1.0", "replay.prio.initial"),
        ("replay.prio.initial=-1.0", "replay.prio.initial"),
        ("vit.weights=", "env.size"),
        ("actor.count=0", "actor.count"),
        ("agent.retnorm.impl=max", "none, meanstd, perc"),
        ("vit.trainable_blocks=-1", "`vit.trainable_blocks` is -1, must be 0, 1, 2, … or all"),
        ("vit.trainable_blocks=some", "`vit.trainable_blocks` is \"some\", must be 0, 1, 2, … or all"),
        ("vit.trainable_blocks=true", "`vit.trainable_blocks` must be a whole number"),
        ("run.freeze=[\"enc/vit\"]", "frozen without it"),
    ];
    for (set, expected) in cases {
        let message = error(&[], &[set]);
        assert!(message.contains(expected), "{set}: {message}");
    }
    let lockstep = error(&[], &["sync.mode=lockstep", "actor.count=1", "actor.envs=2", "actor.wait_for=1"]);
    assert!(lockstep.contains("needs `actor.wait_for` = 0") && lockstep.contains("matter of chance"), "{lockstep}");
    let both = error(&[], &["actor.count=0", "vit.pool=max"]);
    assert!(both.contains("actor.count") && both.contains("vit.pool"), "{both}");
}

#[test]
fn trainable_blocks_are_a_number_or_all_and_need_a_vit_that_has_them() {
    let blocks = |sets: &[&str]| Config::load(NONE, sets).unwrap().vit.trainable_blocks;
    assert_eq!(blocks(&[]), TrainableBlocks::Last(0));
    assert_eq!(blocks(&["vit.trainable_blocks=2"]), TrainableBlocks::Last(2));
    let all = Config::load(NONE, &["vit.trainable_blocks=all"]).unwrap();
    assert_eq!(all.vit.trainable_blocks, TrainableBlocks::All);
    assert_eq!(Config::from_toml(&all.to_toml().unwrap()).unwrap(), all);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.toml");
    std::fs::write(&path, all.to_toml().unwrap()).unwrap();
    let again = Config::load(&[path.to_str().unwrap()], &["vit.trainable_blocks=3"]).unwrap();
    assert_eq!(again.vit.trainable_blocks, TrainableBlocks::Last(3));

    for set in ["vit.features=zero", "vit.weights="] {
        let message = error(&[], &["env.size=[64, 64]", "vit.trainable_blocks=1", set]);
        assert!(message.contains("`vit.trainable_blocks` is not 0, which needs a ViT"), "{message}");
    }
    let spec = VitSpec::dinov2_small();
    let trained = |sets: &[&str]| trainable_blocks(&Config::load(NONE, sets).unwrap().vit, &spec);
    assert_eq!(trained(&["vit.trainable_blocks=12"]).unwrap(), 0..12);
    assert_eq!(trained(&["vit.trainable_blocks=2", "vit.block=5"]).unwrap(), 4..6);
    let message = trained(&["vit.trainable_blocks=13"]).unwrap_err().to_string();
    assert!(message.contains("vit.trainable_blocks = 13: blocks 0 to 11 are in use"), "{message}");
    assert!(message.contains("use 0 to 12, or all"), "{message}");
}

#[test]
fn options_of_the_draw_by_priority_that_have_no_effect_are_named() {
    let by_priority = "replay.fracs={uniform=0.0,priority=1.0,recency=0.0}";
    let ignored = |sets: &[&str]| Config::load(NONE, sets).unwrap().replay.ignored().join("; ");
    assert_eq!(ignored(&[]), "");
    assert_eq!(ignored(&[by_priority]), "");
    assert!(ignored(&["replay.prio.exponent=0.5"]).contains("while replay.fracs.priority is 0"));
    let both = ignored(&[by_priority, "replay.prio.exponent=0.5", "replay.prio.maxfrac=0.25"]);
    assert!(both.contains("replay.prio.exponent = 0.5") && both.contains("replay.prio.maxfrac = 0.25"), "{both}");
    let finite = ignored(&[by_priority, "replay.prio.initial=1.0", "replay.prio.maxfrac=0.25"]);
    assert_eq!(finite, "", "between finite priorities it matters");
    assert_eq!(Config::load(NONE, &["replay.prio.initial=inf"]).unwrap(), Config::load(NONE, NONE).unwrap());
}

#[test]
fn differences_name_key_default_and_value() {
    assert_eq!(Config::load(NONE, NONE).unwrap().differences().unwrap(), []);
    let differences = Config::load(&["cartpole"], NONE).unwrap().differences().unwrap();
    let ratio = Difference { key: "run.train_ratio".into(), default: "32.0".into(), value: "512.0".into() };
    assert!(differences.contains(&ratio), "{differences:?}");
    assert_eq!(differences.len(), 4, "{differences:?}");
}

#[test]
fn bfloat16_is_refused_on_a_gpu() {
    let on = |device: &str, precision: &str| {
        [format!("run.learner_device={device}"), format!("agent.compute_dtype={precision}")]
    };
    assert!(Config::load(&["dummy"], &on("cuda", "float32")).is_ok());
    assert!(Config::load(&["dummy"], &on("cpu", "bfloat16")).is_ok());
    let message = error(&["dummy"], &on("cuda", "bfloat16").each_ref().map(String::as_str));
    assert!(message.contains("`agent.compute_dtype` is `bfloat16`, must be float32"), "{message}");
    assert!(error(&[], &["run.learner_device=gpu"]).contains("run.learner_device"));
}

#[test]
fn the_adapter_of_features_is_like_the_layers_for_vectors_unless_told_otherwise() {
    let adapter = |sets: &[&str]| Config::load(&["size12m"], sets).unwrap().agent().enc.simple.adapter();
    let own = Config::load(&["size12m"], NONE).unwrap().agent.enc.simple;
    let same = AdapterConfig { layers: own.layers, units: own.units, act: own.act, norm: own.norm };
    assert_eq!(adapter(NONE), same);
    let projection = adapter(&["vit.adapter.layers=1", "vit.adapter.units=32", "vit.adapter.act=none"]);
    assert_eq!(projection, AdapterConfig { layers: 1, units: 32, act: "none".into(), norm: same.norm });
    assert!(error(NONE, &["vit.adapter.norm=batch"]).contains("`vit.adapter.norm` is `batch`"));
    assert!(error(NONE, &["vit.pool=attention", "vit.queries=0"]).contains("`vit.queries` is 0"));
    assert!(error(NONE, &["vit.pool=max"]).contains("cls, mean, grid, attention"));
}

#[test]
fn a_page_that_others_reach_needs_a_secret() {
    for set in ["web.address=0.0.0.0", "web.hosts=[\"lucid.example\"]"] {
        assert!(error(&[], &[set]).contains("`web.token_file` is empty"));
        assert!(Config::load(NONE, &[set, "web.token_file=secret"]).is_ok());
        assert!(Config::load(NONE, &[set, "web.enabled=false"]).is_ok());
    }
    assert!(Config::load(NONE, &["web.address=::1"]).is_ok());
    assert!(error(&[], &["web.address=here"]).contains("IP address"));
}

#[test]
fn keyword_arguments_of_environments_may_have_any_names_and_types() {
    let sets =
        ["env.task=gymnasium:Some-v0", "env.kwargs={ gravity = 5, map = { name = \"text\" } }", "env.kwargs.wind=true"];
    let config = Config::load(NONE, &sets).unwrap();
    let expected = "gravity = 5\nwind = true\nmap = { name = \"text\" }".parse::<toml::Table>().unwrap();
    assert_eq!(config.env.kwargs, expected);
    assert_eq!(Config::from_toml(&config.to_toml().unwrap()).unwrap(), config);
    assert!(config.differences().unwrap().iter().any(|d| d.key == "env.kwargs.gravity" && d.value == "5"));
    assert!(Config::load(NONE, &["env.kwarg.gravity=5"]).unwrap_err().to_string().contains("env.kwarg"));
    assert!(Config::load(NONE, &["env.kwargs=5"]).unwrap_err().to_string().contains("env.kwargs"));
}
