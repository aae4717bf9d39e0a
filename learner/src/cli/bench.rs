//! `lucid bench`: how long the parts of Lucid take on this machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use clap::{Subcommand, ValueEnum};
use shared::array::{Array, DType};
use shared::config::{AgentConfig, Config};
use shared::dist::{Draws, Seeded};
use shared::env::{FLAGS, Space, Spaces};
use shared::experience::{DETER, STOCH};
use shared::params::Tree;

use crate::RunError;
use crate::agent::{Agent, Batch, Origin};
use crate::error::io;
use crate::launch::ENVIRONMENT;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Args {
    /// One training step of batch 16 x 64.
    Train(TrainArgs),
}

/// A training step.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// Which model and observations.
    #[arg(long, value_enum, default_value_t = Case::Size1mVector)]
    case: Case,
    /// Steps that are measured, after two that are not.
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Threads (0: one per core).
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Override one option.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// One line of JSON instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// Models and observations whose training steps are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, clippy::enum_variant_names)]
pub enum Case {
    /// 24 numbers, 6 continuous actions.
    #[value(name = "size1m-vector")]
    Size1mVector,
    /// 64 x 64 x 3, 17 discrete actions.
    #[value(name = "size1m-image")]
    Size1mImage,
    /// 64 x 64 x 3, 17 discrete actions.
    #[value(name = "size12m-image")]
    Size12mImage,
}

impl Case {
    fn preset(self) -> &'static str {
        match self {
            Case::Size1mVector | Case::Size1mImage => "size1m",
            Case::Size12mImage => "size12m",
        }
    }

    fn spaces(self) -> (Spaces, Spaces) {
        let (key, seen, act) = match self {
            Case::Size1mVector => ("vector", Space::vector(&[24]), Space::bounded(&[6], -1.0, 1.0)),
            Case::Size1mImage | Case::Size12mImage => ("image", Space::image(64, 64, 3), Space::discrete(&[], 17)),
        };
        ([(key.to_string(), seen)].into(), [("action".to_string(), act)].into())
    }
}

/// Measure what the command line says.
pub fn run(args: &Args) -> Result<(), RunError> {
    let Args::Train(args) = args;
    if ENVIRONMENT.iter().any(|(name, value)| std::env::var(name).as_deref() != Ok(value)) {
        return again();
    }
    // Fails only where a pool exists already, which then serves.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global();
    let config = Config::load(&[args.case.preset()], &args.set)?;
    let (obs, act) = args.case.spaces();
    let origin = Origin { obs: &obs, act: &act, seed: 0, statistics: Tree::new(), freeze: &[] };
    let mut agent = Agent::new(&config.agent(), origin)?;
    let batch = batch(&config.agent, &obs, &act);
    let (mut wall, mut cpu) = (vec![], vec![]);
    for step in 0..args.steps + 2 {
        let (started, spent) = (Instant::now(), cpu_seconds());
        agent.train(&batch)?;
        if step >= 2 {
            wall.push(started.elapsed().as_secs_f64());
            cpu.push(cpu_seconds() - spent);
        }
    }
    let (wall, cpu, threads) = (median(wall), median(cpu), rayon::current_num_threads());
    let case = args.case.to_possible_value().map_or_else(String::new, |v| v.get_name().to_string());
    match args.json {
        true => println!(r#"{{"case": "{case}", "wall_s": {wall:.6}, "cpu_s": {cpu:.6}, "threads": {threads}}}"#),
        false => println!("{case}: {wall:.3} s a training step, {cpu:.3} s of CPU, {threads} threads"),
    }
    Ok(())
}

/// This program again, with the environment variables of a learner.
fn again() -> Result<(), RunError> {
    let binary = std::env::current_exe().map_err(io("find", Path::new("the running binary")))?;
    let mut command = Command::new(&binary);
    let status = command.args(std::env::args_os().skip(1)).envs(ENVIRONMENT).status().map_err(io("start", &binary))?;
    std::process::exit(status.code().unwrap_or(1))
}

/// A batch of noise, with an episode's border in it.
fn batch(config: &AgentConfig, obs: &Spaces, act: &Spaces) -> Batch {
    let (rows, steps) = (config.batch_size, config.sample_length());
    let (count, mut noise) = (rows * steps, Seeded::new(1));
    let mut batch = BTreeMap::new();
    for (key, space) in obs.iter().chain(act) {
        let shape = [&[rows, steps], space.shape.as_slice()].concat();
        let draws = noise.normal(&shape);
        let class = |x: &f32| (x.abs() * 1e4) as i32 % space.classes.unwrap_or(1) as i32;
        let array = match space.dtype {
            DType::U8 => Array::u8(&shape, &draws.iter().map(|x| (127.0 + 60.0 * x) as u8).collect::<Vec<_>>()),
            DType::I32 => Array::i32(&shape, &draws.iter().map(class).collect::<Vec<_>>()),
            _ => Array::f32(&shape, &draws),
        };
        batch.insert(key.clone(), array);
    }
    for flag in FLAGS {
        let array = match flag {
            "reward" => Array::f32(&[rows, steps], &noise.normal(&[count])),
            "is_first" => Array::u8(&[rows, steps], &(0..count).map(|i| (i % 199 == 150) as u8).collect::<Vec<_>>()),
            _ => Array::u8(&[rows, steps], &vec![0; count]),
        };
        batch.insert(flag.to_string(), array);
    }
    let rssm = &config.dynamics.rssm;
    batch.insert(DETER.into(), Array::zeros(DType::F32, &[rows, steps, rssm.deter]));
    batch.insert(STOCH.into(), Array::zeros(DType::F32, &[rows, steps, rssm.stoch, rssm.classes]));
    batch.insert("consec".into(), Array::i32(&[rows], &vec![0; rows]));
    batch
}

/// CPU time that this process has used, seconds.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
