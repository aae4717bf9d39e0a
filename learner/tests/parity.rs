//! Agreement with the official DreamerV3, number by number, on every set of reference values in `LUCID_PARITY_DIR`
//! (default: the copies in `tests/parity`).
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use learner::agent::{Agent, Origin};
use learner::dreamer::{Loss, Recon};
use learner::official::{from_official, to_official};
use learner::optim::Optimizer;
use learner::predictions::video;
use shared::array::{Array, DType};
use shared::config::{AgentConfig, OptConfig};
use shared::dist::Draws;
use shared::dreamer::inputs::Columns;
use shared::dreamer::{Acting, to_array};
use shared::env::{FLAGS, Space, Spaces};
use shared::kernels::Precision;
use shared::params::{Create, Init, Params, Tree, load};
use shared::snapshot::format::{self, SnapshotHeader, SnapshotView};

/// The device under test: a GPU if this is built with the feature `cuda`, which then must be there.
fn device() -> Device {
    shared::device::open(if cfg!(feature = "cuda") { "cuda" } else { "cpu" }).unwrap_or_else(|error| panic!("{error}"))
}

/// Precision of products that the tests are to use.
const PRODUCTS: &str = "LUCID_TEST_PRODUCTS";

fn products() -> Precision {
    std::env::var(PRODUCTS).map_or(Precision::Float32, |name| Precision::of_products(&name).unwrap())
}

fn copies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity")
}

fn folder() -> PathBuf {
    std::env::var_os("LUCID_PARITY_DIR").map_or(copies(), PathBuf::from)
}

/// Names of all pairs `<name>.json` + `<name>.safetensors`.
fn sets(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
    let jsons = files.filter(|f| f.extension().is_some_and(|e| e == "json"));
    let mut sets: Vec<PathBuf> = jsons.filter(|f| f.with_extension("safetensors").exists()).collect();
    sets.sort();
    sets
}

#[derive(Clone, serde::Deserialize)]
struct Description {
    config: AgentConfig,
    /// [dtype, shape], or [dtype, shape, discrete, classes].
    obs_space: indexmap::IndexMap<String, Vec<serde_json::Value>>,
    act_space: indexmap::IndexMap<String, (String, Vec<usize>, bool, usize)>,
}

impl Description {
    /// Classes of a discrete observation whose description does not tell follow from the decoder's parameters.
    fn obs(&self, values: &Tree) -> Spaces {
        let space = |(key, entry): (&String, &Vec<serde_json::Value>)| {
            let shape: Vec<usize> = serde_json::from_value(entry[1].clone()).unwrap();
            let space = match entry[0].as_str().unwrap() {
                "uint8" if shape.len() == 3 => Space { dtype: DType::U8, shape, classes: None, low: 0.0, high: 255.0 },
                "bool" => Space::flag(),
                "float32" => Space::vector(&shape),
                "int32" => {
                    let elements: usize = shape.iter().product();
                    let logits = || values[&format!("params/dec/vec/{key}/logits/bias")].shape[0] / elements;
                    let classes = entry.get(3).and_then(serde_json::Value::as_u64).map_or_else(logits, |c| c as usize);
                    Space::discrete(&shape, classes)
                }
                other => panic!("{key}: observation of type {other} and shape {shape:?}"),
            };
            (key.clone(), space)
        };
        self.obs_space.iter().map(space).collect()
    }

    fn act(&self) -> Spaces {
        let space = |(key, (_, shape, discrete, classes)): (&String, &(String, Vec<usize>, bool, usize))| {
            let space = if *discrete { Space::discrete(shape, *classes) } else { Space::bounded(shape, -1.0, 1.0) };
            (key.clone(), space)
        };
        self.act_space.iter().map(space).collect()
    }
}

/// Stored noise: the same array for every draw of its shape.
struct Stored(Tree);

impl Stored {
    fn get(&self, kind: &str, shape: &[usize]) -> Vec<f32> {
        let sides: Vec<String> = shape.iter().map(usize::to_string).collect();
        let key = format!("{kind}/{}", sides.join("x"));
        self.0.get(&key).unwrap_or_else(|| panic!("no stored noise {key}")).to_f32()
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

/// One set of reference values.
struct Set {
    name: String,
    values: Tree,
    description: Description,
}

impl Set {
    fn load(json: &Path) -> Self {
        let text = std::fs::read_to_string(json).unwrap();
        let (values, _) = load(&json.with_extension("safetensors")).unwrap();
        let name = json.file_stem().unwrap().to_string_lossy().into_owned();
        let mut description: Description = serde_json::from_str(&text).unwrap();
        description.config.dec.simple.images = description.obs_space.keys().cloned().collect();
        description.config.products = products();
        Self { name, values, description }
    }

    /// Values below a prefix, by relative key.
    fn group(&self, prefix: &str) -> Tree {
        let below = |(k, v): (&String, &Array)| Some((k.strip_prefix(prefix)?.to_string(), v.clone()));
        self.values.iter().filter_map(below).collect()
    }

    fn agent(&self) -> Agent {
        self.agent_on(&device())
    }

    fn agent_on(&self, device: &Device) -> Agent {
        let (obs, act) = (self.description.obs(&self.values), self.description.act());
        let origin = || Origin {
            obs: &obs,
            act: &act,
            seed: 0,
            statistics: Tree::new(),
            pretrained: Tree::new(),
            freeze: &[],
            device: device.clone(),
        };
        let config = &self.description.config;
        let fresh = Agent::new(config, origin()).unwrap().save().unwrap();
        let mut values = to_official(&fresh, config).unwrap();
        let params = self.group("params/");
        assert_eq!(params.len(), values.keys().filter(|path| !path.starts_with("opt/")).count());
        for (path, array) in params {
            // A number without axes is stored as [1].
            let shape = values[&path].shape.clone();
            values.insert(path, Array { shape, ..array });
        }
        Agent::restore(config, origin(), from_official(&values, fresh, config).unwrap()).unwrap()
    }

    fn noise(&self) -> Stored {
        Stored(self.group("noise/"))
    }

    fn batch(&self, k: usize) -> Columns {
        self.group(&format!("data_{k}/"))
    }
}

/// Collects every disagreement, so that a failure shows all of them.
#[derive(Default)]
struct Report {
    checked: usize,
    failures: Vec<String>,
}

impl Report {
    /// max |a - b| / max |b| must not exceed the tolerance; `floor` is an absolute tolerance for numbers near zero.
    fn close(&mut self, what: &str, found: &[f32], expected: &Array, tolerance: f32, floor: f32) {
        self.checked += 1;
        let expected = expected.to_f32();
        if found.len() != expected.len() {
            return self.failures.push(format!("{what}: {} numbers, expected {}", found.len(), expected.len()));
        }
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, nan_max);
        let size = expected.iter().map(|b| b.abs()).fold(0.0, nan_max);
        // Operands of 16 bits of mantissa instead of 24: three times what float32 is held to.
        let factor = if products() == Precision::Split { 3.0 } else { 1.0 };
        let allowed = factor * (tolerance * size).max(floor);
        if worst.is_nan() || worst > allowed {
            self.failures.push(format!("{what}: differs by {worst:.3e} of {size:.3e} ({:.2e})", worst / size));
        }
    }

    fn equal(&mut self, what: &str, found: &[f32], expected: &Array) {
        self.close(what, found, expected, 0.0, 0.0);
    }

    /// Pixels, of which one in a thousand may be rounded to another byte.
    fn alike(&mut self, what: &str, found: &Array, expected: &Array) {
        self.checked += 1;
        if found.shape != expected.shape {
            return self.failures.push(format!("{what}: {:?}, expected {:?}", found.shape, expected.shape));
        }
        let differ: Vec<u8> = found.bytes.iter().zip(&expected.bytes).map(|(a, b)| a.abs_diff(*b)).collect();
        let (worst, many) = (differ.iter().max().unwrap(), differ.iter().filter(|d| **d > 0).count());
        if *worst > 1 || many * 1000 > differ.len() {
            self.failures.push(format!("{what}: {many} of {} bytes differ, by up to {worst}", differ.len()));
        }
    }

    fn finish(self, at_least: usize) {
        assert!(self.failures.is_empty(), "{} of {}:\n{}", self.failures.len(), self.checked, self.failures.join("\n"));
        assert!(self.checked >= at_least, "only {} values were compared", self.checked);
    }
}

/// The larger; a NaN wins.
fn nan_max(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    to_array(tensor).unwrap().to_f32()
}

/// Runs a check on every set there is.
fn on_every_set(check: impl Fn(&Set)) {
    let sets = sets(&folder());
    assert!(!sets.is_empty(), "no reference values in {}", folder().display());
    sets.iter().for_each(|json| check(&Set::load(json)));
}

#[test]
fn parity_losses_and_gradients() {
    on_every_set(|set| {
        let mut report = Report::default();
        let mut agent = set.agent();
        let (_, loss, grads) = agent.train_with(&set.batch(1), &mut set.noise()).unwrap();
        compare_outputs(set, &loss, &mut report);
        for (name, expected) in set.group("loss/") {
            report.close(&format!("{} loss/{name}", set.name), &flat(&loss.losses[&name]), &expected, 1e-5, 0.0);
        }
        assert_eq!(loss.losses.len(), set.group("loss/").len());
        let total = loss.total.to_scalar::<f32>().unwrap();
        report.close(&format!("{} out/loss", set.name), &[total], &set.values["out/loss"], 1e-5, 0.0);
        for (name, expected) in set.group("metric/") {
            let found = loss.metrics.get(&name).unwrap_or_else(|| panic!("no metric {name}"));
            report.close(&format!("{} metric/{name}", set.name), &[*found], &expected, 1e-5, 1e-5);
        }
        let paths = agent.trainable_paths();
        for (path, grad) in paths.iter().zip(&grads) {
            let expected = &set.values[&format!("grad/{path}")];
            report.close(&format!("{} grad/{path}", set.name), &flat(grad), expected, 5e-5, 0.0);
        }
        assert_eq!(paths.len(), set.group("grad/").len());
        report.finish(80);
    });
}

fn compare_outputs(set: &Set, loss: &Loss, report: &mut Report) {
    let out = &loss.outputs;
    let pairs = [
        ("tokens", &out.tokens),
        ("repfeat/deter", &out.posterior.deter),
        ("repfeat/logit", &out.logits),
        ("entries/dyn/deter", &out.posterior.deter),
    ];
    for (name, found) in pairs {
        let expected = &set.values[&format!("out/{name}")];
        report.close(&format!("{} out/{name}", set.name), &flat(found), expected, 5e-6, 0.0);
    }
    for name in ["repfeat/stoch", "entries/dyn/stoch"] {
        let expected = &set.values[&format!("out/{name}")];
        report.equal(&format!("{} out/{name}", set.name), &flat(&out.posterior.stoch), expected);
    }
    compare_recon(set, &out.recon, report);
}

fn compare_recon(set: &Set, recon: &Recon, report: &mut Report) {
    let obs = set.description.obs(&set.values);
    for (key, expected) in set.group("out/recon/") {
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        let raw = flat(&recon[&key]);
        let found = match obs[&key].classes {
            _ if obs[&key].is_image() => raw.into_iter().map(sigmoid).collect(),
            // Either the logits are stored or the most probable class.
            Some(classes) if raw.len() > expected.to_f32().len() => raw.chunks(classes).map(most_probable).collect(),
            _ => raw,
        };
        report.close(&format!("{} out/recon/{key}", set.name), &found, &expected, 5e-6, 0.0);
    }
}

fn most_probable(logits: &[f32]) -> f32 {
    (0..logits.len()).rev().max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as f32
}

#[test]
fn parity_replay_context() {
    on_every_set(|set| {
        let mut report = Report::default();
        let (description, batch) = (&set.description, set.batch(1));
        let act = description.act();
        let carry = learner::dreamer::Carry::zeros(&description.config, &act, batch["is_first"].shape[0]).unwrap();
        let context = learner::dreamer::split(&batch, &carry, &act, description.config.replay_context).unwrap();
        for (name, expected) in set.group("trained_obs/") {
            report.equal(&format!("trained_obs/{name}"), &context.obs[&name].to_f32(), &expected);
        }
        for (name, expected) in set.group("trained_prevact/") {
            report.equal(&format!("trained_prevact/{name}"), &context.prev_actions[&name].to_f32(), &expected);
        }
        report.finish(FLAGS.len() + 2);
    });
}

#[test]
fn parity_three_training_steps() {
    on_every_set(|set| {
        let mut report = Report::default();
        let mut agent = set.agent();
        for k in 1..=3 {
            let (trained, ..) = agent.train_with(&set.batch(k), &mut set.noise()).unwrap();
            let names = [
                ("loss", "opt/loss"),
                ("grad_norm", "opt/grad_norm"),
                ("grad_rms", "opt/grad_rms"),
                ("update_rms", "opt/update_rms"),
                ("param_rms", "opt/param_rms"),
            ];
            for (name, metric) in names {
                let key = format!("train/{k}/{name}");
                report.close(&format!("{} {key}", set.name), &[trained.metrics[metric]], &set.values[&key], 5e-5, 0.0);
            }
            if k != 2 {
                compare_params(set, &agent, k, &mut report);
            }
            if set.description.config.replay_context == 0 {
                continue; // Nothing is written back.
            }
            let key = format!("train/{k}/replay/dyn");
            let deter = &set.values[&format!("{key}/deter")];
            report.close(&format!("{} {key}/deter", set.name), &trained.deter.to_f32(), deter, 5e-6 * k as f32, 0.0);
            let stoch = &set.values[&format!("{key}/stoch")];
            report.equal(&format!("{} {key}/stoch", set.name), &trained.stoch.to_f32(), stoch);
        }
        report.finish(150);
    });
}

fn compare_params(set: &Set, agent: &Agent, k: usize, report: &mut Report) {
    let mut found = to_official(&agent.save().unwrap(), &set.description.config).unwrap();
    found.retain(|path, _| !path.starts_with("opt/"));
    let expected = set.group(&format!("params_after_{k}/"));
    assert_eq!(found.len(), expected.len(), "{:?}", expected.keys());
    for (path, expected) in expected {
        let exact = ["slowval", "retnorm", "valnorm", "advnorm"].iter().any(|part| path.starts_with(part));
        // After the first step, with a learning rate of 0 if it rises at all, only slow value and normalisers have moved.
        let rises = set.description.config.opt.warmup > 0;
        let tolerance = if k == 1 && exact && (rises || !path.starts_with("slowval")) { 2e-6 } else { 2e-4 };
        let values = found[&path].to_f32();
        match k == 1 && !exact && rises {
            true => report.equal(&format!("{} params_after_{k}/{path}", set.name), &values, &expected),
            false => {
                // Advantages have a mean near zero and a size near one.
                let floor = if path.starts_with("advnorm") { 1e-6 } else { 0.0 };
                report.close(&format!("{} params_after_{k}/{path}", set.name), &values, &expected, tolerance, floor);
            }
        }
    }
}

#[test]
fn parity_policy_calls() {
    on_every_set(|set| {
        let mut report = Report::default();
        let agent = set.agent();
        // As an actor does it: over the weights of a snapshot.
        let header = SnapshotHeader { version: 1, update: 0, published: 0 };
        let region = Arc::new(format::encode(&header, &agent.policy_params().unwrap()).unwrap());
        let params = Params::read_only(&[("", &SnapshotView::open(region).unwrap())]).unwrap();
        let (config, obs, act) = (&set.description.config, set.description.obs(&set.values), set.description.act());
        let acting = Acting::new(config, &obs, &act, &params).unwrap();
        let batch = set.batch(1);
        let rows = batch["is_first"].shape[0];
        let mut acted = acting.initial(rows);
        for call in [1, 2] {
            // Call k sees step k - 1 of the batch; the first begins an episode.
            let mut obs: Columns = batch.iter().map(|(k, a)| (k.clone(), step(a, call - 1))).collect();
            if call == 1 {
                obs.insert("is_first".into(), Array::u8(&[rows], &vec![1; rows]));
            }
            acting.step(&mut acted, &obs, &mut set.noise()).unwrap();
            let key = format!("policy/{call}");
            report.close(
                &format!("{key}/deter"),
                &acted.deter.to_f32(),
                &set.values[&format!("{key}/deter")],
                5e-6,
                0.0,
            );
            report.equal(&format!("{key}/stoch"), &acted.stoch.to_f32(), &set.values[&format!("{key}/stoch")]);
            for (name, space) in set.description.act() {
                let expected = &set.values[&format!("{key}/action/{name}")];
                let tolerance = if space.is_discrete() { 0.0 } else { 5e-6 };
                report.close(&format!("{key}/action/{name}"), &acted.actions[&name].to_f32(), expected, tolerance, 0.0);
            }
        }
        report.finish(6);
    });
}

/// Step t of [B, T, …].
fn step(array: &Array, t: usize) -> Array {
    let (rows, steps) = (array.shape[0], array.shape[1]);
    let size = array.bytes.len() / (rows * steps);
    let row = |b: usize| &array.bytes[(b * steps + t) * size..][..size];
    let shape = [&[rows], &array.shape[2..]].concat();
    Array { dtype: array.dtype, shape, bytes: (0..rows).flat_map(row).copied().collect() }
}

/// Losses without updates of the normalisers, the norm of each loss's gradient, and open-loop predictions as they are drawn.
#[test]
fn parity_report() {
    let compared = Cell::new(0);
    on_every_set(|set| {
        let Ok((expected, _)) = load(&copies().join(format!("report/{}.safetensors", set.name))) else { return };
        let mut set = Set { name: set.name.clone(), values: set.values.clone(), description: set.description.clone() };
        set.values.extend(expected);
        set.description.config.report_gradnorms = true;
        let agent = set.agent();
        let before = agent.save().unwrap();
        let reported = agent.report(&set.batch(1), &mut set.noise()).unwrap();
        assert_eq!(agent.save().unwrap(), before, "a report changes nothing");
        let mut report = Report::default();
        for (name, expected) in set.group("report/") {
            let what = format!("{} report/{name}", set.name);
            match name.strip_prefix("openloop/") {
                Some(key) => report.alike(&what, &video(&reported.predictions[key]), &expected),
                None => {
                    let tolerance = if name.starts_with("loss/") { 1e-5 } else { 5e-5 };
                    report.close(&what, &[reported.metrics[&name]], &expected, tolerance, 0.0);
                }
            }
        }
        compared.set(compared.get() + report.checked);
        report.finish(15);
    });
    assert!(compared.get() > 0 || folder() != copies(), "there are reference values of reports");
}

#[test]
fn parity_optimizer() {
    let file = folder().join("optimizer.safetensors");
    let copy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/optimizer.safetensors");
    let (values, _) = load(if file.exists() { &file } else { &copy }).unwrap();
    let group = |prefix: &str| -> Tree {
        values.iter().filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_string(), v.clone()))).collect()
    };
    let mut report = Report::default();
    for (name, wd) in [("wd0", 0.0), ("wd", 0.05)] {
        let store = Params::<Create>::on(0, device());
        for (path, value) in group("params/") {
            store.get(&path, &value.shape, Init::Zeros).unwrap();
        }
        let store = store.seal().unwrap();
        store.restore(&group("params/")).unwrap();
        let text = format!(
            r#"{{"lr": 1e-2, "agc": 0.3, "eps": 1e-20, "beta1": 0.9, "beta2": 0.999, "momentum": true, "wd": {wd},
                "schedule": "const", "warmup": 3, "anneal": 0}}"#
        );
        let config: OptConfig = serde_json::from_str(&text).unwrap();
        let mut optimizer = Optimizer::new(&config, store.trainable()).unwrap();
        for k in 1..=6 {
            let grads: BTreeMap<_, _> = group(&format!("grad_{k}/"));
            let grad = |(path, var): &(String, Var)| grads[path].to_tensor().unwrap().to_device(var.device()).unwrap();
            let grads: Vec<Tensor> = store.trainable().iter().map(grad).collect();
            optimizer.step(&grads).unwrap();
            let found = store.trainable_tree().unwrap();
            for (path, expected) in group(&format!("{name}/params_after_{k}/")) {
                report.close(&format!("{name} after {k}: {path}"), &found[&path].to_f32(), &expected, 1e-5, 0.0);
            }
        }
    }
    report.finish(24);
}

/// Activations in bfloat16 have 8 bits of mantissa, and the two codes round in other places.
#[test]
fn bfloat16_agrees_to_its_precision() {
    let sets = sets(&copies().join("bfloat16"));
    assert!(!sets.is_empty());
    for set in sets.iter().map(|json| Set::load(json.as_path())) {
        let mut report = Report::default();
        let (_, loss, grads) = set.agent_on(&Device::Cpu).train_with(&set.batch(1), &mut set.noise()).unwrap();
        let posterior = &loss.outputs.posterior;
        let activations = [
            ("tokens", &loss.outputs.tokens),
            ("repfeat/deter", &posterior.deter),
            ("repfeat/logit", &loss.outputs.logits),
        ];
        for (name, found) in activations {
            let found = flat(found);
            assert!(found.iter().all(|x| x.to_bits() & 0xffff == 0), "{name} is not in bfloat16");
            report.close(name, &found, &set.values[&format!("out/{name}")], 0.03, 0.0);
        }
        report.equal("repfeat/stoch", &flat(&posterior.stoch), &set.values["out/repfeat/stoch"]);
        for (name, expected) in set.group("loss/") {
            report.close(&format!("loss/{name}"), &flat(&loss.losses[&name]), &expected, 0.02, 0.0);
        }
        // The official code sums the gradients of these over all pixels in bfloat16, which leaves little of them.
        let rough = |path: &str| path.starts_with("enc/cnn0") || (path.starts_with("dec/") && path.ends_with("/bias"));
        for (path, found) in set.agent_on(&Device::Cpu).trainable_paths().iter().zip(&grads) {
            if !rough(path) {
                report.close(&format!("grad/{path}"), &flat(found), &set.values[&format!("grad/{path}")], 0.1, 0.0);
            }
        }
        report.finish(100);
    }
}

/// Operands of products in bfloat16, everything else in float32: on a processor without instructions for it, all is float32.
#[test]
fn bf16_products_agree_to_their_precision() {
    for set in sets(&folder()).iter().map(|json| Set::load(json.as_path())) {
        let mut config = set.description.config.clone();
        config.products = Precision::Bf16;
        let mut set = set;
        set.description.config = config;
        let mut report = Report::default();
        let (_, loss, grads) = set.agent_on(&Device::Cpu).train_with(&set.batch(1), &mut set.noise()).unwrap();
        report.close("tokens", &flat(&loss.outputs.tokens), &set.values["out/tokens"], 0.03, 0.0);
        for (name, expected) in set.group("loss/") {
            report.close(&format!("loss/{name}"), &flat(&loss.losses[&name]), &expected, 0.02, 0.0);
        }
        for (path, found) in set.agent_on(&Device::Cpu).trainable_paths().iter().zip(&grads) {
            // The first stages' are sums over many pixels that nearly cancel.
            let tolerance = if path.starts_with("enc/cnn") { 0.25 } else { 0.1 };
            report.close(&format!("grad/{path}"), &flat(found), &set.values[&format!("grad/{path}")], tolerance, 0.0);
        }
        report.finish(40);
    }
}

/// The tests whose names begin with one of `names`, with other kernels or products.
fn again((variable, value): (&str, &str), names: &[&str], passed: usize) {
    let tests =
        std::process::Command::new(std::env::current_exe().unwrap()).args(names).env(variable, value).output().unwrap();
    let output = String::from_utf8_lossy(&tests.stdout);
    assert!(tests.status.success() && output.contains(&format!("test result: ok. {passed} passed")), "{output}");
}

/// The same with the kernels of processors that lack AVX-512.
#[test]
fn portable_kernels_agree_too() {
    again(("LUCID_KERNELS", "portable"), &["parity_", "bfloat16_"], 7);
}

/// The same with operands of products split into two numbers, where the processor has tiles.
#[test]
fn split_products_agree_too() {
    again((PRODUCTS, "split"), &["parity_"], 6);
}

/// The same with candle's tensor operations and gradients, which is what a GPU computes.
#[test]
fn plain_operations_agree_too() {
    again(("LUCID_KERNELS", "plain"), &["parity_"], 6);
}
