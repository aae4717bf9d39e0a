//! Lockstep: the actor acts one round, then the learner makes the updates that are due, then the actor gets the newest policy
//! and acts again. What a run computes then depends on its seed alone.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::RunError;
use crate::run::Run;
use crate::train_loop::Trainer;

/// How often a waiting thread looks around.
const PATIENCE: Duration = Duration::from_millis(20);

/// Chunks that have arrived since the actor was last invited to act.
#[derive(Default)]
pub struct Round {
    arrived: Mutex<usize>,
    changed: Condvar,
}

impl Round {
    /// One more is in replay.
    pub fn arrived(&self) {
        *self.arrived.lock() += 1;
        self.changed.notify_all();
    }

    fn begin(&self) {
        *self.arrived.lock() = 0;
    }

    /// Wait a little for `chunks`; whether they are there.
    fn wait(&self, chunks: usize) -> bool {
        let mut arrived = self.arrived.lock();
        if *arrived < chunks {
            self.changed.wait_for(&mut arrived, PATIENCE);
        }
        *arrived >= chunks
    }
}

impl Trainer<'_> {
    /// Train in lockstep with the one actor until the run is to end.
    pub fn train_in_lockstep(&mut self) -> Result<(), RunError> {
        loop {
            self.attend()?;
            while !self.run.is_stopping() && self.run.limiter.try_train() {
                if !self.step()? {
                    return Ok(());
                }
            }
            if !self.act_one_round() {
                return Ok(());
            }
        }
    }

    /// Have the actor act a chunk per environment with the newest policy; false if the run is to end. An actor that was started
    /// again is invited again.
    fn act_one_round(&mut self) -> bool {
        let run: &Run = self.run;
        let envs = run.config.actor.envs;
        let mut invited = None;
        while !run.is_stopping() {
            let links = run.links.all();
            let Some(link) = links.first().filter(|link| link.held().version == self.publisher.version()) else {
                std::thread::park_timeout(PATIENCE);
                continue;
            };
            if invited != Some(link.generation) {
                run.round.begin();
                link.credit(envs as u32);
                invited = Some(link.generation);
            }
            if run.round.wait(envs) {
                return true;
            }
        }
        false
    }
}
