//! What the threads of the learner share.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use shared::config::Config;
use shared::metrics::Meters;
use shared::snapshot::{PolicySnapshot, Store};
use shared::wire::{Episode, Welcome};

use crate::RunError;
use crate::checkpoint::Counters;
use crate::desk::Desk;
use crate::evaluation::Evaluations;
use crate::frozen::Trunk;
use crate::journal::Journal;
use crate::limiter::{Limiter, LimiterError};
use crate::links::Links;
use crate::lockstep::Round;
use crate::media::Picture;
use crate::replay::Replay;
use crate::versions::Versions;

/// How often a waiting thread looks around.
const PATIENCE: Duration = Duration::from_millis(50);
/// Returns kept for the screen.
const RETURNS: usize = 20;

/// One run, as its learner sees it.
pub struct Run {
    /// Options that it began with; see [`Run::options`] for those that may change.
    pub config: Config,
    /// Run folder.
    pub dir: PathBuf,
    /// The run's secret.
    pub token: String,
    /// What every actor is told.
    pub welcome: Welcome,
    /// The frozen encoder, where there is one.
    pub trunk: Option<Trunk>,
    /// Experience.
    pub replay: Replay,
    /// What has happened since the last cut.
    pub journal: Mutex<Journal>,
    /// Who may go on.
    pub limiter: Limiter,
    /// What the train thread is asked to do.
    pub desk: Desk,
    /// Actors that have joined.
    pub links: Links,
    /// The newest published policy.
    pub snapshots: Store<PolicySnapshot>,
    /// What was published.
    pub versions: Versions,
    /// What the evaluation actor does.
    pub evaluations: Evaluations,
    /// What the actor has sent of the current round, in lockstep.
    pub round: Round,
    /// Requests for a record in `metrics.jsonl`; each is answered when the record is written.
    pub records: Receiver<Sender<()>>,
    ask: Sender<Sender<()>>,
    /// Updates made; written by the train thread alone.
    pub updates: AtomicU64,
    /// Where the run stands beside updates.
    pub totals: Mutex<Totals>,
    /// Numbers of the current window.
    pub meters: Mutex<Meters>,
    /// Held while a chunk enters replay and the counters, and while a checkpoint takes its cut of both.
    pub border: Mutex<()>,
    /// When this process started.
    pub started: Instant,
    before: Duration,
    options: Mutex<Arc<Config>>,
    warnings: Mutex<Vec<String>>,
    shown: Mutex<Vec<Shown>>,
    stop: AtomicBool,
    reason: Mutex<Option<String>>,
    failure: Mutex<Option<RunError>>,
}

/// A picture for TensorBoard.
pub struct Shown {
    /// Its name there.
    pub tag: String,
    /// Environment steps.
    pub step: u64,
    /// The picture.
    pub picture: Picture,
}

/// Counters and the last episodes.
#[derive(Default)]
pub struct Totals {
    /// What a checkpoint keeps; `updates` and `elapsed` are filled in when it is taken.
    pub counters: Counters,
    /// Returns of the last episodes, newest last.
    pub returns: VecDeque<f64>,
}

/// The parts that a run is put together from.
pub struct Parts {
    /// Options.
    pub config: Config,
    /// Run folder.
    pub dir: PathBuf,
    /// The run's secret.
    pub token: String,
    /// How long the run has gone on with earlier processes of the learner.
    pub before: Duration,
    /// What every actor is told.
    pub welcome: Welcome,
    /// The frozen encoder, where there is one.
    pub trunk: Option<Trunk>,
    /// Experience.
    pub replay: Replay,
    /// What has happened since the last cut.
    pub journal: Journal,
    /// Who may go on.
    pub limiter: Limiter,
    /// Where the run stands.
    pub counters: Counters,
}

impl Run {
    /// At its start in this process.
    pub fn new(parts: Parts) -> Self {
        let Parts { config, dir, token, before, welcome, trunk, replay, journal, limiter, counters } = parts;
        let (ask, records) = bounded(1);
        Self {
            options: Mutex::new(Arc::new(config.clone())),
            desk: Desk::default(),
            token,
            welcome,
            trunk,
            replay,
            journal: Mutex::new(journal),
            limiter,
            links: Links::default(),
            evaluations: Evaluations::new(&dir, &config.eval, counters.env_steps),
            config,
            dir,
            snapshots: Store::default(),
            versions: Versions::default(),
            round: Round::default(),
            records,
            ask,
            updates: AtomicU64::new(counters.updates),
            totals: Mutex::new(Totals { counters, returns: VecDeque::new() }),
            meters: Mutex::new(Meters::default()),
            border: Mutex::new(()),
            started: Instant::now(),
            before,
            warnings: Mutex::new(Vec::new()),
            shown: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
            reason: Mutex::new(None),
            failure: Mutex::new(None),
        }
    }

    /// Have a record written and wait for it, so that what happens afterwards is not in it.
    pub fn ask_for_record(&self) {
        let (answer, answered) = bounded(1);
        // A reporter that has failed cannot be asked; it has told why.
        if self.ask.send(answer).is_ok() {
            while answered.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) && !self.is_stopping() {}
        }
    }

    /// Options as they are now.
    pub fn options(&self) -> Arc<Config> {
        self.options.lock().clone()
    }

    /// Go on with other options, which differ only in those that may change.
    pub fn set_options(&self, options: Config) -> Result<(), LimiterError> {
        self.limiter.set_ratio(options.run.train_ratio)?;
        *self.options.lock() = Arc::new(options);
        Ok(())
    }

    /// How long an actor may say nothing: one of its environments may hold it up for a while.
    pub fn silence(&self) -> Duration {
        let seconds = self.config.env.timeout + self.config.sync.silence_timeout;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.updates.load(Ordering::Acquire)
    }

    /// How long the run has gone on since it was started or resumed, whichever learners it had.
    pub fn age(&self) -> Duration {
        self.before + self.started.elapsed()
    }

    /// Environment steps so far.
    pub fn env_steps(&self) -> u64 {
        self.totals.lock().counters.env_steps
    }

    /// Counters as they are now.
    pub fn counters(&self) -> Counters {
        let mut counters = self.totals.lock().counters.clone();
        counters.updates = self.updates();
        counters.elapsed += self.started.elapsed().as_secs_f64();
        counters
    }

    /// Say something that people should see; it is logged and shown once.
    pub fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::warn!("{text}");
        self.warnings.lock().push(text);
    }

    /// Something that another process said is not taken: a warning that is counted.
    pub fn refuse(&self, text: impl Into<String>) {
        self.record("wire/refused", 1.0);
        self.warn(text);
    }

    /// Warnings since the last call.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock())
    }

    /// Have a picture shown in TensorBoard, with the next record.
    pub fn show(&self, shown: Shown) {
        if self.config.log.tensorboard {
            self.shown.lock().push(shown);
        }
    }

    /// Pictures since the last call.
    pub fn take_shown(&self) -> Vec<Shown> {
        std::mem::take(&mut *self.shown.lock())
    }

    /// Record a number; a name that the table lacks is a mistake in this program and is logged.
    pub fn record(&self, name: &str, value: f64) {
        self.record_all(name, [value]);
    }

    /// [`Self::record`] for many numbers.
    pub fn record_all(&self, name: &str, values: impl IntoIterator<Item = f64>) {
        if let Err(error) = self.meters.lock().record_all(name, values) {
            tracing::error!("{error}");
        }
    }

    /// An episode has ended.
    pub fn episode(&self, episode: Episode) {
        let mut totals = self.totals.lock();
        totals.returns.push_back(episode.score.into());
        if totals.returns.len() > RETURNS {
            totals.returns.pop_front();
        }
        drop(totals);
        self.record("episode/return", episode.score.into());
        self.record("episode/length", episode.length.into());
    }

    /// End the run in order; the first reason counts.
    pub fn stop(&self, reason: impl Into<String>) {
        self.reason.lock().get_or_insert(reason.into());
        self.stop.store(true, Ordering::Release);
    }

    /// End the run in order, and say at its end that it failed; the first failure counts.
    pub fn fail(&self, error: RunError) {
        self.stop(error.to_string());
        self.failure.lock().get_or_insert(error);
    }

    /// Why it failed, once.
    pub fn take_failure(&self) -> Option<RunError> {
        self.failure.lock().take()
    }

    /// Whether the run is to end.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Why it ends.
    pub fn reason(&self) -> String {
        self.reason.lock().clone().unwrap_or_default()
    }

    /// Stop once `run.steps` or `run.minutes` is reached.
    pub fn check_target(&self) {
        let run = self.options().run.clone();
        let (steps, minutes) = (run.steps, run.minutes);
        if steps > 0 && self.totals.lock().counters.env_steps >= steps {
            self.stop(format!("reached run.steps = {steps}"));
        }
        let limit = Duration::try_from_secs_f64(60.0 * minutes).unwrap_or(Duration::MAX);
        if minutes > 0.0 && self.age() >= limit {
            self.stop(format!("reached run.minutes = {minutes}"));
        }
    }
}
