//! `lucid bench publish`: what a snapshot costs the train thread, the publisher thread and each actor.

use std::os::fd::AsFd;
use std::time::Instant;

use candle_core::Device;
use shared::dreamer::Acting;
use shared::params::Params;
use shared::snapshot::format::SnapshotView;
use shared::wire::{Bulk, SharedMemory, WireError};

use super::{Common, median, time};
use crate::RunError;
use crate::error::wire;
use crate::publisher::Publisher;

/// Publishing a snapshot and taking it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Snapshots that are measured.
    #[arg(long, default_value_t = 100)]
    steps: usize,
}

/// Measure.
pub fn run(args: &Args) -> Result<(), RunError> {
    let Common { case, json, .. } = args.common;
    let config = args.common.config()?;
    let agent = case.agent(&config, Device::Cpu)?;
    let params = agent.policy_params()?;
    let (obs, act) = case.spaces();
    let (queue, published) = crossbeam::channel::unbounded();
    let mut publisher = Publisher::new(0, queue);
    let (mut train, mut share, mut snapshot) = (vec![], vec![], None);
    for _ in 0..args.steps {
        let start = Instant::now();
        publisher.publish(0, &params)?;
        train.push(start.elapsed().as_secs_f64());
        let Ok(copied) = published.try_recv() else { continue };
        let start = Instant::now();
        snapshot = Some(copied.share()?);
        share.push(start.elapsed().as_secs_f64());
    }
    let (train, share) = (median(train), median(share));
    let Some(snapshot) = snapshot else { return Ok(()) };
    let mut copy = vec![];
    let (memory, _) = time(5, args.steps, || {
        copy.clear();
        copy.extend_from_slice(&snapshot.region);
        std::hint::black_box(&copy);
        Ok::<_, RunError>(())
    })?;
    let (take, _) = time(5, args.steps, || {
        let view = SnapshotView::open(Bulk::Shared(mapped_anew(&snapshot.region)?).into_region())?;
        Acting::new(&config, &obs, &act, &Params::read_only(&[("", &view)])?)?;
        Ok::<_, RunError>(())
    })?;
    let (case, size) = (case.name(), snapshot.region.len());
    match json {
        true => println!(
            r#"{{"case": "{case}", "bytes": {size}, "train_s": {train:.9}, "copy_s": {memory:.9}, "share_s": {share:.9}, "take_s": {take:.9}}}"#
        ),
        false => println!(
            "{case}: {:.2} MiB; {:.3} ms of the train thread (a copy alone: {:.3} ms), {:.3} ms of the publisher thread, {:.3} ms of \
             each actor",
            size as f64 / (1 << 20) as f64,
            1e3 * train,
            1e3 * memory,
            1e3 * share,
            1e3 * take
        ),
    }
    Ok(())
}

/// As an actor maps what it is sent.
fn mapped_anew(region: &SharedMemory) -> Result<SharedMemory, RunError> {
    let mapped = region.as_fd().try_clone_to_owned().and_then(SharedMemory::received);
    mapped.map_err(|error| wire("mapping a snapshot")(WireError::from(error)))
}
