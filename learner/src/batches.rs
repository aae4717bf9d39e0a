//! Batches drawn ahead of the train thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use shared::trace::span;

use crate::replay::{Replay, ReplayError, Sampled};
use crate::run::Run;

/// Batches drawn ahead.
const AHEAD: usize = 2;
/// How often a waiting thread looks around.
const PATIENCE: Duration = Duration::from_millis(50);

/// The queue between the prefetch thread and the train thread.
#[derive(Default)]
pub struct Batches {
    queue: Mutex<Queue>,
    changed: Condvar,
    closed: AtomicBool,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Sampled>,
    /// Whether a batch is being drawn.
    drawing: bool,
}

impl Batches {
    /// With batches that were drawn before a checkpoint, but not trained on.
    pub fn new(pending: Vec<Sampled>) -> Self {
        Self { queue: Mutex::new(Queue { ready: pending.into(), drawing: false }), ..Self::default() }
    }

    /// The prefetch thread: draw until closed. In lockstep nothing is drawn ahead: what a batch holds must not depend on time.
    pub fn prefetch(&self, run: &Run) -> Result<(), ReplayError> {
        while !run.config.lockstep() && !self.closed.load(Ordering::Acquire) {
            let mut queue = self.queue.lock();
            if queue.ready.len() >= AHEAD || !run.limiter.state().open {
                self.changed.wait_until(&mut queue, Instant::now() + PATIENCE);
                continue;
            }
            queue.drawing = true;
            drop(queue);
            // The train thread takes what is ready meanwhile.
            let drawing = span("draw a batch");
            let drawn = draw(run);
            drop(drawing);
            let mut queue = self.queue.lock();
            queue.drawing = false;
            self.changed.notify_all();
            queue.ready.extend(drawn?);
        }
        Ok(())
    }

    /// The next batch; none once closed.
    pub fn take(&self, run: &Run) -> Result<Option<Sampled>, ReplayError> {
        let start = Instant::now();
        let mut queue = self.queue.lock();
        if queue.ready.is_empty() && run.config.lockstep() {
            queue.ready.extend(draw(run)?);
        }
        while queue.ready.is_empty() && !self.closed.load(Ordering::Acquire) {
            self.changed.wait_until(&mut queue, Instant::now() + PATIENCE);
        }
        let sampled = queue.ready.pop_front();
        self.changed.notify_all();
        drop(queue);
        run.record("learner/batch_ms", 1e3 * start.elapsed().as_secs_f64());
        Ok(sampled)
    }

    /// Nothing is drawn any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// Replay and what has been drawn from it, as one cut.
    pub fn cut<'a>(&self, replay: &'a Replay) -> (Vec<Sampled>, crate::replay::PendingSave<'a>) {
        let mut queue = self.queue.lock();
        // A batch that is being drawn has used replay's random state already.
        while queue.drawing {
            self.changed.wait(&mut queue);
        }
        (queue.ready.iter().cloned().collect(), replay.cut())
    }
}

/// Draw one sample: a batch, or several that follow each other.
fn draw(run: &Run) -> Result<Vec<Sampled>, ReplayError> {
    let agent = &run.config.agent;
    run.replay.sample(agent.batch_size)?.pieces(agent.consec_train, agent.replay_context)
}
