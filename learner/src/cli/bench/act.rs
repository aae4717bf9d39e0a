//! `lucid bench act`: a step of acting, as an actor takes it.

use std::sync::Arc;

use candle_core::Device;
use shared::dist::Seeded;
use shared::dreamer::Acting;
use shared::env::Spaces;
use shared::params::{Params, Region};
use shared::snapshot::format::{self, SnapshotHeader, SnapshotView};

use super::{Common, noise, time};
use crate::RunError;

/// A step of acting, on one thread.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Environments that act together.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Steps that are measured.
    #[arg(long, default_value_t = 1000)]
    steps: usize,
}

/// Measure.
pub fn run(args: &Args) -> Result<(), RunError> {
    let Common { case, json, .. } = args.common;
    // Like an actor. Fails only where a pool exists already, which then serves.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(1).build_global();
    let config = args.common.loaded()?.acting();
    let params = case.agent(&config, Device::Cpu)?.policy_params()?;
    let header = SnapshotHeader { version: 1, update: 0, published: 0 };
    let view = SnapshotView::open(Arc::new(format::encode(&header, &params)?) as Region)?;
    let (obs, act) = case.spaces();
    let acting = Acting::new(&config, &obs, &act, &Params::read_only(&[("", &view)])?)?;
    let mut draws = Seeded::new(0);
    let columns = noise(&[args.batch], [&obs, &Spaces::new()], &mut draws);
    let mut acted = acting.initial(args.batch);
    let (wall, cpu) = time(args.steps / 10, args.steps, || acting.step(&mut acted, &columns, &mut draws))?;
    let (case, batch) = (case.name(), args.batch);
    match json {
        true => {
            println!(r#"{{"case": "{case}", "batch": {batch}, "wall_s": {wall:.9}, "cpu_s": {cpu:.9}, "threads": 1}}"#)
        }
        false => println!("{case}: {:.3} ms a step of acting with {batch} environments", 1e3 * wall),
    }
    Ok(())
}
