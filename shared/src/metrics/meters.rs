//! Meters: values in, one number per metric and window out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Average, MetricError, find};

/// Numbers by name, as they are written.
pub type Numbers = BTreeMap<String, f64>;

/// Median, 95th percentile and largest of some values (nearest rank).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of the values are at most this.
    pub median: f64,
    /// 95% of the values are at most this.
    pub p95: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these values; none if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = |share: f64| sorted.get(((share * sorted.len() as f64).ceil() as usize).saturating_sub(1)).copied();
        Some(Self { median: rank(0.5)?, p95: rank(0.95)?, max: rank(1.0)? })
    }
}

/// Values of the current window, by metric.
#[derive(Default)]
pub struct Meters {
    windows: BTreeMap<String, (Average, Vec<f64>)>,
}

impl Meters {
    /// Add a value to a metric of the table; an unknown name is an error and changes nothing.
    pub fn record(&mut self, name: &str, value: f64) -> Result<(), MetricError> {
        if let Some((average, values)) = self.windows.get_mut(name) {
            push(*average, values, value);
            return Ok(());
        }
        let average = find(name)?.average;
        self.windows.insert(name.into(), (average, vec![value]));
        Ok(())
    }

    /// The numbers of the window that ends now and took this many seconds; the next window starts empty.
    pub fn drain(&mut self, seconds: f64) -> Numbers {
        let mut numbers = Numbers::new();
        for (name, (average, values)) in &mut self.windows {
            summarise(name, *average, values, seconds, &mut numbers);
            if *average != Average::Last {
                values.clear();
            }
        }
        numbers
    }
}

/// Keep what the average needs: everything for a spread, one number otherwise, or two for a mean.
fn push(average: Average, values: &mut Vec<f64>, value: f64) {
    match (average, values.first_mut()) {
        (Average::Last, Some(kept)) => *kept = value,
        (Average::Sum | Average::Rate, Some(kept)) => *kept += value,
        (Average::Max, Some(kept)) => *kept = kept.max(value),
        _ => values.push(value),
    }
}

fn summarise(name: &str, average: Average, values: &[f64], seconds: f64, numbers: &mut Numbers) {
    let Some(first) = values.first().copied() else {
        if average == Average::Rate {
            numbers.insert(name.into(), 0.0);
        }
        return;
    };
    let number = match average {
        Average::Mean => values.iter().sum::<f64>() / values.len() as f64,
        Average::Rate => first / seconds.max(1e-9),
        Average::Last | Average::Sum | Average::Max => first,
        Average::Spread => {
            if let Some(spread) = Spread::of(values) {
                numbers.insert(format!("{name}/median"), spread.median);
                numbers.insert(format!("{name}/p95"), spread.p95);
                numbers.insert(format!("{name}/max"), spread.max);
            }
            return;
        }
    };
    numbers.insert(name.into(), number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_is_averaged_as_the_table_says() {
        let mut meters = Meters::default();
        for value in [1.0, 2.0, 6.0] {
            for name in ["episode/return", "env/steps", "env/steps_per_s", "limiter/actors_wait", "lag/updates"] {
                meters.record(name, value).unwrap();
            }
        }
        let numbers = meters.drain(2.0);
        let expected = [
            ("env/steps", 6.0),
            ("env/steps_per_s", 4.5),
            ("episode/return", 3.0),
            ("lag/updates/max", 6.0),
            ("lag/updates/median", 2.0),
            ("lag/updates/p95", 6.0),
            ("limiter/actors_wait", 9.0),
        ];
        assert_eq!(numbers, expected.map(|(name, value)| (name.to_string(), value)).into());
    }

    #[test]
    fn an_empty_window_repeats_counters_and_reports_no_stale_means() {
        let mut meters = Meters::default();
        for name in ["episode/return", "env/steps", "env/steps_per_s"] {
            meters.record(name, 5.0).unwrap();
        }
        meters.drain(1.0);
        assert_eq!(meters.drain(1.0), [("env/steps".into(), 5.0), ("env/steps_per_s".into(), 0.0)].into());
    }

    #[test]
    fn families_and_typos() {
        assert_eq!(find("train/loss/dyn").unwrap().name, "train/loss/*");
        assert_eq!(find("train/adv_mag").unwrap().name, "train/*");
        let message = Meters::default().record("env/step", 1.0).unwrap_err().to_string();
        assert!(message.contains("`env/step` (did you mean `env/steps`?)"), "{message}");
        assert!(find("train/").is_err());
    }
}
