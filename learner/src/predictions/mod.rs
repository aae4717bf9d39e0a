//! Reports of what the world model predicts, now and then while a run trains: the train thread computes them between two updates, a
//! thread of its own draws, stores and shows them.

mod draw;

use std::collections::BTreeMap;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender};
use shared::config::Config;
use shared::dist::Seeded;

use crate::RunError;
use crate::agent::Agent;
use crate::dreamer::Prediction;
use crate::media::{Kind, Media, MediaError};
use crate::run::{Run, Shown};

pub use draw::video;

/// Keeps the noise of reports apart from that of training, which begins with the run's seed.
const NOISE: u64 = 0x7265_706f_7274;

/// Predictions on their way into pictures.
pub(crate) struct Predicted {
    /// Environment steps.
    step: u64,
    /// By observation key.
    by_key: BTreeMap<String, Prediction>,
}

/// The train thread's end.
pub(crate) struct Predictions {
    queue: Sender<Predicted>,
    last: Instant,
    /// Updates at the last report.
    reported: u64,
}

impl Predictions {
    /// Of a run that has made so many updates; the first report is due after the configured time.
    pub fn new(queue: Sender<Predicted>, updates: u64) -> Self {
        Self { queue, last: Instant::now(), reported: updates }
    }

    /// Report if it is time and the last pictures have been drawn.
    pub fn report_if_due(&mut self, run: &Run, agent: &Agent) -> Result<(), RunError> {
        let due = self.last.elapsed().as_secs_f64() >= run.options().log.report_every && self.queue.is_empty();
        if due { self.report(run, agent) } else { Ok(()) }
    }

    /// Report on what has been learned since the last report. Changes nothing that training depends on.
    pub fn report(&mut self, run: &Run, agent: &Agent) -> Result<(), RunError> {
        let (options, updates) = (run.options(), agent.updates());
        if !has_reports(&options) || updates == self.reported {
            return Ok(());
        }
        let start = Instant::now();
        let seed = run.config.run.seed ^ NOISE ^ updates.rotate_left(32);
        let steps = options.agent.replay_context + options.agent.report_length;
        let sampled = run.replay.look(options.agent.batch_size, steps, seed)?;
        let reported = agent.report(&sampled.batch, &mut Seeded::new(seed))?;
        for (name, value) in &reported.metrics {
            run.record(&format!("report/{name}"), f64::from(*value));
        }
        run.record("report/seconds", start.elapsed().as_secs_f64());
        (self.last, self.reported) = (Instant::now(), updates);
        let step = run.counters().env_steps;
        // A closed queue means that the run ends.
        let _ = self.queue.send(Predicted { step, by_key: reported.predictions });
        Ok(())
    }
}

/// Whether a run is to have reports, and items of at least two steps for them: some to see and some to predict.
fn has_reports(options: &Config) -> bool {
    let agent = &options.agent;
    agent.report && options.log.report_every > 0.0 && agent.sample_length() > agent.replay_context + 1
}

/// The drawing thread: until the train thread is done. A picture that cannot be stored is told, and the run goes on.
pub(crate) fn draw_all(run: &Run, queue: &Receiver<Predicted>) -> Result<(), RunError> {
    let media = Media::of(&run.dir, run.config.log.media_keep);
    for predicted in queue {
        for (key, prediction) in &predicted.by_key {
            if let Err(error) = show(run, &media, predicted.step, key, prediction) {
                run.warn(format!("no picture of what the world model predicts of `{key}`: {error}"));
            }
        }
    }
    Ok(())
}

fn show(run: &Run, media: &Media, step: u64, key: &str, prediction: &Prediction) -> Result<(), MediaError> {
    let picture = draw::picture(prediction)?;
    media.store(Kind::OpenLoop, key, step, &picture)?;
    run.show(Shown { tag: format!("report/openloop/{key}"), step, picture });
    Ok(())
}
