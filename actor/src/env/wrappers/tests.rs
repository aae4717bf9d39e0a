use proptest::prelude::*;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::array::Array;
use shared::config::EnvConfig;
use shared::env::{FLAGS, Space, Spaces};

use super::*;
use crate::env::{Action, Env, EnvError, Outcome, Step, TASKS, make, sample_action};

/// Reports the action it was given and a reward of 1 a step; ends, terminal, after `length` steps.
struct Echo {
    length: usize,
    steps: usize,
}

fn echo(length: usize) -> Echo {
    Echo { length, steps: 0 }
}

impl Env for Echo {
    fn obs_space(&self) -> Spaces {
        let mut spaces: Spaces = [("seen".to_string(), Space::vector(&[2]))].into_iter().collect();
        spaces.extend(Outcome::spaces());
        spaces
    }

    fn act_space(&self) -> Spaces {
        [("arm".to_string(), Space::bounded(&[2], 0.0, 10.0))].into_iter().collect()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        self.steps = if action.reset { 0 } else { self.steps + 1 };
        let seen = action.values.get("arm").cloned().unwrap_or(Array::f32(&[2], &[0.0; 2]));
        let mut step = Step::from([("seen".to_string(), seen)]);
        let end = self.steps >= self.length;
        let reward = if action.reset { 0.0 } else { 1.0 };
        Outcome { is_first: action.reset, is_last: end, is_terminal: end, reward }.write(&mut step);
        Ok(step)
    }
}

fn arm(values: [f32; 2]) -> Action {
    Action::act([("arm".to_string(), Array::f32(&[2], &values))].into())
}

/// Reset, then act until `is_last`: the number of actions, the sum of rewards, the last outcome.
fn episode(env: &mut dyn Env) -> (usize, f32, Outcome) {
    assert!(Outcome::of(&env.step(&Action::reset()).unwrap()).is_first);
    let mut total = 0.0;
    for t in 1.. {
        let outcome = Outcome::of(&env.step(&arm([0.0; 2])).unwrap());
        total += outcome.reward;
        if outcome.is_last {
            return (t, total, outcome);
        }
    }
    unreachable!()
}

#[test]
fn a_time_limit_cuts_without_terminating_and_starts_anew() {
    let mut env = TimeLimit::new(echo(10), 4);
    env.step(&Action::reset()).unwrap();
    env.step(&arm([0.0; 2])).unwrap(); // a reset within an episode starts the count anew
    for _ in 0..2 {
        let (steps, total, last) = episode(&mut env);
        assert_eq!((steps, total, last.is_terminal), (4, 4.0, false));
    }
    let (steps, _, last) = episode(&mut TimeLimit::new(echo(4), 4));
    assert_eq!((steps, last.is_terminal), (4, true), "the task's own end stays terminal");
}

#[test]
fn repeated_actions_sum_rewards_and_stop_at_the_end() {
    let mut env = ActionRepeat::new(echo(10), 4);
    assert_eq!(Outcome::of(&env.step(&Action::reset()).unwrap()).reward, 0.0);
    assert_eq!(Outcome::of(&env.step(&arm([0.0; 2])).unwrap()).reward, 4.0);
    for _ in 0..2 {
        let (steps, total, last) = episode(&mut env);
        assert_eq!((steps, total, last.reward, last.is_terminal), (3, 10.0, 2.0, true));
    }
}

#[test]
fn actions_are_clipped_then_scaled_to_the_bounds() {
    let mut env = ClipAction::new(NormalizeAction::new(echo(10)));
    assert_eq!(env.act_space()["arm"], Space::bounded(&[2], -1.0, 1.0));
    env.step(&Action::reset()).unwrap();
    let mut seen = |values| env.step(&arm(values)).unwrap()["seen"].to_f32();
    assert_eq!(seen([-1.0, 1.0]), [0.0, 10.0]);
    assert_eq!(seen([0.0, 0.5]), [5.0, 7.5]);
    assert_eq!(seen([-3.0, 1.5]), [0.0, 10.0]);
}

/// Returns one given step, whatever is done.
struct Fixed(Step);

impl Env for Fixed {
    fn obs_space(&self) -> Spaces {
        let mut spaces: Spaces = [("seen".to_string(), Space::bounded(&[2], 0.0, 1.0))].into_iter().collect();
        spaces.extend(Outcome::spaces());
        spaces
    }

    fn act_space(&self) -> Spaces {
        Spaces::new()
    }

    fn step(&mut self, _: &Action) -> Result<Step, EnvError> {
        Ok(self.0.clone())
    }
}

#[test]
fn checked_finds_what_breaks_the_spaces() {
    let good = || {
        let mut step = Step::from([("seen".to_string(), Array::f32(&[2], &[0.0, 1.0]))]);
        Outcome::first().write(&mut step);
        step
    };
    let check = |key: &str, value: Option<Array>| {
        let mut step = good();
        match value {
            Some(value) => step.insert(key.into(), value),
            None => step.remove(key),
        };
        Checked::new(Fixed(step), "toy").step(&Action::reset()).map_err(|e| e.to_string())
    };
    assert!(check("seen", Some(Array::f32(&[2], &[0.5, 0.5]))).is_ok());
    for (key, value, part) in [
        ("seen", None, "missing"),
        ("seen", Some(Array::f32(&[1], &[0.0])), "[1]"),
        ("seen", Some(Array::u8(&[2], &[0, 0])), "U8"),
        ("seen", Some(Array::f32(&[2], &[0.0, f32::NAN])), "NaN"),
        ("seen", Some(Array::f32(&[2], &[0.0, 1.5])), "1.5"),
        ("more", Some(Array::scalar(0.0)), "no such key"),
        ("is_first", Some(Array::flag(false)), "after a reset"),
        ("is_last", Some(Array::flag(true)), "first step"),
        ("is_terminal", Some(Array::flag(true)), "`is_last`"),
        ("is_terminal", Some(Array::u8(&[], &[2])), "2"),
        ("reward", Some(Array::scalar(1.0)), "first step"),
        ("reward", Some(Array::scalar(f32::NAN)), "NaN"),
        ("reward", Some(Array::scalar(f32::NEG_INFINITY)), "-inf"),
    ] {
        let text = check(key, value).unwrap_err();
        assert!(text.contains("`toy`") && text.contains(&format!("`{key}`")) && text.contains(part), "{text}");
    }
}

#[test]
fn checked_refuses_steps_outside_an_episode() {
    let mut env = Checked::new(echo(2), "toy");
    assert_eq!(env.step(&arm([0.0; 2])).unwrap_err(), EnvError::not_started("toy"));
    for _ in 0..2 {
        assert_eq!(episode(&mut env).0, 2);
        assert_eq!(env.step(&arm([0.0; 2])).unwrap_err(), EnvError::ended("toy"));
    }
}

fn base() -> EnvConfig {
    shared::config::Config::load(&[] as &[&str], &[] as &[&str]).unwrap().env
}

fn config(task: &str, observe: &str) -> EnvConfig {
    EnvConfig { task: task.into(), observe: observe.into(), size: [20, 30], ..base() }
}

fn run(task: &str, observe: &str, seed: u64, steps: usize) -> Vec<Step> {
    let mut env = make(&config(task, observe), seed).unwrap();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut reset = true;
    let mut all = Vec::new();
    for _ in 0..steps {
        let action = Action { reset, values: sample_action(&env.act_space(), &mut rng) };
        let step = env.step(&action).unwrap();
        reset = Outcome::of(&step).is_last;
        all.push(step);
    }
    all
}

#[test]
fn every_task_keeps_its_spaces_and_repeats_itself_under_a_seed() {
    let all = TASKS.iter().flat_map(|task| ["pixels", "vector", "both"].map(|o| (*task, o)));
    for (task, observe) in all.filter(|(task, observe)| *task != "tmaze" || *observe == "vector") {
        let steps = run(task, observe, 1, 250);
        assert_eq!(steps, run(task, observe, 1, 250), "{task}");
        assert_ne!(steps, run(task, observe, 2, 250), "{task}");
        assert_eq!(steps[0].contains_key("image"), observe != "vector", "{task}");
        let numbers = steps[0].keys().any(|key| key != "image" && !FLAGS.contains(&key.as_str()));
        assert_eq!(numbers, observe != "pixels", "{task}");
    }
}

#[test]
fn bad_configs_are_refused() {
    let text = |config: EnvConfig| make(&config, 0).map(|_| ()).unwrap_err().to_string();
    let unknown = text(config("cathc", "pixels"));
    assert!(unknown.contains("`cathc`") && unknown.contains("mean `catch`"), "{unknown}");
    assert!(TASKS.iter().all(|task| unknown.contains(task)), "{unknown}");
    assert!(text(config("catch", "pixel")).contains("`pixels`, `vector` or `both`"));
    assert!(text(EnvConfig { repeat: 0, ..config("catch", "pixels") }).contains("`env.repeat` is 0"));
    assert!(text(EnvConfig { size: [0, 64], ..config("catch", "pixels") }).contains("`env.size` is [0, 64]"));
}

#[test]
fn made_environments_follow_repeat_and_time_limit() {
    let lasts = |repeat, time_limit| {
        let mut env = make(&EnvConfig { repeat, time_limit, ..config("cartpole_swingup", "vector") }, 0).unwrap();
        env.step(&Action::reset()).unwrap();
        let push = Action::act([("action".to_string(), Array::f32(&[1], &[0.0]))].into());
        (1..).find(|_| Outcome::of(&env.step(&push).unwrap()).is_last)
    };
    assert_eq!(lasts(1, 0), Some(1000));
    assert_eq!(lasts(4, 0), Some(250));
    assert_eq!(lasts(4, 30), Some(30));
}

/// Shows one image.
struct Picture(Array);

impl Env for Picture {
    fn obs_space(&self) -> Spaces {
        let shape = &self.0.shape;
        [("image".to_string(), Space::image(shape[0], shape[1], shape[2]))].into_iter().collect()
    }

    fn act_space(&self) -> Spaces {
        Spaces::new()
    }

    fn step(&mut self, _: &Action) -> Result<Step, EnvError> {
        Ok([("image".to_string(), self.0.clone())].into())
    }
}

fn resized(image: Array, size: [usize; 2]) -> Array {
    let mut env = Resize::new(Picture(image), size);
    let step = env.step(&Action::reset()).unwrap();
    assert_eq!(env.obs_space()["image"].shape, step["image"].shape);
    step["image"].clone()
}

#[test]
fn halving_an_image_averages_and_equal_size_keeps_it() {
    let stripes: Vec<u8> = (0..64).map(|i| if i % 2 == 0 { 0 } else { 200 }).collect();
    let small = resized(Array::u8(&[8, 8, 1], &stripes), [4, 4]);
    assert!(small.bytes.iter().all(|&x| (75..=125).contains(&x)), "{:?}", small.bytes);
    let image = Array::u8(&[8, 8, 1], &stripes);
    assert_eq!(resized(image.clone(), [8, 8]), image);
}

/// A value of a space from any number: its class, or the number itself, however far outside the bounds.
fn value(space: &Space, number: i32) -> Array {
    match space.classes {
        Some(classes) => Array::i32(&space.shape, &vec![number.rem_euclid(classes as i32); space.elements()]),
        None => Array::f32(&space.shape, &vec![number as f32 / 1e6; space.elements()]),
    }
}

proptest! {
    /// `Checked` refuses whatever leaves the spaces. Actions are held for a while, so that they lead somewhere.
    #[test]
    fn any_actions_keep_every_task_within_its_spaces(
        task in proptest::sample::select(TASKS.to_vec()),
        seed: u64,
        actions in proptest::collection::vec((any::<i32>(), 1usize..60, 0u8..20), 1..40),
    ) {
        let observe = if task == "tmaze" { "vector" } else { "both" };
        let mut env = make(&EnvConfig { size: [9, 7], ..config(task, observe) }, seed).unwrap();
        let spaces = env.act_space();
        let mut reset = true;
        let held = actions.iter().flat_map(|&(number, times, fate)| (0..times).map(move |t| (number, fate == 0 && t == 0)));
        for (number, anew) in held.take(if task.starts_with("dummy_") { 20 } else { usize::MAX }) {
            let values = spaces.iter().map(|(key, space)| (key.clone(), value(space, number))).collect();
            reset = Outcome::of(&env.step(&Action { reset: reset || anew, values }).unwrap()).is_last;
        }
        prop_assert!(env.picture().is_none_or(|picture| picture.shape == [9, 7, 3]));
    }

    #[test]
    fn resizing_keeps_flat_images_flat(h in 1usize..20, w in 1usize..20, to in (1usize..20, 1usize..20), value: u8) {
        let small = resized(Array::u8(&[h, w, 3], &vec![value; h * w * 3]), [to.0, to.1]);
        prop_assert_eq!(&small.shape, &[to.0, to.1, 3]);
        prop_assert!(small.bytes.iter().all(|&x| x == value));
    }
}
