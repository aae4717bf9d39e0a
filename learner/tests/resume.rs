//! A restored agent and replay go on exactly as the ones that were not stopped.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::Device;
use learner::agent::{Agent, Origin, Trained};
use learner::replay::{Damaged, Replay};
use shared::array::Array;
use shared::config::Config;
use shared::experience::{Chunk, DETER, STOCH, StreamId, UPDATE, VERSION, classes_of};
use shared::params::Tree;

use actor::agent_spaces;
use actor::env::{Action, make};

/// Steps of the dummy environment with random actions, as an actor would have recorded them.
fn chunk(config: &Config, steps: usize) -> Chunk {
    let mut env = make(&config.env, 3).unwrap();
    let spaces = (env.obs_space(), env.act_space());
    let rssm = &config.agent.dynamics.rssm;
    let mut rows: BTreeMap<String, Vec<Array>> = BTreeMap::new();
    let mut next = Action::reset();
    for i in 0..steps {
        let step = env.step(&next).unwrap();
        let last = step.get("is_last").unwrap().bytes[0] != 0;
        for key in spaces.0.keys() {
            rows.entry(key.clone()).or_default().push(step.get(key).unwrap().clone());
        }
        let values: BTreeMap<String, Array> =
            spaces.1.iter().map(|(key, space)| (key.clone(), Array::zeros(space.dtype, &space.shape))).collect();
        values.iter().for_each(|(key, array)| rows.entry(key.clone()).or_default().push(array.clone()));
        let noise = |n: usize| (0..n).map(|j| ((i * 7 + j * 3) % 11) as f32 / 11.0 - 0.5).collect::<Vec<f32>>();
        rows.entry(DETER.into()).or_default().push(Array::f32(&[rssm.deter], &noise(rssm.deter)));
        let classes: Vec<u16> = (0..rssm.stoch).map(|j| ((i * 7 + j * 3) % rssm.classes) as u16).collect();
        rows.entry(STOCH.into()).or_default().push(Array::u16(&[rssm.stoch], &classes));
        rows.entry(VERSION.into()).or_default().push(Array::u64(&[], &[1]));
        rows.entry(UPDATE.into()).or_default().push(Array::u64(&[], &[0]));
        next = if last { Action::reset() } else { Action { reset: false, values } };
    }
    let columns = rows.into_iter().map(|(key, rows)| (key, Array::stack(&rows.iter().collect::<Vec<_>>()))).collect();
    Chunk { stream: StreamId { actor: 0, generation: 0, env: 0 }, first_step: 0, columns }
}

fn update(agent: &mut Agent, replay: &Replay, rows: usize) -> Trained {
    let sampled = replay.sample(rows).unwrap();
    let trained = agent.train(&sampled.batch).unwrap();
    let stoch = classes_of(&trained.stoch);
    replay.write_latents(&sampled.ids, &trained.deter, &stoch, agent.updates()).unwrap();
    trained
}

#[test]
fn the_next_updates_after_a_restore_are_the_same_to_the_bit() {
    let config = Config::load(&["dummy"], &["agent.retnorm.debias=true", "agent.valnorm.impl=meanstd"]).unwrap();
    let env = make(&config.env, 3).unwrap();
    let (obs, act) = (agent_spaces(&env.obs_space(), &config.vit, None).unwrap(), env.act_space());
    let origin = || Origin {
        obs: &obs,
        act: &act,
        seed: 5,
        statistics: Tree::new(),
        pretrained: Tree::new(),
        freeze: &[],
        device: Device::Cpu,
    };
    let (length, context, rows) = (config.agent.sample_length(), config.agent.replay_context, config.agent.batch_size);
    let dir = tempfile::tempdir().unwrap();
    let replay = Replay::new(&config.replay, length, context, 5, dir.path()).unwrap();
    replay.insert(&chunk(&config, 150)).unwrap();
    let mut agent = Agent::new(&config.agent(), origin()).unwrap();
    for _ in 0..3 {
        update(&mut agent, &replay, rows);
    }
    let state = agent.save().unwrap();
    let manifest = replay.save().unwrap();

    let mut again = Agent::restore(&config.agent(), origin(), state.clone()).unwrap();
    let (reloaded, dropped) =
        Replay::load(&config.replay, length, context, dir.path(), &manifest, Damaged::Refuse).unwrap();
    assert!(dropped.is_empty());
    assert_eq!(again.save().unwrap(), state);
    for _ in 0..3 {
        let (went_on, restored) = (update(&mut agent, &replay, rows), update(&mut again, &reloaded, rows));
        assert_eq!(went_on.metrics, restored.metrics);
        assert_eq!((went_on.deter, went_on.stoch), (restored.deter, restored.stoch));
        assert_eq!(agent.save().unwrap(), again.save().unwrap());
    }
}
