//! From numbers to curves.

use super::By;
use super::records::Sample;

/// Place of a number on both axes.
pub type Point = (f64, f64);

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Its name.
    pub name: String,
    /// From left to right, at least one.
    pub points: Vec<Point>,
}

/// Several runs together, where all of them have numbers; between its points each run is a straight line.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// The name that the runs share; empty where it is that of all runs.
    pub name: String,
    /// How many runs.
    pub runs: usize,
    /// Their mean.
    pub mean: Vec<Point>,
    /// The least.
    pub min: Vec<Point>,
    /// The greatest.
    pub max: Vec<Point>,
}

/// At every number, the weighted mean of those within the last `window` environment steps.
pub(super) fn smooth(samples: &[Sample], by: By, window: f64) -> Vec<Point> {
    let mut first = 0;
    let point = |(last, sample): (usize, &Sample)| {
        while first < last && samples[first].step <= sample.step - window {
            first += 1;
        }
        let within = &samples[first..=last];
        let weights: f64 = within.iter().map(|s| s.weight).sum();
        let x = match by {
            By::Steps => sample.step,
            By::Updates => sample.update,
            By::Time => sample.minutes,
        };
        (x, within.iter().map(|s| s.weight * s.value).sum::<f64>() / weights)
    };
    samples.iter().enumerate().map(point).collect()
}

impl Band {
    /// Of these curves, under the name they share; none where they share no part of the axis.
    pub fn of(name: &str, curves: &[&Curve]) -> Option<Self> {
        let ends = |end: fn(&[Point]) -> Option<&Point>| curves.iter().filter_map(move |c| end(&c.points)).map(|p| p.0);
        let from = ends(<[Point]>::first).fold(f64::NEG_INFINITY, f64::max);
        let to = ends(<[Point]>::last).fold(f64::INFINITY, f64::min);
        let mut at: Vec<f64> = curves.iter().flat_map(|c| &c.points).map(|p| p.0).collect();
        at.retain(|x| (from..=to).contains(x));
        at.sort_by(f64::total_cmp);
        at.dedup();
        let mut band = Self { name: name.into(), runs: curves.len(), mean: vec![], min: vec![], max: vec![] };
        for x in at {
            let values: Vec<f64> = curves.iter().map(|c| value_at(&c.points, x)).collect();
            band.mean.push((x, values.iter().sum::<f64>() / values.len() as f64));
            band.min.push((x, values.iter().copied().fold(f64::INFINITY, f64::min)));
            band.max.push((x, values.iter().copied().fold(f64::NEG_INFINITY, f64::max)));
        }
        (!band.mean.is_empty()).then_some(band)
    }
}

/// The newest number at `x`, or on the line between the points beside it; `x` must not lie outside the curve.
fn value_at(points: &[Point], x: f64) -> f64 {
    let next = points.partition_point(|p| p.0 <= x).min(points.len() - 1);
    let (left, right) = (points[next.saturating_sub(1)], points[next]);
    match right.0 - left.0 {
        width if width > 0.0 => left.1 + (right.1 - left.1) * (x - left.0) / width,
        _ => right.1,
    }
}
