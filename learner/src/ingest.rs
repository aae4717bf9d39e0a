//! Chunks into replay, one thread for all actors; credits back when the train ratio allows.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use shared::experience::{Chunk, UPDATE};
use shared::trace::span;

use crate::links::Link;
use crate::replay::{LATENT_UPDATE, Replay};
use crate::run::Run;

/// How often a thread that holds credits back looks around.
const PATIENCE: Duration = Duration::from_millis(50);

/// A chunk and who sent it.
pub type Arrival = (Arc<Link>, Chunk);

/// The ingest thread: until no actor is left.
pub fn ingest_all(run: &Run, arrivals: &Receiver<Arrival>) {
    for (link, mut chunk) in arrivals {
        date_latents(&run.replay, &mut chunk);
        match insert(run, &chunk) {
            Ok(()) => {
                link.stored();
                if let Err(error) = run.replay.unload() {
                    run.warn(format!("replay keeps steps in memory that belong on disk: {error}"));
                }
                run.check_target();
                if run.config.lockstep() {
                    run.round.arrived();
                    continue;
                }
                // The faster side waits here: no credit, no next chunk. A run that ends takes what is left at once.
                let waiting = span("wait for updates");
                while !run.is_stopping() && !run.limiter.wait_to_insert(PATIENCE) {}
                drop(waiting);
                if run.is_stopping() {
                    // Told before it gets the credit, so that it sends what it has and nothing more.
                    link.stop();
                }
                link.credit(1);
            }
            Err(error) => {
                run.refuse(format!("actor {}: {error}", link.actor));
                link.cut();
            }
        }
    }
}

/// Say of what update the latents of a chunk are, where replay keeps that.
pub fn date_latents(replay: &Replay, chunk: &mut Chunk) {
    if replay.dates_latents()
        && let Some(acted) = chunk.columns.get(UPDATE)
    {
        chunk.columns.insert(LATENT_UPDATE.into(), acted.clone());
    }
}

/// Episodes that end in the last `steps` steps of a chunk.
pub fn ended(chunk: &Chunk, steps: usize) -> u64 {
    let Some(flags) = chunk.columns.get("is_last") else { return 0 };
    flags.bytes.iter().rev().take(steps).map(|flag| u64::from(*flag)).sum()
}

fn insert(run: &Run, chunk: &Chunk) -> Result<(), crate::replay::ReplayError> {
    let _span = span("insert");
    let border = run.border.lock();
    let inserted = run.replay.insert(chunk)?;
    if inserted.steps > 0
        && let Err(error) = run.journal.lock().arrived(chunk)
    {
        run.warn(format!(
            "steps are only in memory until the next checkpoint, and would be lost with the learner's process: {error}"
        ));
    }
    let mut totals = run.totals.lock();
    totals.counters.env_steps += inserted.steps as u64;
    totals.counters.episodes += ended(chunk, inserted.steps);
    drop(totals);
    run.limiter.inserted(inserted.steps, run.replay.stats().items);
    drop(border);
    if inserted.steps < chunk.len() {
        run.record("wire/repeated", (chunk.len() - inserted.steps) as f64);
    }
    run.record("env/steps_per_s", inserted.steps as f64);
    let (now, acted) =
        (run.updates(), chunk.columns.get(UPDATE).map(|column| column.values::<u64>()).unwrap_or_default());
    run.record_all("lag/insert", acted.into_iter().map(|acted| now.saturating_sub(acted) as f64));
    Ok(())
}
