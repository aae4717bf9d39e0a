//! Checkpoints of the official code: taken over to the bit, trained on as the official code does, written back, refused.
//! `tests/official` holds one that the official code wrote, and what its next training step gives.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use learner::agent::{Agent, Origin};
use learner::official::{OfficialError, from_official, read, to_official, write};
use learner::pickle::{Item, write as write_pickle};
use shared::array::Array;
use shared::config::Config;
use shared::dist::Draws;
use shared::env::Spaces;
use shared::params::{Tree, load};

use actor::env::make;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/official")
}

/// The config of that checkpoint.
fn tiny() -> Config {
    config(&[])
}

fn config(sets: &[&str]) -> Config {
    Config::load(&[folder().join("run.toml").to_string_lossy()], sets).unwrap()
}

/// An agent of a config with its spaces.
struct Made {
    config: Config,
    obs: Spaces,
    act: Spaces,
}

impl Made {
    fn new(config: Config) -> Self {
        let env = make(&config.env, 0).unwrap();
        Self { obs: env.obs_space(), act: env.act_space(), config }
    }

    fn origin(&self) -> Origin<'_> {
        Origin {
            obs: &self.obs,
            act: &self.act,
            seed: 0,
            statistics: Tree::new(),
            pretrained: Tree::new(),
            freeze: &self.config.run.freeze,
            device: Device::Cpu,
        }
    }

    fn import(&self, values: &Tree) -> Result<Agent, OfficialError> {
        let options = self.config.agent();
        let fresh = Agent::new(&options, self.origin())?.save()?;
        Ok(Agent::restore(&options, self.origin(), from_official(values, fresh, &options)?)?)
    }

    fn export(&self, agent: &Agent) -> Tree {
        to_official(&agent.save().unwrap(), &self.config.agent()).unwrap()
    }

    fn refusal(&self, values: &Tree) -> String {
        self.import(values).err().expect("the checkpoint does not fit").to_string()
    }
}

/// Stored noise: the same array for every draw of its shape.
struct Stored(Tree);

impl Stored {
    fn get(&self, kind: &str, shape: &[usize]) -> Vec<f32> {
        let sides: Vec<String> = shape.iter().map(usize::to_string).collect();
        self.0[&format!("noise/{kind}/{}", sides.join("x"))].to_f32()
    }
}

impl Draws for Stored {
    fn gumbel_in(&mut self, shape: &[usize], out: &mut [f32]) {
        out.copy_from_slice(&self.get("gumbel", shape));
    }

    fn normal_in(&mut self, shape: &[usize], out: &mut [f32]) {
        out.copy_from_slice(&self.get("normal", shape));
    }
}

#[test]
fn every_array_arrives_and_leaves_as_it_was() {
    let (made, found) = (Made::new(tiny()), read(&folder()).unwrap());
    let agent = made.import(&found.values).unwrap();
    assert_eq!((found.step, agent.updates()), (1234, 3));
    for path in agent.params().paths() {
        assert_eq!(agent.params().lookup(&path).unwrap().to_vec().unwrap(), found.values[&path].to_f32(), "{path}");
    }
    let exported = made.export(&agent);
    assert_eq!(exported, found.values);

    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &exported, found.step, agent.updates()).unwrap();
    let again = read(dir.path()).unwrap();
    assert_eq!((again.step, &again.values), (found.step, &found.values));
    assert_eq!(made.import(&again.values).unwrap().save().unwrap(), agent.save().unwrap());
    assert!(matches!(write(dir.path(), &exported, 9, 9), Err(OfficialError::Exists { .. })), "nothing is overwritten");
}

#[test]
fn the_next_training_step_is_the_official_one() {
    let (made, found) = (Made::new(tiny()), read(&folder()).unwrap());
    let mut agent = made.import(&found.values).unwrap();
    let (stored, _) = load(&folder().join("next.safetensors")).unwrap();
    let below = |prefix: &str| -> Tree {
        stored.iter().filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_string(), v.clone()))).collect()
    };
    let (trained, ..) = agent.train_with(&below("data/"), &mut Stored(below(""))).unwrap();
    for (name, expected) in below("metric/") {
        close(&name, &[trained.metrics[&name]], &expected.to_f32(), 1e-5);
    }
    let after = made.export(&agent);
    assert_eq!(after.keys().collect::<Vec<_>>(), below("after/").keys().collect::<Vec<_>>());
    for (path, expected) in below("after/") {
        close(&path, &after[&path].to_f32(), &expected.to_f32(), 1e-4);
        assert_ne!(after[&path], found.values[&path], "{path} has not moved");
    }
}

/// max |a - b| / max |b| is at most `tolerance`.
fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let size = expected.iter().map(|b| b.abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance * size, "{what} differs by {worst:e} of {size:e}");
}

#[test]
fn a_checkpoint_of_another_size_or_task_is_refused_by_path_and_shape() {
    let values = read(&folder()).unwrap().values;
    let wider = Made::new(config(&["agent.enc.simple.units=24"])).refusal(&values);
    assert!(wider.contains("`enc/mlp0/kernel` is [5, 16] in the checkpoint, [5, 24] in the config"), "{wider}");
    let deeper = Made::new(config(&["agent.dyn.rssm.deter=64"])).refusal(&values);
    assert!(deeper.contains("agent.dyn.rssm.deter = 32 and hidden = 16"), "{deeper}");
    let pixels = Made::new(config(&["env.observe=both", "env.size=[64, 64]"])).refusal(&values);
    assert!(pixels.contains("`dec/") && pixels.contains("is not in the checkpoint"), "{pixels}");

    // A run of a built-in size is told which one it is.
    let large = Made::new(Config::load(&["cartpole"], &[] as &[&str]).unwrap());
    let origin = Agent::new(&large.config.agent(), large.origin()).unwrap();
    let refusal = Made::new(tiny()).refusal(&large.export(&origin));
    assert!(refusal.contains("-c size1m"), "{refusal}");
}

#[test]
fn values_that_do_not_belong_together_are_refused() {
    let (made, values) = (Made::new(tiny()), read(&folder()).unwrap().values);
    let change = |path: &str, array: Option<Array>| {
        let mut values = values.clone();
        values.remove(path);
        values.extend(array.map(|array| (path.to_string(), array)));
        made.refusal(&values)
    };
    let missing = change("pol/mlp/linear0/bias", None);
    assert!(missing.contains("`pol/mlp/linear0/bias` [16] is not in the checkpoint"), "{missing}");
    let extra = change("pol/other", Some(Array::scalar(1.0)));
    assert!(extra.contains("`pol/other` [] is not in the config"), "{extra}");
    let kind = change("pol/mlp/linear0/bias", Some(Array::i32(&[16], &[0; 16])));
    assert!(kind.contains("`pol/mlp/linear0/bias` is of type I32, not F32"), "{kind}");
    let counters = change("opt/state/2/0", Some(Array::i32(&[], &[5])));
    assert!(counters.contains("opt/step/value is 3") && counters.contains("opt/state/2/0 is 5"), "{counters}");
    let negative = change("slowval_count/value", Some(Array::i32(&[], &[-1])));
    assert!(negative.contains("slowval_count/value` is -1"), "{negative}");
}

#[test]
fn frozen_parameters_keep_the_official_values() {
    let (made, found) = (Made::new(config(&["run.freeze=[\"^enc/\"]"])), read(&folder()).unwrap());
    let agent = made.import(&found.values).unwrap();
    let exported = made.export(&agent);
    assert_eq!(exported["enc/mlp0/kernel"], found.values["enc/mlp0/kernel"]);
    assert_eq!(exported.keys().collect::<Vec<_>>(), found.values.keys().collect::<Vec<_>>());
    assert!(!agent.save().unwrap().contains_key("opt/rms/enc/mlp0/kernel"));
}

/// A copy of the official checkpoint with one file changed.
fn changed(file: &str, change: impl FnOnce(&Path)) -> String {
    let (dir, source) = (tempfile::tempdir().unwrap(), read(&folder()).unwrap().path);
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    read(dir.path()).unwrap();
    change(&dir.path().join(file));
    read(dir.path()).expect_err("the folder is damaged").to_string()
}

/// `{"params": {"0": a, "1": a, …}}`: 1 MB that stands for 10 GB.
fn one_array_under_many_names() -> Vec<u8> {
    let array = write_pickle(&Item::Array(&Array::u8(&[1 << 20], &vec![0; 1 << 20])));
    let mut bytes = [b"\x80\x04}\x8c\x06params}(\x8c\x05first", &array[2..array.len() - 1], b"\x94"].concat();
    for name in 0..10_000u32 {
        bytes.extend(b"\x8c\x04");
        bytes.extend(format!("{name:04}").as_bytes());
        bytes.extend(b"h\0");
    }
    bytes.extend(b"us.");
    bytes
}

#[test]
fn damaged_and_hostile_files_are_refused_by_name() {
    let cut = changed("agent.pkl", |file| {
        let bytes = fs::read(file).unwrap();
        fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(cut.contains("agent.pkl: byte") && cut.contains("cut short"), "{cut}");
    let hostile = changed("step.pkl", |file| fs::write(file, b"cos\nsystem\n(X\x02\0\0\0idtR.").unwrap());
    assert!(hostile.contains("step.pkl") && hostile.contains("`os.system`"), "{hostile}");
    let other = changed("agent.pkl", |file| fs::write(file, b"\x80\x04K\x03.").unwrap());
    assert!(other.contains("agent.pkl") && other.contains("`params`"), "{other}");
    let blown_up = changed("agent.pkl", |file| fs::write(file, one_array_under_many_names()).unwrap());
    assert!(blown_up.contains("agent.pkl") && blown_up.contains("too many"), "{blown_up}");
    let steps = changed("step.pkl", |file| fs::write(file, b"\x80\x04J\xff\xff\xff\xff.").unwrap());
    assert!(steps.contains("step.pkl") && steps.contains("environment steps"), "{steps}");
    let unfinished = changed("done", |file| fs::remove_file(file).unwrap());
    assert!(unfinished.contains("`done`"), "{unfinished}");
}

#[test]
fn a_checkpoint_is_found_from_each_of_its_folders() {
    let path = read(&folder()).unwrap().path;
    assert_eq!(read(&folder().join("ckpt")).unwrap().path, path);
    assert_eq!(read(&path).unwrap().path, path);
    let dir = tempfile::tempdir().unwrap();
    assert!(read(dir.path()).unwrap_err().to_string().contains("holds no checkpoint"));
    fs::write(dir.path().join("latest"), path.to_string_lossy().as_bytes()).unwrap();
    assert!(read(dir.path()).unwrap_err().to_string().contains("no name of a folder"));
}

/// Several processes of the official code save the agent and the step apart.
#[test]
fn a_checkpoint_of_several_processes_is_put_together() {
    let (dir, source) = (tempfile::tempdir().unwrap(), read(&folder()).unwrap().path);
    for (part, files) in [("agent", &["agent.pkl", "done"][..]), ("logger", &["step.pkl", "done"])] {
        let base = dir.path().join("ckpt").join(part);
        fs::create_dir_all(base.join("newest")).unwrap();
        fs::write(base.join("latest"), "newest").unwrap();
        for file in files {
            fs::copy(source.join(file), base.join("newest").join(file)).unwrap();
        }
    }
    for start in [dir.path().to_path_buf(), dir.path().join("ckpt"), dir.path().join("ckpt/agent")] {
        assert_eq!(read(&start).unwrap().step, 1234);
    }
}
