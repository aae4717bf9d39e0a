//! Blocks of a ViT that train: where they start, what they learn, what actors get, and what a checkpoint keeps.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use half::f16;
use learner::agent::{Agent, Batch, Origin};
use learner::vit::{Hints, Loaded, load};
use safetensors::SafeTensors;
use shared::array::{Array, DType};
use shared::config::{AgentConfig, Config};
use shared::dist::{Draws, Seeded};
use shared::dreamer::Acting;
use shared::dreamer::inputs::Columns;
use shared::env::{FLAGS, Space, Spaces};
use shared::experience::{DETER, STOCH};
use shared::kernels::Precision;
use shared::params::{Create, Params, Region, Scope, Tree};
use shared::snapshot::format::{SnapshotHeader, SnapshotView, encode};
use shared::vit::{self, Images, PREFIX, Tail, TailSpec, Vit, VitError};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/vit")
}

/// Every fixture: name and folder.
fn fixtures() -> Vec<(String, PathBuf)> {
    let folder = std::env::var_os("LUCID_VIT_PARITY_DIR").map_or_else(repository, PathBuf::from);
    let names = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let stems = names.filter_map(|n| n.strip_suffix(".expected.safetensors").map(str::to_string));
    stems.map(|n| (n, folder.clone())).filter(|(n, f)| f.join(format!("{n}.safetensors")).exists()).collect()
}

fn open(name: &str, folder: &Path) -> Loaded {
    let notes = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    let notes: serde_json::Value = serde_json::from_str(&notes).unwrap();
    let config = folder.join(format!("{name}_config/config.json"));
    let heads = notes["heads"].as_u64().map(|heads| heads as usize);
    let hints = Hints { heads, config: config.exists().then_some(config), ..Hints::default() };
    load(&folder.join(format!("{name}.safetensors")), &hints).unwrap()
}

fn arrays(tree: vit::Tree) -> Tree {
    tree.into_iter().map(|(path, (shape, values))| (path, Array::f32(&shape, &values))).collect()
}

/// A store with parts of a trunk.
fn store(tree: vit::Tree) -> Params<Create> {
    let params = Params::<Create>::new(0);
    params.put(arrays(tree), PREFIX).unwrap();
    params
}

fn assert_close(found: &[f32], wanted: &[f32], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let scale = wanted.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let error = found.iter().zip(wanted).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / scale;
    assert!(error <= 2e-5, "{what}: relative error {error:e}");
}

#[test]
fn vit_frozen_blocks_and_then_those_that_train_give_the_tokens_of_the_whole_trunk() {
    let fixtures = fixtures();
    assert!(!fixtures.is_empty());
    for (name, folder) in fixtures {
        let loaded = open(&name, &folder);
        let bytes = std::fs::read(folder.join(format!("{name}.expected.safetensors"))).unwrap();
        let expected = SafeTensors::deserialize(&bytes).unwrap();
        let image = expected.tensor("native/image").unwrap();
        let [n, _, height, width] = image.shape()[..] else { panic!("{name}: {:?}", image.shape()) };
        let planes: Vec<f32> = bytemuck::pod_collect_to_vec(image.data());
        let area = height * width;
        let pixels: Vec<f32> =
            (0..planes.len()).map(|i| planes[(i / (3 * area) * 3 + i % 3) * area + i / 3 % area]).collect();
        let images = Images { pixels: &pixels, n, height, width };
        let spec = &loaded.spec;
        let whole = Vit::new(spec, &store(loaded.tensors.clone()), 1, Precision::Float32).unwrap().tokens(
            images,
            spec.depth - 1,
            true,
        );
        if spec.normed {
            let tokens: Vec<f32> = bytemuck::pod_collect_to_vec(expected.tensor("native/tokens").unwrap().data());
            assert_close(&whole, &tokens, &name);
        }
        let frame = whole.len() / n;
        let patches: Vec<f32> = whole.chunks(frame).flat_map(|t| t[spec.prefix() * spec.width..].to_vec()).collect();
        for blocks in ["1".to_string(), spec.depth.to_string(), "all".to_string()] {
            let config =
                Config::load(&[] as &[&str], &["vit.pool=grid".into(), format!("vit.trainable_blocks={blocks}")]);
            let frames = Spaces::from([("image".to_string(), Space::image(height, width, 3))]);
            let tail = TailSpec::new(&config.unwrap().vit, spec, &frames).unwrap().unwrap();
            let (frozen, trained) = vit::split(loaded.tensors.clone(), &tail.blocks());
            assert!(trained.len() > 12 && frozen.contains_key("patch/kernel"), "{name}");
            let trunk = Vit::until(spec, tail.blocks().start, &store(frozen), 1, Precision::Float32).unwrap();
            let hidden = trunk.hidden(images, tail.blocks().start);
            let params = store(trained);
            let module = Tail::new(&Scope::root(&params).sub("enc").sub("vit"), &tail).unwrap();
            let tokens = Tensor::from_slice(&hidden, (n, frame / spec.width, spec.width), &Device::Cpu).unwrap();
            let found = module.forward("vit/image", &tokens).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert_close(&found, &patches, &format!("{name}, {blocks} blocks"));
        }
    }
}

/// An agent that sees frames of 32 x 32 pixels through the small DINOv2 of the fixtures, of whose two blocks the last trains.
struct Set {
    options: AgentConfig,
    obs: Spaces,
    act: Spaces,
    pretrained: Tree,
}

impl Set {
    fn new(pool: &str) -> Self {
        let loaded = open("hf_dinov2", &repository());
        let sets = ["vit.trainable_blocks=1", "vit.reduce=0", "agent.opt.lr=1e-3", "agent.opt.warmup=1"];
        let config = Config::load(
            &["dummy"],
            &[&sets[..], &["vit.weights=w", "vit.decode=features", &format!("vit.pool={pool}")]].concat(),
        )
        .unwrap();
        let frames = Spaces::from([("image".to_string(), Space::image(32, 32, 3))]);
        let options = config.agent_through(Some(&loaded.spec), &frames).unwrap();
        let obs = vit::agent_spaces(&frames, &config.vit, &loaded.spec).unwrap();
        let tail = options.enc.simple.tail.clone().unwrap();
        let pretrained = arrays(vit::split(loaded.tensors, &tail.blocks()).1);
        Self { options, obs, act: [("action".to_string(), Space::discrete(&[], 3))].into(), pretrained }
    }

    fn origin<'a>(&'a self, pretrained: Tree, freeze: &'a [String]) -> Origin<'a> {
        let (obs, act, statistics) = (&self.obs, &self.act, Tree::new());
        Origin { obs, act, seed: 1, statistics, pretrained, freeze, device: Device::Cpu }
    }

    fn agent(&self, freeze: &[&str]) -> Result<Agent, String> {
        let freeze: Vec<String> = freeze.iter().map(|pattern| pattern.to_string()).collect();
        Agent::new(&self.options, self.origin(self.pretrained.clone(), &freeze)).map_err(|e| e.to_string())
    }

    /// Columns of noise, [.., …].
    fn columns(&self, lead: &[usize], seed: u64) -> Columns {
        let mut draws = Seeded::new(seed);
        let mut columns = Columns::new();
        for (key, space) in self.obs.iter().chain(&self.act) {
            let shape = [lead, space.shape.as_slice()].concat();
            let noise = draws.normal(&shape);
            let array = match space.dtype {
                DType::F16 => Array::f16(&shape, &noise.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>()),
                _ => Array::i32(&shape, &noise.iter().map(|x| (x.abs() * 9.0) as i32 % 3).collect::<Vec<_>>()),
            };
            columns.insert(key.clone(), array);
        }
        for flag in FLAGS {
            let dtype = if flag == "reward" { DType::F32 } else { DType::U8 };
            columns.insert(flag.into(), Array::zeros(dtype, lead));
        }
        columns
    }

    fn batch(&self, seed: u64) -> Batch {
        let (rows, steps) = (self.options.batch_size, self.options.sample_length());
        let rssm = &self.options.dynamics.rssm;
        let mut batch = self.columns(&[rows, steps], seed);
        batch.insert(DETER.into(), Array::zeros(DType::F32, &[rows, steps, rssm.deter]));
        batch.insert(STOCH.into(), Array::zeros(DType::U16, &[rows, steps, rssm.stoch]));
        batch.insert("consec".into(), Array::i32(&[rows], &vec![0; rows]));
        batch
    }
}

/// Values of a parameter of the trunk.
fn value(agent: &Agent, path: &str) -> Vec<f32> {
    agent.params().lookup(&format!("{PREFIX}/{path}")).unwrap().to_vec().unwrap()
}

#[test]
fn vit_blocks_that_train_start_as_pretrained_change_and_reach_actors_in_the_snapshot() {
    ["grid", "attention"].into_iter().for_each(train_and_act);
}

fn train_and_act(pool: &str) {
    let set = Set::new(pool);
    assert_eq!(set.obs["vit/image"].shape, [17, 32], "hidden states of a class token and 4 x 4 patches are recorded");
    let mut agent = set.agent(&[]).unwrap();
    let paths: Vec<String> = agent.trainable_paths().into_iter().filter(|path| path.starts_with("enc/vit/")).collect();
    assert_eq!(paths.len(), set.pretrained.len());
    for (path, pretrained) in &set.pretrained {
        assert_eq!(value(&agent, path), pretrained.to_f32(), "{path}");
    }
    for seed in 0..3 {
        agent.train(&set.batch(seed)).unwrap();
    }
    for (path, pretrained) in &set.pretrained {
        assert_ne!(value(&agent, path), pretrained.to_f32(), "{path} has not changed");
    }

    let weights = agent.policy_params().unwrap();
    let header = SnapshotHeader { version: 1, update: 3, published: 0 };
    let region: Region = Arc::new(encode(&header, &weights).unwrap());
    let mapped = Params::read_only(&[("", &SnapshotView::open(region).unwrap())]).unwrap();
    let acting = |source| Acting::new(&set.options, &set.obs, &set.act, source).unwrap();
    let (own, actor) = (acting(agent.params()), acting(&mapped));
    let obs = set.columns(&[3], 9);
    let [own, actor] = [own, actor].map(|acting| {
        let mut acted = acting.initial(3);
        acting.step(&mut acted, &obs, &mut Seeded::new(4)).unwrap();
        acted
    });
    assert_eq!(own.stoch, actor.stoch);
    assert_eq!(own.actions, actor.actions);
    assert_close(&actor.deter.to_f32(), &own.deter.to_f32(), "deter");
}

#[test]
fn vit_blocks_that_train_are_restored_and_go_on_to_the_bit() {
    let set = Set::new("grid");
    let mut agent = set.agent(&[]).unwrap();
    agent.train(&set.batch(0)).unwrap();
    let state = agent.save().unwrap();
    // Without what they started from: a restored run does not look at it.
    let mut again = Agent::restore(&set.options, set.origin(Tree::new(), &[]), state.clone()).unwrap();
    assert_eq!(again.save().unwrap(), state);
    for seed in 1..3 {
        let (a, b) = (agent.train(&set.batch(seed)).unwrap(), again.train(&set.batch(seed)).unwrap());
        assert_eq!(a.metrics, b.metrics);
    }
    assert_eq!(agent.save().unwrap(), again.save().unwrap());
}

#[test]
fn vit_parts_of_the_blocks_that_train_can_be_frozen_by_pattern() {
    let set = Set::new("grid");
    let mut agent = set.agent(&["enc/.*norm.*"]).unwrap();
    for seed in 0..2 {
        agent.train(&set.batch(seed)).unwrap();
    }
    let trainable = agent.trainable_paths();
    for (path, pretrained) in &set.pretrained {
        let (frozen, same) = (path.contains("norm"), value(&agent, path) == pretrained.to_f32());
        assert_eq!((frozen, frozen), (same, !trainable.contains(&format!("{PREFIX}/{path}"))), "{path}");
    }
    assert!(agent.params().verify().unwrap().iter().all(|report| report.holds()));
    let error = set.agent(&["enc/vit/blocks/0/.*"]).err().unwrap();
    assert!(error.contains("enc/vit/blocks/0/.*") && error.contains("enc/vit/blocks/1/norm1"), "{error}");
}

#[test]
fn vit_hidden_states_that_float16_does_not_hold_are_refused() {
    let mut loaded = open("hf_dinov2", &repository());
    loaded.tensors.get_mut("patch/bias").unwrap().1.fill(1e6);
    let sets = ["vit.trainable_blocks=1", "vit.weights=w", "vit.decode=features"];
    let config = Config::load(&["dummy"], &sets).unwrap().vit;
    let frames = Spaces::from([("image".to_string(), Space::image(32, 32, 3))]);
    let seen = vit::agent_spaces(&frames, &config, &loaded.spec).unwrap();
    let encoder = vit::Features::new(&config, &loaded.spec, &store(loaded.tensors), 1).unwrap();
    let obs = Columns::from([("image".to_string(), Array::zeros(DType::U8, &[1, 32, 32, 3]))]);
    let error = actor::Features::new(Some(encoder), seen).observe(obs).err().unwrap();
    assert!(matches!(error, VitError::Range { .. }), "{error}");
}
