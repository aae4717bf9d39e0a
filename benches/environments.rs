//! Steps of the native environments with their wrappers, on one thread: `cargo bench -p actor`.
//!
//! One item is a step of random actions, resets included, so `Mitem/s` reads as millions of steps a second. Pictures are 64 x 64.
#![allow(clippy::unwrap_used)]

use actor::env::{Action, Env, Outcome, TASKS, make, sample_action};
use divan::Bencher;
use divan::counter::ItemsCount;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::config::Config;

/// Steps a sample.
const STEPS: usize = 2000;

fn main() {
    divan::main();
}

/// All tasks but those that only slow others down.
fn tasks(observe: &str) -> Vec<&'static str> {
    let drawn = |task: &&str| observe == "vector" || *task != "tmaze";
    TASKS.into_iter().filter(|task| !["dummy_sleep", "dummy_compute"].contains(task)).filter(drawn).collect()
}

fn play(bencher: Bencher, task: &str, observe: &str) {
    // The sizes of pictures fit no ViT, which is not asked.
    let sets = [&format!("env.task={task}"), &format!("env.observe={observe}"), "env.size=[64, 64]", "vit.weights="];
    let config = Config::load(&[] as &[&str], &sets).unwrap();
    let mut env = make(&config.env, 0).unwrap();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let spaces = env.act_space();
    let actions: Vec<_> = (0..STEPS).map(|_| Action::act(sample_action(&spaces, &mut rng))).collect();
    env.step(&Action::reset()).unwrap();
    bencher.counter(ItemsCount::new(STEPS)).bench_local(|| {
        for action in &actions {
            let step = env.step(action).unwrap();
            if Outcome::of(&step).is_last {
                env.step(&Action::reset()).unwrap();
            }
            divan::black_box(step);
        }
    });
}

#[divan::bench(args = tasks("vector"))]
fn vector(bencher: Bencher, task: &str) {
    play(bencher, task, "vector");
}

#[divan::bench(args = tasks("pixels"))]
fn pixels(bencher: Bencher, task: &str) {
    play(bencher, task, "pixels");
}
