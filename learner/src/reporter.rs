//! What the learner tells about the run: reports for the screen, records for `metrics.jsonl` and TensorBoard, its clock for actors.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shared::metrics::{ActorReport, EventFile, JsonLines, MetricError, Numbers, Phase, ReplayReport, Report, Window};
use shared::trace::span;
use shared::wire::{LinkSender, Waiting};

use crate::RunError;
use crate::evaluation::EVALUATION_ACTOR;
use crate::launch::Notice;
use crate::links::Link;
use crate::plot::records::FILE;
use crate::run::{Run, Shown};

/// Time between two reports.
const EVERY: Duration = Duration::from_millis(500);
/// How often targets are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Reports that a rate is taken over.
const WINDOW: usize = 10;

/// The reporter thread.
pub struct Reporter<'a> {
    run: &'a Run,
    notices: LinkSender<Notice>,
    file: JsonLines,
    events: Option<EventFile>,
    written: Instant,
    past: VecDeque<(Instant, u64, u64)>,
    numbers: Numbers,
    shares: [f64; 2],
    /// Whether records are lost, because they cannot be written.
    losing: bool,
}

impl<'a> Reporter<'a> {
    /// Goes on with the run folder's `metrics.jsonl`, and with its curves in TensorBoard.
    pub fn new(run: &'a Run, notices: LinkSender<Notice>) -> Result<Self, RunError> {
        let file = JsonLines::open(&run.dir.join(FILE))?;
        let steps = run.counters().env_steps;
        let create = || EventFile::create(&run.dir.join("tensorboard"), steps, unix_time());
        let events = run.config.log.tensorboard.then(create).transpose()?;
        let (written, past) = (Instant::now(), VecDeque::new());
        Ok(Self { run, notices, file, events, written, past, numbers: Numbers::new(), shares: [0.0; 2], losing: false })
    }

    /// Report until `done` is raised, and once more then.
    pub fn run(mut self, done: &AtomicBool) -> Result<(), RunError> {
        let mut last = Instant::now();
        while !done.load(Ordering::Acquire) {
            self.run.check_target();
            if last.elapsed() >= EVERY {
                last = Instant::now();
                self.tick()?;
            }
            if let Ok(answer) = self.run.records.recv_timeout(TICK) {
                self.write()?;
                let _ = answer.send(());
            }
        }
        self.tick()?;
        self.write()
    }

    fn tick(&mut self) -> Result<(), RunError> {
        let _span = span("report");
        let update = self.run.updates();
        for link in self.run.links.all() {
            link.clock(update);
            let silence = link.held().heard.elapsed();
            if silence > self.run.silence() {
                let (actor, pid, silence) = (link.actor, link.pid, silence.as_secs());
                self.run.warn(format!(
                    "actor {actor} (process {pid}) has said nothing for {silence} s: it is stopped or stuck, and is started again"
                ));
                link.cut();
            } else if link.is_slow() {
                let (actor, pid) = (link.actor, link.pid);
                self.run
                    .warn(format!("actor {actor} (process {pid}) has not taken a snapshot for 30 s: it may be stuck"));
            }
        }
        let shares = self.run.limiter.take_shares();
        self.shares = [shares.learner_waits, shares.actors_wait];
        self.run.record("limiter/learner_waits", shares.learner_waits * EVERY.as_secs_f64());
        self.run.record("limiter/actors_wait", shares.actors_wait * EVERY.as_secs_f64());
        let report = self.report();
        // The launcher may have gone; this process then learns it in other ways.
        let _ = self.notices.send(&Notice::Report(Box::new(report)));
        let log = &self.run.options().log;
        if log.updates == 0 && self.written.elapsed().as_secs_f64() >= log.every {
            self.write()?;
        }
        Ok(())
    }

    fn report(&mut self) -> Report {
        let (counters, stats) = (self.run.counters(), self.run.replay.stats());
        let [steps_per_s, updates_per_s] = self.rates(counters.env_steps, counters.updates);
        let config = self.run.options();
        let need = (config.agent.batch_size * config.agent.sample_length()) as u64;
        let actors: Vec<ActorReport> = self.run.links.all().iter().map(|link| self.actor(link)).collect();
        let returns = self.run.totals.lock().returns.iter().copied().collect();
        let phase = match () {
            () if self.run.is_stopping() => Phase::Stopping,
            () if self.run.limiter.is_paused() => Phase::Paused,
            () if actors.is_empty() && counters.env_steps == 0 => Phase::Starting,
            () if !self.run.limiter.state().open => Phase::Filling { need },
            () => Phase::Training,
        };
        Report {
            phase,
            elapsed: self.run.age().as_secs_f64(),
            steps: counters.env_steps,
            target_steps: config.run.steps,
            target_minutes: config.run.minutes,
            steps_per_s,
            updates: counters.updates,
            updates_per_s,
            episodes: counters.episodes,
            returns,
            losses: losses(&self.numbers),
            replay: ReplayReport {
                steps: stats.steps as u64,
                cap: config.replay.size as u64,
                bytes: stats.bytes as u64,
                cap_bytes: (config.replay.gib * (1u64 << 30) as f64) as u64,
                disk_bytes: stats.disk_bytes as u64,
                disk_cap_bytes: (config.replay.disk_gib * (1u64 << 30) as f64) as u64,
            },
            learner_waits: self.shares[0],
            actors_wait: self.shares[1],
            version: counters.version,
            rss: resident(std::process::id()).map_or(0, |bytes| bytes as u64),
            learner_restarts: 0,
            replay_ratio: self.replay_ratio(),
            evaluation: self.run.evaluations.report(),
            actors,
            // The launcher knows them.
            hosts: Vec::new(),
            warnings: self.run.take_warnings(),
        }
    }

    fn replay_ratio(&self) -> f64 {
        let (counters, config) = (self.run.counters(), &self.run.config.agent);
        let replayed = counters.updates as f64 * (config.batch_size * config.batch_length) as f64;
        replayed / (counters.env_steps as f64).max(1.0)
    }

    /// Environment steps and updates per second.
    fn rates(&mut self, steps: u64, updates: u64) -> [f64; 2] {
        let now = Instant::now();
        self.past.push_back((now, steps, updates));
        if self.past.len() > WINDOW {
            self.past.pop_front();
        }
        let Some(&(since, steps_then, updates_then)) = self.past.front() else { return [0.0; 2] };
        let seconds = now.duration_since(since).as_secs_f64();
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        [rate(steps.saturating_sub(steps_then)), rate(updates.saturating_sub(updates_then))]
    }

    fn actor(&self, link: &Link) -> ActorReport {
        let (held, published) = (link.held(), self.run.snapshots.newest());
        let mut report = ActorReport {
            // The launcher knows it.
            host: None,
            index: link.actor as usize,
            pid: link.pid,
            version: held.version,
            lag_versions: published.map_or(0, |p| p.version.saturating_sub(held.version)),
            lag_updates: self.run.updates().saturating_sub(held.update),
            lag_seconds: held.published.map_or(0.0, |at| at.elapsed().as_secs_f64()),
            ack_ms: held.ack_ms,
            steps: held.steps,
            steps_per_s: held.steps_per_s,
            waits_for: match held.waiting {
                Waiting::Nothing => String::new(),
                Waiting::Credits => "credits".into(),
                Waiting::Snapshot => "snapshot".into(),
                Waiting::Resume => "resume".into(),
            },
            silent: held.heard.elapsed().as_secs_f64(),
            restarts: 0,
            rss: resident(link.pid).map_or(0, |bytes| bytes as u64),
        };
        if report.silence().is_some() {
            // What it said last is no longer so.
            report.steps_per_s = 0.0;
        }
        if held.version > 0 {
            self.run.record("lag/versions", report.lag_versions as f64);
            self.run.record("lag/updates", report.lag_updates as f64);
            self.run.record("lag/seconds", report.lag_seconds);
        }
        report
    }

    /// Memory of the learner and its actors, and how often actors were started again.
    fn record_processes(&self) {
        let links = self.run.links.all();
        let actors = links.iter().map(|link| (format!("actor-{}", link.actor), link.pid));
        let evaluation = self.run.evaluations.pid().map(|pid| (EVALUATION_ACTOR.to_string(), pid));
        for (name, pid) in actors.chain(evaluation).chain([("learner".to_string(), std::process::id())]) {
            if let Some(bytes) = resident(pid) {
                self.run.record(&format!("memory/rss/{name}"), bytes);
            }
        }
        let earlier: u32 = links.iter().map(|link| link.generation).sum();
        self.run.record("actor/restarts", earlier.into());
    }

    /// Versions that actors hold, and those whose memory is still there.
    fn record_snapshots(&self) {
        let held: BTreeSet<u64> = self.run.links.all().iter().map(|link| link.held().version).collect();
        self.run.record("snapshot/held", held.into_iter().filter(|version| *version > 0).count() as f64);
        let alive = self.run.versions.alive();
        self.run.record("snapshot/alive", alive as f64);
    }

    /// One record of the window that ends now.
    fn write(&mut self) -> Result<(), RunError> {
        let (counters, stats) = (self.run.counters(), self.run.replay.stats());
        self.run.record("env/steps", counters.env_steps as f64);
        self.run.record("learner/updates", counters.updates as f64);
        self.run.record("episode/count", counters.episodes as f64);
        self.run.record("replay/fill", stats.steps as f64);
        self.run.record("replay/items", stats.items as f64);
        self.run.record("replay/bytes", stats.bytes as f64);
        self.run.record("replay/disk_bytes", stats.disk_bytes as f64);
        self.record_processes();
        self.run.record("replay/ratio", self.replay_ratio());
        self.record_snapshots();
        let window = self.run.meters.lock().take();
        self.numbers = window.numbers(self.written.elapsed().as_secs_f64());
        self.written = Instant::now();
        match self.keep(counters.env_steps, counters.updates, &window) {
            Err(error @ MetricError::File { .. }) => {
                // Training goes on without: the disk may have room again.
                if !std::mem::replace(&mut self.losing, true) {
                    self.run.warn(format!("metrics are not written: {error}"));
                }
                Ok(())
            }
            kept => {
                if std::mem::take(&mut self.losing) {
                    self.run.warn("metrics are written again");
                }
                Ok(kept?)
            }
        }
    }

    fn keep(&mut self, steps: u64, updates: u64, window: &Window) -> Result<(), MetricError> {
        let time = unix_time();
        self.file.append(steps, updates, time, &self.numbers)?;
        if let Some(events) = &mut self.events {
            events.append(steps, time, &self.numbers, window.samples())?;
            for Shown { tag, step, picture } in self.run.take_shown() {
                events.append_image(step, time, &tag, [picture.height, picture.width], &picture.bytes)?;
            }
        }
        Ok(())
    }
}

/// Seconds since 1970.
fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Resident memory of a process in bytes, from Linux' /proc; none if it has ended.
pub(crate) fn resident(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()? * 1024.0)
}

fn losses(numbers: &Numbers) -> Vec<(String, f64)> {
    let found: BTreeMap<&str, f64> =
        numbers.iter().filter_map(|(name, value)| Some((name.strip_prefix("train/loss/")?, *value))).collect();
    found.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_an_impossible_one_has_none() {
        assert!(resident(std::process::id()).is_some_and(|bytes| bytes > 1e5));
        assert_eq!(resident(u32::MAX), None);
    }
}
