//! Batches drawn ahead of the train thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::replay::{Replay, ReplayError, Sampled};
use crate::run::Run;

/// Batches drawn ahead.
const AHEAD: usize = 2;
/// How often a waiting thread looks around.
const PATIENCE: Duration = Duration::from_millis(50);

/// The queue between the prefetch thread and the train thread.
#[derive(Default)]
pub struct Batches {
    queue: Mutex<VecDeque<Sampled>>,
    changed: Condvar,
    closed: AtomicBool,
}

impl Batches {
    /// With batches that were drawn before a checkpoint, but not trained on.
    pub fn new(pending: Vec<Sampled>) -> Self {
        Self { queue: Mutex::new(pending.into()), ..Self::default() }
    }

    /// The prefetch thread: draw until closed. In lockstep nothing is drawn ahead: what a batch holds must not depend on time.
    pub fn prefetch(&self, run: &Run) -> Result<(), ReplayError> {
        while !run.config.lockstep() && !self.closed.load(Ordering::Acquire) {
            let mut queue = self.queue.lock();
            if queue.len() < AHEAD && run.limiter.state().open {
                // Drawn under the lock, so that a checkpoint sees replay's random state and this queue agree.
                draw(run, &mut queue)?;
                self.changed.notify_all();
            } else {
                self.changed.wait_until(&mut queue, Instant::now() + PATIENCE);
            }
        }
        Ok(())
    }

    /// The next batch; none once closed.
    pub fn take(&self, run: &Run) -> Result<Option<Sampled>, ReplayError> {
        let mut queue = self.queue.lock();
        if queue.is_empty() && run.config.lockstep() {
            draw(run, &mut queue)?;
        }
        while queue.is_empty() && !self.closed.load(Ordering::Acquire) {
            self.changed.wait_until(&mut queue, Instant::now() + PATIENCE);
        }
        let sampled = queue.pop_front();
        self.changed.notify_all();
        Ok(sampled)
    }

    /// Nothing is drawn any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// Replay and what has been drawn from it, as one cut.
    pub fn cut<'a>(&self, replay: &'a Replay) -> (Vec<Sampled>, crate::replay::PendingSave<'a>) {
        let queue = self.queue.lock();
        (queue.iter().cloned().collect(), replay.cut())
    }
}

/// Draw one sample: a batch, or several that follow each other.
fn draw(run: &Run, queue: &mut VecDeque<Sampled>) -> Result<(), ReplayError> {
    let agent = &run.config.agent;
    let sampled = run.replay.sample(agent.batch_size)?;
    queue.extend(sampled.pieces(agent.consec_train, agent.replay_context)?);
    Ok(())
}
