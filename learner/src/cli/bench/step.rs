//! `lucid bench step`: what it costs to have the ViT in the training step, which features that are computed once spare.

use std::path::Path;

use candle_core::Device;
use shared::config::Config;
use shared::dist::{Draws, Seeded};
use shared::env::{Space, Spaces};
use shared::params::Tree;
use shared::vit::agent_spaces;

use super::{time, train};
use crate::RunError;
use crate::agent::{Agent, Batch, Origin};
use crate::frozen::Trunk;

/// Side of a frame.
const SIDE: usize = 70;

/// A training step on features of the ViT-S/14 (untrained weights) that were computed once, against the same step with the ViT in it,
/// frozen or trained. Frames are 70 x 70 pixels.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Train ratios that are compared: replayed steps for each step of an environment.
    #[arg(long, value_delimiter = ',', default_value = "32,512")]
    ratios: Vec<f64>,
    /// Blocks that train, where they do: a number or `all`; 0 leaves this case out.
    #[arg(long, default_value = "all")]
    trained: String,
    /// Steps that are measured, after one that is not.
    #[arg(long, default_value_t = 3)]
    steps: usize,
    /// Threads (0: one per core).
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Override one option.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Lines of JSON instead of sentences.
    #[arg(long)]
    json: bool,
}

/// An agent that sees frames through the ViT, and a batch of what is recorded for it.
struct Case {
    trunk: Trunk,
    config: Config,
    agent: Agent,
    batch: Batch,
}

impl Case {
    fn new(set: &[String], trained: &str) -> Result<Option<Self>, RunError> {
        let own = ["vit.features=random".to_string(), format!("vit.trainable_blocks={trained}")];
        let config = Config::load(&["size1m"], &[&own, set].concat())?;
        let Some(trunk) = Trunk::load(&config, Path::new(""), None)? else { return Ok(None) };
        let frames = Spaces::from([("image".to_string(), Space::image(SIDE, SIDE, 3))]);
        let options = config.agent_through(Some(&trunk.spec), &frames)?;
        let obs = agent_spaces(&frames, &config.vit, &trunk.spec)?;
        let act = Spaces::from([("action".to_string(), Space::discrete(&[], 17))]);
        let batch = train::batch(&options, [&obs, &act], 1);
        let (statistics, pretrained) = (Tree::new(), trunk.pretrained.clone());
        let origin = Origin { obs: &obs, act: &act, seed: 0, statistics, pretrained, freeze: &[], device: Device::Cpu };
        Ok(Some(Self { agent: Agent::new(&options, origin)?, trunk, config, batch }))
    }

    /// Seconds of a training step.
    fn step(&mut self, steps: usize) -> Result<f64, RunError> {
        let (wall, _) = time(1, steps, || self.agent.train(&self.batch).map(drop))?;
        Ok(wall)
    }

    /// Seconds of encoding a frame, in batches of `n`.
    fn encode(&self, n: usize, steps: usize) -> Result<f64, RunError> {
        let features = self.trunk.features(&self.config.vit, rayon::current_num_threads())?;
        let noise = Seeded::new(1).normal(&[n * SIDE * SIDE * 3]);
        let frames: Vec<u8> = noise.iter().map(|x| (127.0 + 60.0 * x) as u8).collect();
        let (wall, _) = time(1, steps, || {
            std::hint::black_box(features.encode(&frames, n, SIDE, SIDE));
            Ok::<_, RunError>(())
        })?;
        Ok(wall / n as f64)
    }
}

/// Measure.
pub fn run(args: &Args) -> Result<(), RunError> {
    // Fails only where a pool exists already, which then serves.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global();
    let Some(mut once) = Case::new(&args.set, "0")? else { return Ok(()) };
    let agent = &once.config.agent;
    let (trained, replayed) = (agent.batch_size * agent.batch_length, agent.batch_size * agent.sample_length());
    let frame = once.encode(1, 10 * args.steps)?;
    let inside = once.encode(replayed, args.steps)? * replayed as f64;
    let step = once.step(args.steps)?;
    let mut cases = vec![("features once".to_string(), step), ("frozen ViT in the step".into(), step + inside)];
    if args.trained != "0"
        && let Some(mut case) = Case::new(&args.set, &args.trained)?
    {
        cases.push((format!("ViT in the step, blocks trained: {}", args.trained), case.step(args.steps)?));
    }
    for ratio in &args.ratios {
        // Whoever acts encodes each new frame in every case.
        let acted = trained as f64 / ratio * frame;
        for (name, seconds) in &cases {
            let (all, times) = (seconds + acted, (seconds + acted) / (step + acted));
            match args.json {
                true => println!(
                    r#"{{"case": "{name}", "train_ratio": {ratio}, "step_s": {seconds:.4}, "acted_s": {acted:.4}, "times": {times:.2}}}"#
                ),
                false => println!(
                    "train ratio {ratio}, {name}: {seconds:.3} s a training step, {acted:.3} s for the {:.0} frames acted on, {all:.3} s in all, {times:.1} times",
                    trained as f64 / ratio
                ),
            }
        }
    }
    Ok(())
}
