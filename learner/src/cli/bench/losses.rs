//! `lucid bench losses`: what other options, such as a precision, do to the losses of training.

use std::collections::BTreeMap;

use shared::config::{AgentConfig, Config};
use shared::device;

use super::{Case, train};
use crate::RunError;
use crate::agent::Agent;

/// Different batches, in turn: a model can learn what they hold.
const BATCHES: u64 = 8;
/// Losses, as metrics.
const LOSS: &str = "loss/";

/// Two agents that begin alike and see the same batches and noise: losses of the second with other options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which model and observations.
    #[arg(long, value_enum, default_value_t = Case::Size1mVector)]
    case: Case,
    /// Override one option of both.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Override one option of the second.
    #[arg(long = "with", value_name = "KEY=VALUE", required = true)]
    with: Vec<String>,
    /// Updates of each.
    #[arg(long, default_value_t = 500)]
    steps: usize,
    /// Updates that a row of the table averages.
    #[arg(long, default_value_t = 100)]
    window: usize,
}

type Means = BTreeMap<String, f64>;

/// Measure.
pub fn run(args: &Args) -> Result<(), RunError> {
    let config = |more: &[String]| -> Result<AgentConfig, RunError> {
        Ok(Config::load(&[args.case.preset()], &[&args.set, more].concat())?.agent())
    };
    let configs = [config(&[])?, config(&args.with)?];
    let (obs, act) = args.case.spaces();
    let batches: Vec<_> = (0..BATCHES).map(|seed| train::batch(&configs[0], [&obs, &act], seed)).collect();
    let mut agents = Vec::new();
    for config in &configs {
        agents.push(args.case.agent(config, device::open("cpu")?)?);
    }
    println!("{:>7}  {:<10} {:>12} {:>12} {:>8}", "updates", "loss", "without", "with", "differ");
    let mut worst: f64 = 0.0;
    for first in (0..args.steps).step_by(args.window.max(1)) {
        let steps = first..args.steps.min(first + args.window.max(1));
        let mut each = agents.iter_mut().map(|agent| means(agent, &batches, steps.clone()));
        let (Some(without), Some(with)) = (each.next().transpose()?, each.next().transpose()?) else { return Ok(()) };
        for (name, a) in &without {
            let b = with.get(name).copied().unwrap_or(f64::NAN);
            let differ = (b - a).abs() / a.abs();
            worst = if differ > worst || differ.is_nan() { differ } else { worst };
            println!("{:>7}  {name:<10} {a:>12.5} {b:>12.5} {:>7.2}%", steps.end, 100.0 * differ);
        }
    }
    println!("largest difference {:.2}% of the loss without", 100.0 * worst);
    Ok(())
}

/// Means of the losses over these updates.
fn means(agent: &mut Agent, batches: &[crate::agent::Batch], steps: std::ops::Range<usize>) -> Result<Means, RunError> {
    let (mut sums, count) = (Means::new(), steps.len() as f64);
    for step in steps {
        let trained = agent.train(&batches[step % batches.len()])?;
        for (name, value) in trained.metrics {
            if let Some(name) = name.strip_prefix(LOSS) {
                *sums.entry(name.to_string()).or_default() += f64::from(value) / count;
            }
        }
    }
    Ok(sums)
}
