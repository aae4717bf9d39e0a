//! `lucid bench`: how long the parts of Lucid take on this machine.

mod act;
mod env;
#[cfg(feature = "hosts")]
mod hosts;
mod losses;
mod publish;
mod scale;
mod step;
mod train;
mod vit;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use candle_core::Device;
use clap::{Subcommand, ValueEnum};
use shared::array::{Array, DType};
use shared::config::{AgentConfig, Config};
use shared::dist::{Draws, Seeded};
use shared::dreamer::inputs::Columns;
use shared::env::{FLAGS, Space, Spaces};
use shared::params::Tree;

use crate::RunError;
use crate::agent::{Agent, Origin};
use crate::error::io;
use crate::launch::ENVIRONMENT;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Args {
    /// One training step of batch 16 x 64.
    Train(train::Args),
    /// One step of acting: observations to actions, over the weights of a snapshot.
    Act(act::Args),
    /// Steps of an environment: the task of `env.task`, with its process where it has one.
    Env(env::Args),
    /// A snapshot of the policy: publishing it and taking it.
    Publish(publish::Args),
    /// Losses of training with other options, such as a precision, beside those without.
    Losses(losses::Args),
    /// Whole runs with more and more actor processes.
    Scale(scale::Args),
    /// Messages between hosts.
    #[cfg(feature = "hosts")]
    Hosts(hosts::Args),
    /// The frozen encoder: frames to features.
    Vit(vit::Args),
    /// A training step on features computed once, against one with the ViT in it.
    Step(step::Args),
}

/// What every benchmark of a model takes.
#[derive(Debug, clap::Args)]
struct Common {
    /// Which model and observations.
    #[arg(long, value_enum, default_value_t = Case::Size1mVector)]
    case: Case,
    /// Override one option.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// One line of JSON instead of a sentence.
    #[arg(long)]
    json: bool,
}

impl Common {
    fn loaded(&self) -> Result<Config, RunError> {
        Ok(Config::load(&[self.case.preset()], &self.set)?)
    }

    fn config(&self) -> Result<AgentConfig, RunError> {
        Ok(self.loaded()?.agent())
    }
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

    fn agent(self, config: &AgentConfig, device: Device) -> Result<Agent, RunError> {
        let (obs, act) = self.spaces();
        let (statistics, pretrained) = (Tree::new(), Tree::new());
        let origin = Origin { obs: &obs, act: &act, seed: 0, statistics, pretrained, freeze: &[], device };
        Ok(Agent::new(config, origin)?)
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }
}

/// Measure what the command line says.
pub fn run(args: &Args) -> Result<(), RunError> {
    if ENVIRONMENT.iter().any(|(name, value)| std::env::var(name).as_deref() != Ok(value)) {
        return again();
    }
    match args {
        Args::Train(args) => train::run(args),
        Args::Act(args) => act::run(args),
        Args::Env(args) => env::run(args),
        Args::Publish(args) => publish::run(args),
        Args::Losses(args) => losses::run(args),
        Args::Scale(args) => scale::run(args),
        #[cfg(feature = "hosts")]
        Args::Hosts(args) => hosts::run(args),
        Args::Vit(args) => vit::run(args),
        Args::Step(args) => step::run(args),
    }
}

/// This program again, with the environment variables of a learner.
fn again() -> Result<(), RunError> {
    let binary = std::env::current_exe().map_err(io("find", Path::new("the running binary")))?;
    let mut command = Command::new(&binary);
    let status = command.args(std::env::args_os().skip(1)).envs(ENVIRONMENT).status().map_err(io("start", &binary))?;
    std::process::exit(status.code().unwrap_or(1))
}

/// Columns of noise for observations and actions, [.., …], and flags of which all are false.
fn noise(lead: &[usize], spaces: [&Spaces; 2], draws: &mut Seeded) -> Columns {
    let count = lead.iter().product();
    let mut columns = Columns::new();
    for (key, space) in spaces.into_iter().flatten() {
        let shape = [lead, space.shape.as_slice()].concat();
        let values = draws.normal(&shape);
        let class = |x: &f32| (x.abs() * 1e4) as i32 % space.classes.unwrap_or(1) as i32;
        let array = match space.dtype {
            DType::U8 => Array::u8(&shape, &values.iter().map(|x| (127.0 + 60.0 * x) as u8).collect::<Vec<_>>()),
            DType::I32 => Array::i32(&shape, &values.iter().map(class).collect::<Vec<_>>()),
            _ => Array::f32(&shape, &values),
        };
        columns.insert(key.clone(), array);
    }
    for flag in FLAGS {
        let array = match flag {
            "reward" => Array::f32(lead, &draws.normal(&[count])),
            _ => Array::zeros(DType::U8, lead),
        };
        columns.insert(flag.to_string(), array);
    }
    columns
}

/// Wall-clock and CPU seconds of `f`, medians of `count` runs after `warm` that are not counted.
fn time<E>(warm: usize, count: usize, mut f: impl FnMut() -> Result<(), E>) -> Result<(f64, f64), E> {
    let (mut wall, mut cpu) = (vec![], vec![]);
    for run in 0..warm + count {
        let (started, spent) = (Instant::now(), cpu_seconds());
        f()?;
        if run >= warm {
            wall.push(started.elapsed().as_secs_f64());
            cpu.push(cpu_seconds() - spent);
        }
    }
    Ok((median(wall), median(cpu)))
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
