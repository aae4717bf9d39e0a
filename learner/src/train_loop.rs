//! The train thread: the only writer of parameters.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::Instant;

use shared::experience::{UPDATE, classes_of};
use shared::params::Metadata;
use shared::trace::span;

use crate::RunError;
use crate::agent::{Agent, AgentError, Batch, Culprit, Trained};
use crate::batches::Batches;
use crate::desk::Task;
use crate::error::io;
use crate::predictions::Predictions;
use crate::publisher::Publisher;
use crate::replay::{CONSEC, LATENT_UPDATE, Sampled, StepId};
use crate::run::Run;
use crate::saver::Saver;

/// Bad updates in a row that end a run.
const PATIENCE: usize = 3;

/// What the train thread owns.
pub struct Trainer<'a> {
    /// The run.
    pub run: &'a Run,
    /// Everything that trains.
    pub agent: Agent,
    /// Batches drawn ahead.
    pub batches: &'a Batches,
    /// Snapshots.
    pub publisher: Publisher,
    /// Checkpoints.
    pub saver: Saver<'a>,
    /// Reports of what the world model predicts.
    pub predictions: Predictions,
    /// What was not finite in updates in a row that were skipped.
    pub bad: Vec<String>,
}

impl<'a> Trainer<'a> {
    /// Train until the run is to end.
    pub fn train(&mut self) -> Result<(), RunError> {
        if self.run.config.lockstep() {
            return self.train_in_lockstep();
        }
        let run = self.run;
        while !run.is_stopping() {
            self.attend()?;
            let waiting = span("wait for steps");
            let go_on = run.limiter.wait_to_train(|| run.is_stopping() || run.desk.has_tasks());
            drop(waiting);
            if go_on && !self.step()? {
                break;
            }
        }
        Ok(())
    }

    /// Do what was asked for since the last update.
    pub fn attend(&mut self) -> Result<(), RunError> {
        for task in self.run.desk.take() {
            match task {
                Task::Rest(reply) => reply.done(format!("paused after update {}", self.agent.updates())),
                Task::Checkpoint(reply) => self.saver.save(self.run, &self.agent, self.batches, Some(reply))?,
            }
        }
        Ok(())
    }

    /// One update and what follows from it; false if there are no batches any more.
    pub fn step(&mut self) -> Result<bool, RunError> {
        let waiting = span("wait for a batch");
        let sampled = self.batches.take(self.run)?;
        drop(waiting);
        let Some(sampled) = sampled else { return Ok(false) };
        self.update(sampled)?;
        let (update, config) = (self.agent.updates(), &self.run.config);
        if update.is_multiple_of(config.sync.publish_every.max(1)) {
            self.publish()?;
        }
        if config.log.updates > 0 && update.is_multiple_of(config.log.updates) {
            self.run.ask_for_record();
        }
        self.predictions.report_if_due(self.run, &self.agent)?;
        self.saver.save_if_due(self.run, &self.agent, self.batches)?;
        Ok(true)
    }

    /// Publish the policy as it is now.
    pub fn publish(&mut self) -> Result<(), RunError> {
        let _span = span("copy for a snapshot");
        self.publisher.publish(self.agent.updates(), &self.agent.policy_params()?)
    }

    /// Take the last checkpoint, once everything else is at rest, and report what the world model predicts at the end.
    pub fn finish(mut self) -> Result<(), RunError> {
        self.saver.save(self.run, &self.agent, self.batches, None)?;
        self.predictions.report(self.run, &self.agent)
    }

    fn update(&mut self, sampled: Sampled) -> Result<(), RunError> {
        let start = Instant::now();
        let _span = span("update");
        match self.agent.train(&sampled.batch) {
            Ok(trained) => {
                self.bad.clear();
                let stoch = classes_of(&trained.stoch);
                self.run.replay.write_latents(&sampled.ids, &trained.deter, &stoch, self.agent.updates())?;
                self.run.updates.store(self.agent.updates(), Ordering::Release);
                if self.run.config.sync.max_lag_updates > 0 {
                    // Actors hold themselves to the lag: they need to know of every update, not only of those published.
                    self.run.links.all().iter().for_each(|link| link.clock(self.agent.updates()));
                }
                self.record(start, &sampled.batch, &trained);
                Ok(())
            }
            Err(AgentError::NotFinite { what }) => self.skip(&what, sampled),
            Err(error) => Err(error.into()),
        }
    }

    fn record(&self, start: Instant, batch: &Batch, trained: &Trained) {
        self.run.record("learner/updates_per_s", 1.0);
        self.run.record("learner/update_ms", 1e3 * start.elapsed().as_secs_f64());
        for (name, value) in &trained.metrics {
            self.run.record(&format!("train/{name}"), f64::from(*value));
        }
        let now = self.agent.updates();
        let acted = batch.get(UPDATE).map(|c| c.values::<u64>()).unwrap_or_default();
        self.run.record_all("staleness/updates", acted.into_iter().map(|acted| now.saturating_sub(acted) as f64));
        let begun = latents_begun_with(batch, self.run.config.agent.replay_context);
        self.run.record_all("staleness/latents", begun.into_iter().map(|at| now.saturating_sub(at) as f64));
    }

    /// Keep a batch whose update was not finite, for inspection; nothing of the agent has changed.
    fn skip(&mut self, what: &Culprit, sampled: Sampled) -> Result<(), RunError> {
        let what = named(what, &sampled.ids, self.run.config.agent.replay_context);
        let update = self.agent.updates();
        let folder = self.run.dir.join("nonfinite");
        fs::create_dir_all(&folder).map_err(io("create", &folder))?;
        let file = folder.join(format!("update-{update:012}-{}.safetensors", self.bad.len()));
        let batch: BTreeMap<_, _> = sampled.batch.into_iter().collect();
        shared::params::save(&file, &batch, &Metadata::from([("not_finite".to_string(), what.clone())]))?;
        self.run.record("learner/skipped", 1.0);
        self.run.warn(format!("update {update} skipped: {what} is not finite; its batch is in {}", file.display()));
        self.bad.push(what);
        match &self.bad[..] {
            [first, ..] if self.bad.len() >= PATIENCE => {
                Err(RunError::Diverged { count: self.bad.len(), update, what: first.clone(), folder })
            }
            _ => Ok(()),
        }
    }
}

/// A culprit in words; of a batch column, also whose step it is.
fn named(what: &Culprit, ids: &[StepId], context: usize) -> String {
    match what {
        Culprit::Column { row, step, .. } if *row < ids.len() => {
            let StepId { stream, step: trained } = ids[*row];
            let recorded = trained + *step as u64 - context as u64;
            format!(
                "{what} (step {recorded} of actor {}, start {}, environment {})",
                stream.actor, stream.generation, stream.env
            )
        }
        _ => what.to_string(),
    }
}

/// When the stored latents were computed that rows of a batch [B, C + T, …] begin with: those of the last step before the first
/// trained one, in rows that do not go on from the piece before.
fn latents_begun_with(batch: &Batch, context: usize) -> Vec<u64> {
    let (Some(dates), Some(consec), true) = (batch.get(LATENT_UPDATE), batch.get(CONSEC), context > 0) else {
        return vec![];
    };
    let (steps, dates) = (dates.shape[1], dates.values::<u64>());
    let begins = consec.values::<i32>().into_iter().map(|piece| piece == 0);
    dates.chunks_exact(steps).zip(begins).filter(|(_, begins)| *begins).map(|(row, _)| row[context - 1]).collect()
}

#[cfg(test)]
mod tests {
    use shared::array::Array;

    use super::*;

    #[test]
    fn latents_that_are_begun_with_are_those_before_the_first_trained_step_of_a_sample() {
        let dates = Array::u64(&[2, 4], &[10, 11, 12, 13, 20, 21, 22, 23]);
        let batch = Batch::from([(LATENT_UPDATE.into(), dates), (CONSEC.into(), Array::i32(&[2], &[0, 1]))]);
        assert_eq!(latents_begun_with(&batch, 2), [11], "the second row goes on from the piece before it");
        assert!(latents_begun_with(&batch, 0).is_empty(), "nothing stored is used");
    }
}
