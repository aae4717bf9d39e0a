//! `lucid bench env`: a step of an environment, as an actor takes it.

use std::time::Instant;

use actor::env::{Action, Outcome, make, sample_action};
use shared::config::Config;

use crate::RunError;

/// Steps of one environment under the first of random actions, over and over.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Override one option, such as env.task.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Steps that are measured.
    #[arg(long, default_value_t = 10_000)]
    steps: usize,
    /// One line of JSON instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// Measure. Resets are not counted.
pub fn run(args: &Args) -> Result<(), RunError> {
    let config = Config::load(&["dummy"], &args.set)?.env;
    let mut env = make(&config, 0)?;
    let mut draws: rand_xoshiro::Xoshiro256PlusPlus = rand::SeedableRng::seed_from_u64(0);
    let act = Action::act(sample_action(&env.act_space(), &mut draws));
    env.step(&Action::reset())?;
    let mut times = Vec::with_capacity(args.steps.max(1));
    while times.len() < args.steps.max(1) {
        let start = Instant::now();
        let step = env.step(&act)?;
        times.push(start.elapsed().as_secs_f64());
        if Outcome::of(&step).is_last {
            env.step(&Action::reset())?;
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| 1e6 * times[((times.len() - 1) as f64 * share) as usize];
    let (task, median, p99) = (&config.task, at(0.5), at(0.99));
    match args.json {
        true => println!("{}", serde_json::json!({"task": task, "median_us": median, "p99_us": p99})),
        false => println!("{task}: {median:.1} us a step (median), {p99:.1} us (99 of 100 take less)"),
    }
    Ok(())
}
