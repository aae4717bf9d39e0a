//! A plain line of progress.

use std::time::{Duration, Instant};

use shared::metrics::{Phase, Report, StartReport};

/// Prints warnings as they come and a line of progress every so often.
pub struct Progress {
    every: Duration,
    last: Option<Instant>,
}

impl Progress {
    /// A line every `seconds`.
    pub fn new(seconds: f64) -> Self {
        Self { every: Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(10)), last: None }
    }

    /// What the run starts with.
    pub fn start(&self, report: &StartReport) {
        for row in &report.modules {
            println!("{:12} {:>12} trainable {:>12} frozen", row.module, row.trainable, row.frozen);
        }
    }

    /// Something people should know.
    pub fn warn(&self, text: &str) {
        eprintln!("warning: {text}");
    }

    /// How the run goes.
    pub fn report(&mut self, report: &Report) {
        report.warnings.iter().for_each(|text| self.warn(text));
        if self.last.is_none_or(|at| at.elapsed() >= self.every) {
            self.last = Some(Instant::now());
            println!("{}", line(report));
        }
    }
}

fn line(report: &Report) -> String {
    let returns = match report.returns.len() {
        0 => "-".to_string(),
        n => format!("{:.2}", report.returns.iter().sum::<f64>() / n as f64),
    };
    let lag = report.lag().map_or_else(|| "-".into(), |[v, u, s]| format!("{}/{}/{:.1}s", v.max, u.max, s.max));
    let phase = match report.phase {
        Phase::Starting => "starting",
        Phase::Filling { .. } => "filling replay",
        Phase::Training => "training",
        Phase::Stopping => "stopping",
    };
    format!(
        "[{:.0}s] {phase}: steps {} ({:.0}/s), updates {} ({:.1}/s), episodes {}, return {returns}, replay {}, lag {lag}, \
         learner waits {:.0}%, actors wait {:.0}%",
        report.elapsed,
        report.steps,
        report.steps_per_s,
        report.updates,
        report.updates_per_s,
        report.episodes,
        report.replay.steps,
        100.0 * report.learner_waits,
        100.0 * report.actors_wait
    )
}
