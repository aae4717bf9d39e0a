//! `lucid bench train`: a training step.

use std::time::Instant;

use shared::array::{Array, DType};
use shared::config::AgentConfig;
use shared::dist::Seeded;
use shared::env::Spaces;
use shared::experience::{DETER, STOCH};

use super::{Common, noise, time};
use crate::RunError;
use crate::agent::Batch;

/// A training step.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Steps that are measured, after two that are not.
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Threads (0: one per core).
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Where to compute: cpu or cuda.
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Measure.
pub fn run(args: &Args) -> Result<(), RunError> {
    let (start, mut first) = (Instant::now(), None);
    let Common { case, json, .. } = args.common;
    // Fails only where a pool exists already, which then serves.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global();
    let config = args.common.config()?;
    let mut agent = case.agent(&config, shared::device::open(&args.device)?)?;
    let (obs, act) = case.spaces();
    let batch = batch(&config, [&obs, &act], 1);
    let (wall, cpu) = time(2, args.steps, || {
        agent.train(&batch)?;
        first.get_or_insert_with(|| start.elapsed().as_secs_f64());
        Ok::<_, RunError>(())
    })?;
    let first = first.unwrap_or_default();
    let (case, threads) = (case.name(), rayon::current_num_threads());
    match json {
        true => println!(
            r#"{{"case": "{case}", "wall_s": {wall:.6}, "cpu_s": {cpu:.6}, "first_s": {first:.3}, "threads": {threads}}}"#
        ),
        false => println!(
            "{case}: {wall:.3} s a training step, {cpu:.3} s of CPU, {threads} threads; the first was done {first:.2} s after the start"
        ),
    }
    Ok(())
}

/// A batch of noise, with an episode's border in it.
pub(super) fn batch(config: &AgentConfig, spaces: [&Spaces; 2], seed: u64) -> Batch {
    let (rows, steps) = (config.batch_size, config.sample_length());
    let mut batch = noise(&[rows, steps], spaces, &mut Seeded::new(seed));
    let first = (0..rows * steps).map(|i| (i % 199 == 150) as u8);
    batch.insert("is_first".into(), Array::u8(&[rows, steps], &first.collect::<Vec<_>>()));
    let rssm = &config.dynamics.rssm;
    batch.insert(DETER.into(), Array::zeros(DType::F32, &[rows, steps, rssm.deter]));
    batch.insert(STOCH.into(), Array::zeros(DType::U16, &[rows, steps, rssm.stoch]));
    batch.insert("consec".into(), Array::i32(&[rows], &vec![0; rows]));
    batch
}
