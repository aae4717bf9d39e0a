//! Suites of environments, against what the wrappers of the official DreamerV3 code show (`tests/suites.py`).

#![allow(clippy::unwrap_used)]

// Of the Pythons there only one is of use here.
#[allow(dead_code)]
#[path = "../../tests/python.rs"]
mod python;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use actor::env::{Action, Env, Outcome, Step, make};
use serde_json::Value;
use shared::array::Array;
use shared::config::{Config, EnvConfig};
use shared::env::{FLAGS, Space};

/// What pip installs, once for all runs of the tests.
const PACKAGES: [&str; 9] = [
    "gymnasium[classic-control,box2d]",
    "numpy<2", // for procgen
    "pillow",
    "dm-control==1.0.50",
    "mujoco==3.17.0",
    "ale-py==0.12.1",
    "minigrid==3.2.0",
    "crafter==1.8.3",
    "procgen-mirror==0.10.7",
];
const RECORDS: &str = include_str!("../../tests/suites.json");
const SEED: u64 = 5;

fn with_suites() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| python::filled("suites-venv", &PACKAGES).join("bin/python3").to_str().unwrap().into())
}

fn config(preset: &str, sets: &[&str], python: &str) -> EnvConfig {
    let python = format!("env.python={python}");
    let own = [python.as_str(), "env.timeout=1e6"];
    Config::load(&[preset], &[&own, sets].concat()).unwrap().env
}

fn env(preset: &str, sets: &[&str]) -> Box<dyn Env> {
    make(&config(preset, sets, with_suites()), SEED).unwrap()
}

/// As in `tests/suites.py`.
fn action(space: &Space, step: usize) -> Action {
    let value = match space.classes {
        Some(classes) => Array::i32(&[], &[((step * step * 7 + step / 5) % classes) as i32]),
        None => {
            let numbers = (0..space.elements()).map(|i| (((step * 7 + i * 3) % 11) as f64 / 5.0 - 1.0) as f32);
            Array::f32(&space.shape, &numbers.collect::<Vec<_>>())
        }
    };
    Action::act([("action".to_string(), value)].into())
}

/// FNV-1a, 64 bits.
fn digest(bytes: &[u8]) -> String {
    let value = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |value, &byte| (value ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{value:016x}")
}

/// First and last step, sum of rewards, and the steps that ended episodes with whether they are terminal.
fn play(env: &mut dyn Env, steps: usize) -> (Step, Step, f64, Vec<(u64, bool)>) {
    let space = env.act_space()["action"].clone();
    let first = env.step(&Action::reset()).unwrap();
    assert_eq!(Outcome::of(&first), Outcome::first());
    let (mut last, mut rewards, mut ends) = (first.clone(), 0.0, Vec::new());
    for step in 0..steps {
        last = env.step(&action(&space, step)).unwrap();
        let outcome = Outcome::of(&last);
        rewards += f64::from(outcome.reward);
        if outcome.is_last {
            ends.push((step as u64, outcome.is_terminal));
            last = env.step(&Action::reset()).unwrap();
        }
    }
    (first, last, rewards, ends)
}

/// That a step shows what was recorded: the same pixels, and numbers but for what processors differ in.
fn shows(step: &Step, record: &Value, task: &str) {
    match record {
        Value::String(pixels) => assert_eq!(&digest(&step["image"].bytes), pixels, "{task}"),
        Value::Object(numbers) => {
            let keys: Vec<_> = step.keys().filter(|key| !FLAGS.contains(&key.as_str())).collect();
            assert_eq!(keys.len(), numbers.len(), "{task}: {keys:?}");
            for (key, expected) in numbers {
                for (found, expected) in step[key].to_f32().into_iter().zip(expected.as_array().unwrap()) {
                    let expected = expected.as_f64().unwrap();
                    let apart = (f64::from(found) - expected).abs();
                    assert!(apart <= 1e-3 * expected.abs().max(1.0), "{task}: {key} is {found}, not {expected}");
                }
            }
        }
        other => panic!("{other}"),
    }
}

/// Play a recorded task with the settings of its preset, and compare.
fn compare(preset: &str, sets: &[&str]) {
    let records: Value = serde_json::from_str(RECORDS).unwrap();
    let task = config(preset, sets, with_suites()).task;
    let record = &records[&task];
    let (first, last, rewards, ends) = play(&mut *env(preset, sets), record["steps"].as_u64().unwrap() as usize);
    shows(&first, &record["first"], &task);
    shows(&last, &record["last"], &task);
    let expected = record["rewards"].as_f64().unwrap();
    assert!((rewards - expected).abs() < 1e-3, "{task}: {rewards}, not {expected}");
    let expected: Vec<(u64, bool)> = serde_json::from_value(record["ends"].clone()).unwrap();
    assert_eq!(ends, expected, "{task}");
}

/// Whether there is something to draw with. Where MUJOCO_GL is set there must be.
fn draws() -> bool {
    let egl = ["-c", "import ctypes; ctypes.CDLL('libEGL.so.1')"];
    let draws = std::env::var("MUJOCO_GL").is_ok()
        || Command::new(with_suites()).args(egl).output().is_ok_and(|output| output.status.success());
    if !draws {
        let test = std::thread::current().name().unwrap_or_default().to_string();
        // Past the capture of what tests print.
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: {test}: no EGL; install libegl1 and libgl1-mesa-dri, or set MUJOCO_GL"
        );
    }
    draws
}

#[test]
fn control_from_numbers_is_the_official_one() {
    compare("dmc_proprio", &["env.repeat=2"]);
    compare("dmc_proprio", &["env.task=dmc:ball_in_cup_catch"]);
    let config = config("dmc_proprio", &["env.task=dmc:cup_catch"], with_suites());
    assert!(!make(&config, SEED).unwrap().obs_space().contains_key("image"));
}

#[test]
fn an_episode_of_control_is_cut_after_a_thousand_steps_of_the_simulator() {
    let (_, _, rewards, ends) = play(&mut *env("dmc_proprio", &["env.repeat=2"]), 501);
    assert_eq!(ends, [(499, false)]);
    assert!((0.0..=1000.0).contains(&rewards), "{rewards}");
}

#[test]
fn control_from_pixels_shows_the_same_frames_twice() {
    if !draws() {
        return;
    }
    let sets = ["env.observe=both", "env.task=dmc:cartpole_swingup"];
    let [(first, last, ..), (again, at_last, ..)] = [0, 1].map(|_| play(&mut *env("dmc_vision", &sets), 20));
    assert_eq!((&first, &last), (&again, &at_last));
    assert_eq!(first["image"].shape, [64, 64, 3]);
    assert_ne!(first["image"], last["image"]);
    assert!(first.contains_key("position") && first.contains_key("velocity"));
    let pixels = env("dmc_vision", &[]);
    assert_eq!(pixels.obs_space().keys().filter(|key| !FLAGS.contains(&key.as_str())).count(), 1);
    let picture = pixels.picture();
    assert_eq!(picture.unwrap().shape, [240, 320, 3]);
}

#[test]
fn atari_is_the_official_one() {
    compare("atari", &[]);
    compare("atari100k", &["env.task=atari100k:breakout"]);
    assert_eq!(env("atari", &[]).obs_space()["image"].shape, [96, 96, 1]);
    assert_eq!(env("atari", &[]).act_space()["action"].classes, Some(18));
}

#[test]
fn a_game_that_is_cut_is_not_over_and_a_lost_life_can_end_an_episode() {
    let (_, _, _, ends) = play(&mut *env("atari", &["env.kwargs.length=40"]), 25);
    assert_eq!(ends, [(9, false), (19, false)]);
    let sets = ["env.task=atari:breakout", "env.kwargs.lives=reset"];
    let (_, _, _, lives) = play(&mut *env("atari", &sets), 300);
    let (_, _, _, games) = play(&mut *env("atari", &sets[..1]), 300);
    assert!(lives.len() > games.len() && lives.iter().all(|(_, terminal)| *terminal), "{lives:?} {games:?}");
}

#[test]
fn minigrid_shows_what_lies_ahead_and_no_mission() {
    compare("minigrid", &["env.size=[56, 56]"]);
    let shape = |sets: &[&str], key: &str| {
        let space = env("minigrid", sets).obs_space()[key].clone();
        (space.shape, space.classes)
    };
    assert_eq!(shape(&[], "image"), (vec![64, 64, 3], None));
    assert_eq!(shape(&[], "direction"), (vec![], Some(4)));
    assert_eq!(shape(&["env.observe=vector"], "cells"), (vec![147], Some(11)));
    assert!(!env("minigrid", &[]).obs_space().contains_key("mission"));
}

#[test]
fn crafter_begins_as_the_official_one_and_gives_rewards_if_asked() {
    compare("crafter", &[]);
    let (_, _, with, _) = play(&mut *env("crafter", &[]), 60);
    let (_, _, without, _) = play(&mut *env("crafter", &["env.task=crafter:noreward"]), 60);
    assert!(with != 0.0 && without == 0.0, "{with} {without}");
}

#[test]
fn classic_and_box2d_are_those_of_gymnasium() {
    compare("dummy", &["env.task=gymnasium:CartPole-v1"]);
    compare("dummy", &["env.task=gymnasium:LunarLander-v3"]);
}

#[test]
fn procgen_is_the_official_one_in_its_own_size_and_in_others() {
    compare("procgen", &[]);
    compare("procgen", &["env.task=procgen:starpilot", "env.size=[64,64]"]);
    // An episode that ends before its end is followed by a new level.
    let mut env = env("procgen", &["env.time_limit=10"]);
    let (first, _, _, ends) = play(&mut *env, 25);
    assert_eq!(ends, [(9, false), (19, false)]);
    assert_ne!(env.step(&Action::reset()).unwrap()["image"], first["image"]);
}

#[test]
fn what_is_missing_or_unknown_is_said() {
    let bare = python::bare("suites-bare").join("bin/python3");
    let error = |preset: &str, sets: &[&str], python: &Path| {
        make(&config(preset, sets, python.to_str().unwrap()), 0).map(|_| ()).unwrap_err().to_string()
    };
    for (preset, packages) in [
        ("dmc_proprio", "dm-control==1.0.50 mujoco==3.17.0"),
        ("atari", "ale-py==0.12.1 pillow"),
        ("atari100k", "ale-py==0.12.1 pillow"),
        ("minigrid", "minigrid==3.2.0"),
        ("crafter", "crafter==1.8.3"),
        ("procgen", "procgen-mirror==0.10.7 pillow"),
    ] {
        let text = error(preset, &[], &bare);
        assert!(text.contains("-m pip install gymnasium ") && text.contains(packages), "{text}");
    }
    let python = Path::new(with_suites());
    for (preset, sets, part) in [
        ("dmc_proprio", ["env.task=dmc:walker_fly"], "no task `walker_fly`; it has acrobot_swingup, "),
        ("atari", ["env.task=atari:tetris_99"], "no game `tetris_99`"),
        ("atari", ["env.observe=vector"], "pixels only"),
        ("atari", ["env.kwargs.lives=many"], "`env.kwargs.lives` is many"),
        ("atari", ["env.kwargs.odd=1"], "'odd'"),
        ("crafter", ["env.task=crafter:all"], "reward and noreward"),
        ("procgen", ["env.task=procgen:pong"], "no game `pong`; it has bigfish, "),
        ("procgen", ["env.observe=vector"], "pixels only"),
        ("minigrid", ["env.observe=both"], "pixels or vector"),
    ] {
        let text = error(preset, &sets, python);
        assert!(text.contains(part), "{text}");
    }
}
