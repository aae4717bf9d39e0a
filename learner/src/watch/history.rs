//! Numbers over environment steps, for the charts: from the run folder, then from reports.

use std::collections::BTreeSet;
use std::path::Path;

use shared::metrics::Report;

use crate::plot::PlotError;
use crate::plot::records::{self, Sample};

/// Points that a curve keeps; when there are more, neighbours are merged.
const MOST: usize = 8192;
/// Size of a value beyond which it is drawn as if it had this size, so that differences of two stay finite.
const SIZE: f64 = 1e300;
/// What the names of losses begin with.
const LOSS: &str = "train/loss/";

/// One curve.
#[derive(Debug, Default)]
pub(super) struct Curve {
    points: Vec<Point>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    step: f64,
    value: f64,
    weight: f64,
}

impl Curve {
    /// Add a number; one that is not finite is left out. What is later than it was undone by going on from a checkpoint.
    pub fn push(&mut self, step: f64, value: f64, weight: f64) {
        if !step.is_finite() || !value.is_finite() {
            return;
        }
        while self.points.last().is_some_and(|last| last.step > step) {
            self.points.pop();
        }
        self.points.push(Point { step, value: value.clamp(-SIZE, SIZE), weight });
        if self.points.len() > MOST {
            self.points = self.points.chunks(2).filter_map(mean).collect();
        }
    }

    /// At most `count` points from left to right, each the mean of its part of the axis.
    pub fn thinned(&self, count: usize) -> Vec<(f64, f64)> {
        let [Some(first), Some(last)] = [self.points.first(), self.points.last()] else { return Vec::new() };
        let count = count.max(1);
        let width = (last.step - first.step) / count as f64;
        let part = |p: &Point| if width > 0.0 { (((p.step - first.step) / width) as usize).min(count - 1) } else { 0 };
        let parts = self.points.chunk_by(|a, b| part(a) == part(b));
        parts.filter_map(mean).map(|p| (p.step, p.value)).collect()
    }

    /// The newest number.
    pub fn last(&self) -> Option<f64> {
        self.points.last().map(|p| p.value)
    }
}

impl From<&Vec<Sample>> for Curve {
    fn from(samples: &Vec<Sample>) -> Self {
        let mut curve = Self::default();
        samples.iter().for_each(|s| curve.push(s.step, s.value, s.weight));
        curve
    }
}

fn mean(points: &[Point]) -> Option<Point> {
    let weight: f64 = points.iter().map(|p| p.weight).sum();
    let over = |of: fn(&Point) -> f64| points.iter().map(|p| of(p) * (p.weight / weight)).sum();
    (weight > 0.0).then(|| Point { step: over(|p| p.step), value: over(|p| p.value), weight })
}

/// What the charts show.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Returns of episodes.
    pub returns: Curve,
    /// Losses by name.
    pub losses: Vec<(String, Curve)>,
    /// The newest record's numbers by name; those that were not finite are missing.
    pub record: Vec<(String, f64)>,
    /// What could not be read of the record.
    pub damage: Option<String>,
    episodes: u64,
    newest: Vec<(String, f64)>,
}

impl History {
    /// What the run folder's `metrics.jsonl` has.
    pub fn read(run: &Path) -> Self {
        let mut history = Self::default();
        match history.fill(run) {
            Ok(()) | Err(PlotError::NoMetrics { .. }) => {}
            Err(error) => history.damage = Some(error.to_string()),
        }
        history
    }

    fn fill(&mut self, run: &Path) -> Result<(), PlotError> {
        let last = records::last(run)?.unwrap_or_default();
        self.record = last.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect();
        self.episodes = self.number("episode/count").unwrap_or(0.0) as u64;
        let losses: Vec<&String> = last.keys().filter(|name| name.starts_with(LOSS)).collect();
        let metrics: Vec<&str> = std::iter::once("episode/return").chain(losses.iter().map(|n| n.as_str())).collect();
        let mut damaged = Vec::new();
        let keep = |error| {
            damaged.push(error);
            Ok(())
        };
        let curves = records::each(run, &metrics, &mut BTreeSet::new(), keep)?;
        let mut curves = curves.iter().map(Curve::from);
        self.returns = curves.next().unwrap_or_default();
        self.losses = losses.iter().map(|name| name[LOSS.len()..].to_string()).zip(curves).collect();
        self.newest = self.losses.iter().filter_map(|(name, curve)| Some((name.clone(), curve.last()?))).collect();
        self.damage = damaged.first().map(|error| match damaged.len() - 1 {
            0 => format!("left out: {error}"),
            others => format!("left out: {error} ({others} more such lines)"),
        });
        Ok(())
    }

    /// A number of the newest record.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.record.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    /// Go on with what a report says beyond what is known.
    pub fn extend(&mut self, report: &Report) {
        let step = report.steps as f64;
        let new = report.episodes.saturating_sub(self.episodes).min(report.returns.len() as u64) as usize;
        let returns = &report.returns[report.returns.len() - new..];
        returns.iter().for_each(|value| self.returns.push(step, *value, 1.0));
        self.episodes = report.episodes;
        if self.newest == report.losses {
            return;
        }
        self.newest.clone_from(&report.losses);
        for (name, value) in &report.losses {
            match self.losses.iter_mut().find(|(n, _)| n == name) {
                Some((_, curve)) => curve.push(step, *value, 1.0),
                None => {
                    let mut curve = Curve::default();
                    curve.push(step, *value, 1.0);
                    self.losses.push((name.clone(), curve));
                }
            }
        }
    }
}
