//! A step of acting over a snapshot's weights: the same as with tensors, and nothing is allocated.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use half::f16;
use shared::array::{Array, DType};
use shared::config::{AgentConfig, Config};
use shared::dist::{Draws, Seeded};
use shared::dreamer::inputs::Columns;
use shared::dreamer::{Acting, Choice, State};
use shared::env::{Space, Spaces};
use shared::params::{Create, Params, Region, Weight, to_tree};
use shared::snapshot::format::{self, SnapshotHeader, SnapshotView};

/// Everything an agent can see, and both kinds of actions.
fn spaces() -> (Spaces, Spaces) {
    let obs = [
        ("position", Space::vector(&[5])),
        ("cue", Space::discrete(&[2], 3)),
        ("camera", Space::image(64, 64, 3)),
        ("depth", Space::image(64, 64, 1)),
        ("frame", Space::image(70, 70, 3)),
        ("vit/frame", Space { dtype: DType::F16, ..Space::vector(&[4, 6]) }),
    ];
    let act = [("turn", Space::discrete(&[2], 5)), ("push", Space::bounded(&[3], -1.0, 1.0))];
    let owned = |spaces: &[(&str, Space)]| spaces.iter().map(|(k, s)| (k.to_string(), s.clone())).collect();
    (owned(&obs), owned(&act))
}

fn config(set: &[&str]) -> AgentConfig {
    Config::load(&["size1m"], set).unwrap().acting()
}

/// With tensors over variables, and over a snapshot of these.
fn both(config: &AgentConfig) -> [Acting; 2] {
    let (obs, act) = spaces();
    let params = Params::<Create>::new(3);
    let plain = Acting::new(config, &obs, &act, &params).unwrap();
    let params = params.seal().unwrap();
    // Biases that are not zero and scales that are not one.
    let (mut values, mut draws) = (to_tree(&params.subset(&["."]).unwrap()).unwrap(), Seeded::new(4));
    for array in values.values_mut() {
        let noise = draws.normal(&array.shape);
        let moved: Vec<f32> = array.to_f32().iter().zip(noise).map(|(x, n)| x + 0.05 * n).collect();
        *array = Array::f32(&array.shape, &moved);
    }
    params.set_all(&values).unwrap();
    let weights: Vec<(String, Weight)> =
        params.paths().into_iter().map(|path| (path.clone(), params.lookup(&path).unwrap())).collect();
    let header = SnapshotHeader { version: 1, update: 0, published: 0 };
    let region: Region = Arc::new(format::encode(&header, &weights).unwrap());
    let mapped = Params::read_only(&[("", &SnapshotView::open(region).unwrap())]).unwrap();
    [plain, Acting::new(config, &obs, &act, &mapped).unwrap()]
}

/// Observations of step `t`; the second of several environments begins an episode at step 2.
fn observe(t: usize, rows: usize) -> Columns {
    let mut draws = Seeded::new(t as u64);
    let mut columns = Columns::new();
    for (key, space) in spaces().0 {
        let shape = [&[rows], space.shape.as_slice()].concat();
        let numbers = draws.normal(&shape);
        let array = match space.dtype {
            DType::U8 => Array::u8(&shape, &numbers.iter().map(|x| (127.0 + 60.0 * x) as u8).collect::<Vec<_>>()),
            DType::I32 => Array::i32(&shape, &numbers.iter().map(|x| (x.abs() * 9.0) as i32 % 3).collect::<Vec<_>>()),
            DType::F16 => Array::f16(&shape, &numbers.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>()),
            _ => Array::f32(&shape, &numbers),
        };
        columns.insert(key, array);
    }
    let first: Vec<u8> = (0..rows).map(|row| (t == 0 || (t == 2 && row == 1)) as u8).collect();
    columns.insert("is_first".into(), Array::u8(&[rows], &first));
    columns
}

fn assert_same(set: &[&str], rows: usize) {
    let config = config(set);
    let networks = both(&config);
    let mut acted = networks.each_ref().map(|acting| acting.initial(rows));
    for t in 0..4 {
        let obs = observe(t, rows);
        for (acting, acted) in networks.iter().zip(&mut acted) {
            acting.step(acted, &obs, &mut Seeded::new(9 + t as u64)).unwrap();
        }
        let [plain, mapped] = &acted;
        assert_eq!(plain.stoch, mapped.stoch, "{set:?} step {t}: stoch");
        assert_eq!(plain.actions["turn"], mapped.actions["turn"], "{set:?} step {t}: a discrete action");
        let pairs = [(&plain.deter, &mapped.deter), (&plain.actions["push"], &mapped.actions["push"])];
        for (expected, found) in pairs {
            assert_eq!(expected.shape, found.shape);
            let worst = expected.to_f32().iter().zip(found.to_f32()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-5, "{set:?} step {t}: {worst}");
        }
        assert!(plain.deter.to_f32().iter().all(|x| x.is_finite() && *x != 0.0), "the state moves");
    }
}

#[test]
fn a_step_over_mapped_weights_is_the_step_with_tensors() {
    for rows in [1, 3, 16] {
        assert_same(&[], rows);
    }
    assert_same(&["agent.dyn.rssm.absolute=true", "agent.dyn.rssm.obslayers=2", "agent.policy.layers=2"], 2);
    assert_same(&["agent.enc.simple.symlog=false", "vit.reduce=2", "agent.dyn.rssm.unimix=0.1"], 2);
    assert_same(&["vit.pool=attention", "vit.queries=3", "vit.reduce=2"], 2);
    assert_same(&["vit.pool=attention", "vit.reduce=0", "vit.adapter={layers=1, units=7}"], 3);
}

#[test]
fn other_layers_and_precisions_act_too() {
    assert_same(&["agent.enc.simple.strided=true"], 2);
    assert_same(&["agent.dyn.rssm.dynlayers=2"], 2);
    assert_same(&["agent.policy.norm=layer"], 2);
    assert_same(&["agent.compute_dtype=bfloat16"], 2);
    assert_same(&["vit.pool=attention", "agent.compute_dtype=bfloat16"], 2);
    assert_same(&["vit.adapter={layers=1, act=\"none\", norm=\"layer\"}"], 2);
}

#[test]
fn a_step_over_mapped_weights_allocates_nothing() {
    let precisions = ["float32", "split", "bf16"].map(|name| format!("actor.precision={name}"));
    let options = precisions.iter().flat_map(|option| [(option.as_str(), 1), (option.as_str(), 16)]);
    for (option, rows) in options.chain([("vit.pool=attention", 3)]) {
        let [_, acting] = both(&config(&[option]));
        let (mut acted, mut draws) = (acting.initial(rows), Seeded::new(1));
        let obs = observe(1, rows);
        let mut step = || acting.step(&mut acted, &obs, &mut draws).unwrap();
        assert!(allocation_counter::measure(&mut step).count_total > 0, "the counter counts");
        step();
        assert_eq!(allocation_counter::measure(step).count_total, 0, "{option}, {rows} environments");
    }
}

/// Of six environments some act and others do not: as if each acted alone, and without allocations.
#[test]
fn what_some_environments_carry_is_taken_from_all_and_given_back() {
    let [_, acting] = both(&config(&[]));
    let mut all = acting.initial(6);
    acting.step(&mut all, &observe(0, 6), &mut Seeded::new(1)).unwrap();
    let (mut some, mut draws) = (acting.initial(6), Seeded::new(2));
    let mut act = |envs: &[usize], obs: &Columns| {
        some.gather(&all, envs);
        acting.step(&mut some, obs, &mut draws).unwrap();
        some.scatter(&mut all, envs);
        (all.deter.clone(), all.actions["turn"].clone(), some.deter.clone())
    };
    let choices = [[4, 0, 3].as_slice(), &[5], &[1, 0, 2, 3, 4]];
    let before = act(&[0, 1, 2, 3, 4, 5], &observe(1, 6)).0;
    let (after, _, rows) = act(choices[0], &observe(3, 3));
    for env in 0..6 {
        match choices[0].iter().position(|acted| *acted == env) {
            Some(row) => assert_eq!(after.row(env), rows.row(row), "{env}"),
            None => assert_eq!(after.row(env), before.row(env), "{env}"),
        }
    }
    assert_ne!(after, before);
    let observed: Vec<Columns> = choices.iter().map(|envs| observe(1, envs.len())).collect();
    let mut round = || {
        for (envs, obs) in choices.iter().zip(&observed) {
            some.gather(&all, envs);
            acting.step(&mut some, obs, &mut draws).unwrap();
            some.scatter(&mut all, envs);
        }
    };
    // Buffers take turns.
    (0..4).for_each(|_| round());
    assert_eq!(allocation_counter::measure(round).count_total, 0);
}

/// The first state of an episode, in float32 with tensors and in another precision over a snapshot.
#[test]
fn products_in_other_precisions_act_nearly_the_same() {
    for (precision, tolerance) in [("split", 2e-5), ("bf16", 2e-2)] {
        let [plain, _] = both(&config(&[]));
        let [_, acting] = both(&config(&[&format!("actor.precision={precision}")]));
        let obs = observe(1, 3);
        let deter = [&plain, &acting].map(|acting| {
            let mut acted = acting.initial(3);
            acting.step(&mut acted, &obs, &mut Seeded::new(1)).unwrap();
            acted.deter.to_f32()
        });
        let differ = deter[0].iter().zip(&deter[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(differ <= tolerance, "{precision}: {differ:e}");
    }
}

#[test]
fn observations_that_do_not_fit_are_refused_by_name() {
    for acting in both(&config(&[])) {
        let mut acted = acting.initial(2);
        let refuse = |key: &str, array: Array, acted: &mut _| {
            let mut obs = observe(0, 2);
            obs.insert(key.into(), array);
            acting.step(acted, &obs, &mut Seeded::new(1)).unwrap_err().to_string()
        };
        let error = refuse("position", Array::zeros(DType::F32, &[2, 4]), &mut acted);
        assert!(error.contains("`position`"), "{error}");
        let mut obs = observe(0, 2);
        obs.remove("cue");
        let error = acting.step(&mut acted, &obs, &mut Seeded::new(1)).unwrap_err().to_string();
        assert!(error.contains("`cue`"), "{error}");
    }
}

/// Modes against the distributions: the likeliest class, and the mean of the bounded normal; both kinds of weights, and no noise.
#[test]
fn the_mode_of_an_action_is_the_likeliest_class_and_the_mean() {
    for set in [&[][..], &["agent.policy.norm=layer"]] {
        for acting in both(&config(set)).map(|acting| acting.choosing(Choice::Mode)) {
            let mut acted = acting.initial(3);
            for t in 0..3 {
                acting.step(&mut acted, &observe(t, 3), &mut Seeded::new(t as u64)).unwrap();
                let [deter, stoch] = [&acted.deter, &acted.stoch].map(|state| state.to_tensor().unwrap());
                let features = State { deter, stoch }.features().unwrap();
                let raw = acting.policy.forward(&features).unwrap();
                let logits = raw["turn"].reshape((3, 2, 5)).unwrap();
                let likeliest = logits.argmax(2).unwrap().flatten_all().unwrap().to_vec1::<u32>().unwrap();
                let found = acted.actions["turn"].to_f32().iter().map(|x| *x as u32).collect::<Vec<_>>();
                assert_eq!(
                    (found, acted.actions["turn"].shape.as_slice()),
                    (likeliest, &[3, 2][..]),
                    "{set:?} step {t}"
                );
                let means = raw["push"].narrow(1, 0, 3).unwrap().tanh().unwrap().flatten_all().unwrap();
                let means = means.to_vec1::<f32>().unwrap();
                let pairs = means.iter().zip(acted.actions["push"].to_f32());
                let worst = pairs.map(|(mean, found)| (mean - found).abs()).fold(0.0, f32::max);
                assert!(worst < 2e-5 && means.iter().any(|x| x.abs() > 1e-3), "{set:?} step {t}: {worst}");
            }
        }
    }
}

/// Only the actions are without noise: the state is drawn, and the same draws give the same state whichever way actions are chosen.
#[test]
fn the_state_is_sampled_whichever_way_actions_are_chosen() {
    let [plain, mapped] = both(&config(&[]));
    let first = |acting: &Acting, seed| {
        let mut acted = acting.initial(3);
        acting.step(&mut acted, &observe(0, 3), &mut Seeded::new(seed)).unwrap();
        (acted.stoch, acted.actions["push"].to_f32())
    };
    for acting in [plain, mapped] {
        let sampled = first(&acting, 1);
        let acting = acting.choosing(Choice::Mode);
        let (mode, other) = (first(&acting, 1), first(&acting, 2));
        assert_eq!(sampled.0, mode.0);
        assert_ne!(mode.0, other.0, "another draw is another state");
        assert_ne!(sampled.1, mode.1);
    }
}
