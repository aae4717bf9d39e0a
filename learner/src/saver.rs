//! Checkpoints: the cut is taken by the train thread between two updates, the files are written by a thread of its own.

use std::collections::BTreeMap;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender};
use shared::trace::span;
use shared::vit::PREFIX;

use crate::RunError;
use crate::agent::Agent;
use crate::batches::Batches;
use crate::checkpoint::{Checkpoints, Cut, Frozen};
use crate::desk::Reply;
use crate::proof::{check_agent, check_trunk};
use crate::replay::{Manifest, PendingSave};
use crate::run::Run;

/// Bytes of the journal after which a checkpoint is taken before its time: with that the journal begins anew.
const LONGEST_JOURNAL: u64 = 1 << 30;

/// A cut whose replay files are not written yet.
pub struct Pending<'a> {
    replay: PendingSave<'a>,
    /// Who asked for it.
    reply: Option<Reply>,
    finish: Box<dyn FnOnce(Manifest) -> Cut + Send>,
}

/// The train thread's end.
pub struct Saver<'a> {
    queue: Sender<Pending<'a>>,
    last: Instant,
}

impl<'a> Saver<'a> {
    /// The first is due after the configured time.
    pub fn new(queue: Sender<Pending<'a>>) -> Self {
        Self { queue, last: Instant::now() }
    }

    /// Save if it is time, or the journal has become long, and the last one has been written.
    pub fn save_if_due(&mut self, run: &'a Run, agent: &Agent, batches: &Batches) -> Result<(), RunError> {
        let every = run.options().checkpoint.every;
        let due = self.last.elapsed().as_secs_f64() >= every || run.journal.lock().bytes() > LONGEST_JOURNAL;
        if due && self.queue.is_empty() {
            self.save(run, agent, batches, None)?;
        }
        Ok(())
    }

    /// Take a cut and hand it over; who asked for it is told when it is written.
    pub fn save(
        &mut self,
        run: &'a Run,
        agent: &Agent,
        batches: &Batches,
        reply: Option<Reply>,
    ) -> Result<(), RunError> {
        self.last = Instant::now();
        // A closed queue means that the writer has failed; it has told why.
        let _ = self.queue.send(Pending { reply, ..take_cut(run, agent, batches)? });
        Ok(())
    }
}

/// Only of frozen parameters that are what they were; those of the ViT are checked by [`write`].
fn take_cut<'a>(run: &'a Run, agent: &Agent, batches: &Batches) -> Result<Pending<'a>, RunError> {
    let _span = span("cut for a checkpoint");
    check_agent(agent)?;
    let mut frozen = frozen(agent);
    let trunk = run.trunk.as_ref().and_then(|trunk| trunk.record.clone());
    frozen.extend(trunk.map(|record| (PREFIX.to_string(), record)));
    let (config, layout) = (fingerprint(&run.config)?, format!("{:016x}", run.welcome.layout));
    let state = agent.save()?;
    let border = run.border.lock();
    let (pending, pending_files) = batches.cut(&run.replay);
    let (counters, limiter) = (run.counters(), run.limiter.state());
    let journal = run.journal.lock().cut();
    drop(border);
    let finish =
        move |replay| Cut { agent: state, counters, limiter, replay, pending, frozen, config, layout, journal };
    Ok(Pending { replay: pending_files, reply: None, finish: Box::new(finish) })
}

/// Frozen subtrees of an agent; the ViT is beside it.
pub fn frozen(agent: &Agent) -> BTreeMap<String, Frozen> {
    agent.params().frozen().iter().map(|record| (record.prefix.clone(), record.clone().into())).collect()
}

/// Fingerprint of a resolved configuration.
pub fn fingerprint(config: &shared::config::Config) -> Result<String, RunError> {
    Ok(blake3::hash(config.to_toml()?.as_bytes()).to_hex().to_string())
}

/// The writer thread: until the train thread is done. A checkpoint that cannot be written is told and the run goes on, except for
/// the last one, whose error is returned. Frozen parameters that have changed end the run: nothing that was computed with them is
/// saved.
pub fn write_all(run: &Run, checkpoints: &Checkpoints, queue: &Receiver<Pending<'_>>) -> Result<(), RunError> {
    let mut result = Ok(());
    for mut pending in queue {
        let _span = span("write a checkpoint");
        let (start, reply) = (Instant::now(), pending.reply.take());
        let written = write(run, checkpoints, pending);
        if let Some(reply) = reply {
            match &written {
                Ok(update) => reply.done(format!("a checkpoint of update {update} is written")),
                Err(error) => reply.refused(format!("checkpoint not written: {error}")),
            }
        }
        result = written.map(drop);
        match &result {
            Err(RunError::Frozen { .. }) => break,
            Ok(()) => run.record("checkpoint/seconds", start.elapsed().as_secs_f64()),
            Err(error) => run.warn(format!("checkpoint not written: {error}")),
        }
    }
    result
}

/// The update of the checkpoint that is written.
fn write(run: &Run, checkpoints: &Checkpoints, pending: Pending<'_>) -> Result<u64, RunError> {
    // Here, where no update waits for it: it may be gigabytes.
    run.trunk.as_ref().map_or(Ok(()), check_trunk)?;
    let cut = (pending.finish)(pending.replay.write()?);
    checkpoints.save(&cut)?;
    Ok(cut.counters.updates)
}
