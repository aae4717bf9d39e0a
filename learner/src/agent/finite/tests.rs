//! Numbers that are not finite, put in wherever they can arise: what is wrong is named, and nothing of the agent changes.

use std::collections::BTreeMap;

use actor::agent_spaces;
use actor::env::{Action, make};
use candle_core::{Device, Tensor, Var};
use shared::array::Array;
use shared::config::Config;
use shared::env::Spaces;
use shared::experience::{DETER, STOCH};
use shared::params::Tree;

use crate::agent::{Agent, AgentError, Batch, Origin};

/// An agent of `dummy` with a batch that it can train on.
struct Setup {
    config: Config,
    spaces: [Spaces; 2],
    batch: Batch,
}

impl Setup {
    fn new(sets: &[&str]) -> Self {
        let config = Config::load(&["dummy"], sets).unwrap();
        let env = make(&config.env, 3).unwrap();
        let spaces = [agent_spaces(&env.obs_space(), &config.vit, None).unwrap(), env.act_space()];
        let batch = batch(&config, &spaces);
        Self { config, spaces, batch }
    }

    fn origin(&self) -> Origin<'_> {
        let [obs, act] = &self.spaces;
        let (statistics, pretrained) = (Tree::new(), Tree::new());
        Origin { obs, act, seed: 5, statistics, pretrained, freeze: &[], device: Device::Cpu }
    }

    /// After a few updates.
    fn agent(&self) -> Agent {
        let mut agent = Agent::new(&self.config.agent(), self.origin()).unwrap();
        for _ in 0..3 {
            agent.train(&self.batch).unwrap();
        }
        agent
    }

    fn restore(&self, state: BTreeMap<String, Array>) -> Result<Agent, AgentError> {
        Agent::restore(&self.config.agent(), self.origin(), state)
    }
}

/// One episode's steps in every row, by the environment under actions of zeros.
fn batch(config: &Config, [_, act]: &[Spaces; 2]) -> Batch {
    let mut env = make(&config.env, 3).unwrap();
    let (rows, steps) = (config.agent.batch_size, config.agent.sample_length());
    let zeros: BTreeMap<String, Array> =
        act.iter().map(|(k, s)| (k.clone(), Array::zeros(s.dtype, &s.shape))).collect();
    let mut columns: BTreeMap<String, Vec<Array>> = BTreeMap::new();
    for _ in 0..rows {
        let mut next = Action::reset();
        for _ in 0..steps {
            let step = env.step(&next).unwrap();
            let last = step.get("is_last").unwrap().bytes[0] != 0;
            step.keys().for_each(|key| columns.entry(key.clone()).or_default().push(step.get(key).unwrap().clone()));
            zeros.iter().for_each(|(key, zero)| columns.entry(key.clone()).or_default().push(zero.clone()));
            next = if last { Action::reset() } else { Action { reset: false, values: zeros.clone() } };
        }
    }
    let stacked = |values: Vec<Array>| {
        let all = Array::stack(&values.iter().collect::<Vec<_>>());
        Array { shape: [&[rows, steps], &all.shape[1..]].concat(), ..all }
    };
    let mut batch: Batch = columns.into_iter().map(|(key, values)| (key, stacked(values))).collect();
    let rssm = &config.agent.dynamics.rssm;
    batch.insert(DETER.into(), Array::zeros(shared::array::DType::F32, &[rows, steps, rssm.deter]));
    batch.insert(STOCH.into(), Array::zeros(shared::array::DType::U16, &[rows, steps, rssm.stoch]));
    batch.insert("consec".into(), Array::i32(&[rows], &vec![0; rows]));
    batch
}

/// The update is refused for this, and the state is what it was, to the bit.
fn refused(agent: &mut Agent, batch: &Batch) -> String {
    let before = state(agent);
    let Err(AgentError::NotFinite { what }) = agent.train(batch) else { panic!("the update was made") };
    assert!(state(agent) == before, "{what}: the agent has changed");
    what.to_string()
}

/// All bits of the agent that a checkpoint would hold; of one that is spoilt too.
fn state(agent: &Agent) -> (Option<BTreeMap<String, Array>>, Vec<Vec<u32>>, u64) {
    let bits =
        |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|x| x.to_bits()).collect();
    let params = agent.params().trainable().iter().map(|(_, var)| bits(var.as_tensor())).collect();
    (agent.save().ok(), params, agent.updates())
}

fn poison(agent: &Agent, path: &str, value: f32) {
    let (_, var) = agent.params().trainable().into_iter().find(|(p, _)| p == path).unwrap();
    poison_last(&var, value);
}

fn poison_last(var: &Var, value: f32) {
    let mut values = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let last = values.len() - 1;
    values[last] = value;
    var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
}

#[test]
fn a_column_of_a_batch_is_named_with_row_and_step() {
    let setup = Setup::new(&[]);
    let mut agent = setup.agent();
    for (key, bad) in [("reward", f32::NAN), ("vector", f32::INFINITY), (DETER, f32::NEG_INFINITY)] {
        let mut batch = setup.batch.clone();
        let Some(column) = batch.get_mut(key) else { panic!("{key} is none of {:?}", setup.batch.keys()) };
        let steps = column.shape[1];
        let mut values = column.to_f32();
        let width = values.len() / column.shape[0] / steps;
        values[(2 * steps + 5) * width] = bad;
        *column = Array::f32(&column.shape.clone(), &values);
        assert_eq!(refused(&mut agent, &batch), format!("batch column `{key}`, row 2, step 5"));
    }
    agent.train(&setup.batch).unwrap();
}

#[test]
fn a_parameter_is_named_and_never_saved() {
    let setup = Setup::new(&[]);
    for (path, bad) in [("pol/mlp/linear0/kernel", f32::NAN), ("dec/spnorm/scale", f32::INFINITY)] {
        let mut agent = setup.agent();
        let paths = agent.trainable_paths();
        let path = paths.iter().find(|p| *p == path || p.starts_with(&path[..4])).unwrap();
        poison(&agent, path, bad);
        assert_eq!(refused(&mut agent, &setup.batch), format!("parameter `{path}`"));
        let error = agent.save().unwrap_err().to_string();
        assert!(error.contains(&format!("`params/{path}`")) && error.contains("newest checkpoint stays"), "{error}");
    }
}

#[test]
fn the_slow_value_is_named_and_not_a_loss_that_it_spoils() {
    let setup = Setup::new(&[]);
    let mut agent = setup.agent();
    let (path, slow) = agent.slow_params.trainable().into_iter().next_back().unwrap();
    poison_last(&slow, f32::NAN);
    assert_eq!(refused(&mut agent, &setup.batch), format!("parameter `{path}`"));
    let error = agent.save().unwrap_err().to_string();
    assert!(error.contains("`slow/"), "{error}");
}

#[test]
fn a_normaliser_is_named_and_never_saved() {
    let setup = Setup::new(&[]);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut agent = setup.agent();
        agent.norms.returns.stats.high = bad;
        assert_eq!(refused(&mut agent, &setup.batch), "normaliser `returns`");
        let error = agent.save().unwrap_err().to_string();
        assert!(error.contains("`norm/returns`"), "{error}");
    }
}

#[test]
fn a_loss_that_its_scale_makes_infinite_is_named() {
    // Finite as an option, infinite as a float32 loss.
    for (key, name) in [("rew", "rew"), ("rec", "image"), ("policy", "policy")] {
        let sound = Setup::new(&[]);
        let state = sound.agent().save().unwrap();
        let setup = Setup::new(&[&format!("agent.loss_scales.{key}=1e300")]);
        let mut agent = setup.restore(state).unwrap();
        assert_eq!(refused(&mut agent, &setup.batch), format!("loss `{name}`"));
    }
}

#[test]
fn a_gradient_that_overflows_behind_finite_losses_is_named() {
    let state = Setup::new(&[]).agent().save().unwrap();
    let setup = Setup::new(&["agent.loss_scales.con=1e5"]);
    let mut agent = setup.restore(state).unwrap();
    // A loss of about 1e37 through a layer whose outputs are so small that its norm makes gradients a hundred times larger.
    for (path, value) in [("linear0/kernel", 0.0), ("linear0/bias", 1e-3), ("logit/kernel", -1e33)] {
        let params = agent.params().trainable();
        let (_, var) = params.iter().find(|(p, _)| p.starts_with("con/") && p.ends_with(path)).unwrap();
        var.set(&var.affine(0.0, value).unwrap()).unwrap();
    }
    let what = refused(&mut agent, &setup.batch);
    assert!(what.starts_with("gradient of `con/mlp/"), "{what}");
}

#[test]
fn a_step_that_leaves_float32_is_not_begun() {
    let state = Setup::new(&[]).agent().save().unwrap();
    // Gradients that float32 holds, though not their squares.
    let setup = Setup::new(&["agent.opt.agc=0.0", "agent.loss_scales.rew=1e25"]);
    let mut agent = setup.restore(state).unwrap();
    let what = refused(&mut agent, &setup.batch);
    assert!(what.starts_with("the next value of parameter `"), "{what}");
}

#[test]
fn what_overflows_in_half_precision_is_caught_where_its_parameters_are_finite() {
    let setup = Setup::new(&["run.learner_precision=bf16"]);
    let mut agent = setup.agent();
    // Finite in float32, and infinite once rounded to bfloat16.
    let path = agent.trainable_paths().into_iter().find(|p| p.starts_with("rew/") && p.ends_with("kernel")).unwrap();
    poison(&agent, &path, f32::MAX);
    let what = refused(&mut agent, &setup.batch);
    assert!(what.starts_with("loss `") || what.starts_with("gradient of `"), "{what}");
}

#[test]
fn a_state_with_such_a_number_is_not_gone_on_from() {
    let setup = Setup::new(&[]);
    let state = setup.agent().save().unwrap();
    for prefix in ["params/", "slow/", "opt/rms/", "opt/momentum/", "norm/returns", "carry/deter"] {
        let mut state = state.clone();
        let (key, array) = state.iter_mut().find(|(key, _)| key.starts_with(prefix)).unwrap();
        let mut values = array.to_f32();
        values[0] = f32::NAN;
        *array = Array::f32(&array.shape.clone(), &values);
        let key = key.clone();
        let error = setup.restore(state).err().unwrap().to_string();
        assert!(error.contains(&format!("`{key}`")), "{error}");
    }
}
