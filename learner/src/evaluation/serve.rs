//! The learner's side: when an evaluation is due, which snapshot it gets, and what becomes of its results.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::config::EvalConfig;
use shared::dreamer::Choice;
use shared::metrics::{EvaluatingReport, EvaluationReport};
use shared::snapshot::PolicySnapshot;
use shared::wire::{Episode, LinkSender, Visitor, WireError};

use super::{FILMED, FromEvaluator, Record, Source, ToEvaluator};
use crate::media::{Kind, Media};
use crate::run::{Run, Shown};

/// How often the state of the run is looked at.
const PATIENCE: Duration = Duration::from_millis(50);

/// Evaluations of a run: one at a time.
pub struct Evaluations {
    every: u64,
    episodes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The next one begins at so many environment steps.
    due: u64,
    /// The newest version that was evaluated since this process started.
    version: u64,
    /// Of the evaluation actor; 0 while none is there.
    pid: u32,
    running: Option<Running>,
    /// Seconds of a trace that the evaluation actor is to be asked for.
    trace: Option<f64>,
    last: Option<Record>,
}

/// An evaluation that goes on.
#[derive(Clone)]
struct Running {
    snapshot: Arc<PolicySnapshot>,
    step: u64,
    played: u64,
}

impl Evaluations {
    /// Of a run that goes on after `steps` environment steps. They begin at multiples of `eval.every`, over all resumes.
    pub fn new(dir: &Path, config: &EvalConfig, steps: u64) -> Self {
        let (every, episodes) = (config.every, config.episodes as u64);
        let (due, last) = match every {
            0 => (u64::MAX, None),
            every => (steps.div_ceil(every) * every, Record::newest(dir)),
        };
        Self { every, episodes, state: Mutex::new(State { due, last, ..State::default() }) }
    }

    /// Process of the evaluation actor, if it is there.
    pub fn pid(&self) -> Option<u32> {
        Some(self.state.lock().pid).filter(|pid| *pid != 0)
    }

    /// Have the evaluation actor record what it does; false if none is there.
    pub fn trace(&self, seconds: f64) -> bool {
        let mut state = self.state.lock();
        state.trace = Some(seconds).filter(|_| state.pid != 0);
        state.trace.is_some()
    }

    /// For the screen; none for a run without evaluations.
    pub fn report(&self) -> Option<EvaluationReport> {
        let state = self.state.lock();
        let evaluating = |running: &Running| EvaluatingReport {
            version: running.snapshot.version,
            played: running.played,
            episodes: self.episodes,
        };
        (self.every > 0).then(|| EvaluationReport {
            pid: state.pid,
            restarts: 0,
            running: state.running.as_ref().map(evaluating),
            last: state.last.as_ref().map(Record::report),
        })
    }

    /// Begin with the newest snapshot if an evaluation is due and none goes on. A policy that was evaluated already is not evaluated
    /// again: the result would be the same.
    fn begin(&self, steps: u64, newest: Option<Arc<PolicySnapshot>>) -> Option<Running> {
        let mut state = self.state.lock();
        let snapshot = newest.filter(|snapshot| snapshot.version > state.version)?;
        if state.running.is_some() || steps < state.due {
            return None;
        }
        let running = Running { snapshot, step: steps, played: 0 };
        state.running = Some(running.clone());
        Some(running)
    }

    /// The one that goes on has ended.
    fn end(&self, running: &Running, record: Record) {
        let mut state = self.state.lock();
        state.due = (running.step / self.every.max(1) + 1) * self.every;
        state.version = running.snapshot.version;
        state.running = None;
        state.last = Some(record);
    }

    fn running(&self) -> Option<Running> {
        self.state.lock().running.clone()
    }

    fn progress(&self, played: u64) {
        if let Some(running) = &mut self.state.lock().running {
            running.played = played;
        }
    }

    /// Nobody plays any more; what was being played.
    fn leave(&self) -> Option<Running> {
        let mut state = self.state.lock();
        (state.pid, state.trace) = (0, None);
        state.running.take()
    }
}

/// Speak with the evaluation actor of process `pid` until it or the run ends.
pub fn serve(run: &Run, visitor: &Visitor<FromEvaluator, ToEvaluator>, pid: u32) {
    run.evaluations.state.lock().pid = pid;
    let end = speak(run, visitor);
    let left = run.evaluations.leave();
    let cut = |running: &Running| {
        let (version, played, all) = (running.snapshot.version, running.played, run.evaluations.episodes);
        format!("the evaluation of version {version} was cut off after {played} of {all} episodes")
    };
    match (end, left) {
        (Ok(()), Some(running)) => {
            let dir = run.dir.display();
            run.warn(format!("{}, as the run ends; `lucid eval {dir}` evaluates its last policy", cut(&running)));
        }
        (Ok(()), None) => {}
        (Err(_), _) if run.is_stopping() => {}
        (Err(why), Some(running)) => {
            run.warn(format!(
                "{}: evaluation actor (process {pid}): {why}; it begins anew with the newest version",
                cut(&running)
            ));
        }
        (Err(why), None) => run.warn(format!("evaluation actor (process {pid}): {why}")),
    }
}

/// Ok: the run ends.
fn speak(run: &Run, visitor: &Visitor<FromEvaluator, ToEvaluator>) -> Result<(), String> {
    let (sender, receiver) = (&visitor.sender, &visitor.receiver);
    welcome(run, sender).map_err(|e| e.to_string())?;
    let (mut rests, mut heard) = (false, Instant::now());
    while !run.is_stopping() {
        let paused = run.limiter.is_paused();
        if paused != std::mem::replace(&mut rests, paused) {
            sender.send(&ToEvaluator::Pause { on: paused }).map_err(|e| e.to_string())?;
        }
        let trace = run.evaluations.state.lock().trace.take();
        if let Some(seconds) = trace {
            sender.send(&ToEvaluator::Trace { seconds }).map_err(|e| e.to_string())?;
        }
        let begun = if paused { None } else { run.evaluations.begin(run.env_steps(), run.snapshots.newest()) };
        if run.evaluations.running().is_none() || paused {
            // It has nothing to say.
            heard = Instant::now();
        }
        if let Some(Running { snapshot, step, .. }) = begun {
            let (version, update) = (snapshot.version, snapshot.update);
            tracing::info!("evaluating version {version} (update {update}) at {step} steps");
            let evaluate = ToEvaluator::Evaluate { version, step };
            sender.send_region(&evaluate, &snapshot.region).map_err(|e| e.to_string())?;
        }
        match receiver.recv_timeout(PATIENCE) {
            Ok(incoming) => {
                heard = Instant::now();
                hear(run, incoming.message).inspect_err(|_| run.record("wire/refused", 1.0))?;
            }
            Err(WireError::Timeout { .. }) if heard.elapsed() > run.silence() => {
                return Err(format!(
                    "it has said nothing for {:.0} s: it is stopped or stuck",
                    heard.elapsed().as_secs_f64()
                ));
            }
            Err(WireError::Timeout { .. }) => {}
            Err(error @ WireError::Closed) => return Err(error.to_string()),
            Err(error) => {
                run.record("wire/refused", 1.0);
                return Err(error.to_string());
            }
        }
    }
    // One that has gone needs no telling.
    let _ = sender.send(&ToEvaluator::Stop);
    Ok(())
}

fn welcome(run: &Run, sender: &LinkSender<ToEvaluator>) -> Result<(), WireError> {
    let welcome = ToEvaluator::Welcome(Box::new(run.welcome.clone()));
    match run.trunk.as_ref().and_then(|trunk| trunk.region.as_ref()) {
        Some(region) => sender.send_region(&welcome, region),
        None => sender.send(&welcome),
    }
}

fn hear(run: &Run, word: FromEvaluator) -> Result<(), String> {
    match word {
        FromEvaluator::Progress { played } => run.evaluations.progress(played),
        FromEvaluator::Warning(text) => run.warn(text),
        FromEvaluator::Evaluated { version, digest, episodes, seconds } => {
            let running = run.evaluations.running().filter(|running| running.snapshot.version == version);
            let running = running.ok_or(format!("it evaluated version {version}, which it was not asked to"))?;
            if running.snapshot.digest != digest {
                let sent = running.snapshot.digest;
                return Err(format!(
                    "it acted with other weights than snapshot {version} ({digest:016x}, not {sent:016x})"
                ));
            }
            keep(run, &running, &episodes, seconds);
        }
        FromEvaluator::Hello { .. } => return Err("it introduced itself twice".into()),
    }
    Ok(())
}

/// An evaluation has ended: into `eval.jsonl`, the metrics, and the report.
fn keep(run: &Run, running: &Running, episodes: &[Episode], seconds: f64) {
    let choice = Choice::parse(&run.config.eval.actions).unwrap_or_default();
    let (version, update) = (running.snapshot.version, running.snapshot.update);
    let record = Record::new(Source::Training, choice, run.config.run.seed, episodes).of(version, update, running.step);
    if let Err(error) = record.append(&run.dir) {
        run.warn(error.to_string());
    }
    for (name, value) in [
        ("eval/return", record.mean),
        ("eval/return_std", record.std),
        ("eval/length", record.length),
        ("eval/episodes", record.episodes as f64),
        ("eval/step", record.step as f64),
        ("eval/version", version as f64),
        ("eval/update", update as f64),
        ("eval/seconds", seconds),
    ] {
        run.record(name, value);
    }
    if run.config.eval.video {
        show(run, running.step);
    }
    let (count, mean, std) = (record.episodes, record.mean, record.std);
    tracing::info!("version {version} (update {update}): return {mean:.3} ± {std:.3} over {count} episodes");
    run.evaluations.end(running, record);
}

/// The film that the evaluation actor has kept, in TensorBoard too. There is none of a task that draws nothing.
fn show(run: &Run, step: u64) {
    match Media::of(&run.dir, run.config.log.media_keep).animation(Kind::Eval, FILMED, step) {
        Ok(Some(picture)) => run.show(Shown { tag: format!("eval/film/{FILMED}"), step, picture }),
        Ok(None) => {}
        Err(error) => run.warn(format!("the film of an evaluation is not shown: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use shared::config::Config;
    use shared::params::Weight;
    use shared::snapshot::format::{SnapshotHeader, encode};

    use super::*;

    fn evaluations(every: u64, steps: u64) -> Evaluations {
        let config = EvalConfig { every, ..Config::load(&["dummy"], &[] as &[&str]).unwrap().eval };
        Evaluations::new(Path::new("no such folder"), &config, steps)
    }

    fn snapshot(version: u64) -> Option<Arc<PolicySnapshot>> {
        let var = candle_core::Var::new(&[1f32], &candle_core::Device::Cpu).unwrap();
        let header = SnapshotHeader { version, update: 2 * version, published: 0 };
        let bytes = encode(&header, &[("pol/bias".into(), Weight::Var(var))]).unwrap();
        Some(Arc::new(PolicySnapshot::publish(&bytes).unwrap()))
    }

    fn record() -> Record {
        Record::new(Source::Training, Choice::Sample, 0, &[Episode { score: 1.0, length: 3 }])
    }

    #[test]
    fn one_at_a_time_at_multiples_of_every_and_never_one_policy_twice() {
        let evaluations = evaluations(100, 0);
        assert!(evaluations.begin(0, None).is_none());
        let first = evaluations.begin(0, snapshot(1)).unwrap();
        assert!(evaluations.begin(150, snapshot(2)).is_none(), "one goes on");
        evaluations.end(&first, record());
        assert!(evaluations.begin(99, snapshot(2)).is_none());
        assert!(evaluations.begin(100, snapshot(1)).is_none(), "version 1 was evaluated");
        let second = evaluations.begin(450, snapshot(3)).unwrap();
        evaluations.end(&second, record());
        assert!(evaluations.begin(499, snapshot(4)).is_none());
        assert!(evaluations.begin(500, snapshot(4)).is_some());
    }

    #[test]
    fn one_that_broke_off_begins_anew_with_the_newest_version() {
        let evaluations = evaluations(100, 130);
        assert!(evaluations.begin(199, snapshot(7)).is_none(), "a resumed run waits for the next multiple");
        evaluations.begin(200, snapshot(7)).unwrap();
        evaluations.progress(2);
        let report = evaluations.report().unwrap();
        assert_eq!(report.running.map(|running| (running.version, running.played)), Some((7, 2)));
        assert_eq!(evaluations.leave().unwrap().played, 2);
        let again = evaluations.begin(230, snapshot(9)).unwrap();
        assert_eq!((again.snapshot.version, again.step, again.played), (9, 230, 0));
    }

    #[test]
    fn a_run_without_evaluations_reports_none() {
        let evaluations = evaluations(0, 0);
        assert!(evaluations.begin(u64::MAX - 1, snapshot(1)).is_none() && evaluations.report().is_none());
    }
}
