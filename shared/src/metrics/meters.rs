//! Meters: values in, one number per metric and window out.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
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

/// Values that a spread keeps of one window. Of more it keeps a random choice, and the largest.
const KEPT: usize = 1 << 16;

/// Values of the current window, by metric.
#[derive(Default)]
pub struct Meters {
    meters: BTreeMap<String, Meter>,
}

impl Meters {
    /// Add a value to a metric of the table; an unknown name is an error and changes nothing.
    pub fn record(&mut self, name: &str, value: f64) -> Result<(), MetricError> {
        self.record_all(name, [value])
    }

    /// [`Self::record`] for many values.
    pub fn record_all(&mut self, name: &str, values: impl IntoIterator<Item = f64>) -> Result<(), MetricError> {
        if !self.meters.contains_key(name) {
            self.meters.insert(name.into(), Meter::new(find(name)?.average));
        }
        if let Some(meter) = self.meters.get_mut(name) {
            values.into_iter().for_each(|value| meter.push(value));
        }
        Ok(())
    }

    /// The window that ends now. What is costly is left to it, so that whoever records waits for this only.
    pub fn take(&mut self) -> Window {
        let next = self.meters.iter().map(|(name, meter)| (name.clone(), meter.next())).collect();
        Window { meters: std::mem::replace(&mut self.meters, next) }
    }
}

/// A window that has ended.
pub struct Window {
    meters: BTreeMap<String, Meter>,
}

impl Window {
    /// Its numbers, if it took this many seconds.
    pub fn numbers(&self, seconds: f64) -> Numbers {
        let mut numbers = Numbers::new();
        self.meters.iter().for_each(|(name, meter)| meter.summarise(name, seconds, &mut numbers));
        numbers
    }

    /// The values behind each spread: all, or a choice of 65,536 where there were more.
    pub fn samples(&self) -> impl Iterator<Item = (&str, &[f64])> {
        self.meters.iter().filter(|(_, m)| !m.kept.is_empty()).map(|(name, m)| (name.as_str(), m.kept.as_slice()))
    }
}

/// What one metric keeps of a window: a number, and for a spread a bounded choice of its values.
#[derive(Clone)]
struct Meter {
    average: Average,
    seen: u64,
    /// The newest value, their sum, or the largest.
    number: f64,
    kept: Vec<f64>,
    draws: Xoshiro256PlusPlus,
}

impl Meter {
    fn new(average: Average) -> Self {
        Self { average, seen: 0, number: 0.0, kept: Vec::new(), draws: Xoshiro256PlusPlus::seed_from_u64(0) }
    }

    /// At the start of the next window.
    fn next(&self) -> Self {
        if self.average == Average::Last { self.clone() } else { Self::new(self.average) }
    }

    fn push(&mut self, value: f64) {
        self.seen += 1;
        self.number = match self.average {
            Average::Last => value,
            Average::Mean | Average::Sum | Average::Rate => self.number + value,
            Average::Max | Average::Spread if self.seen == 1 => value,
            Average::Max | Average::Spread => self.number.max(value),
        };
        if self.average != Average::Spread {
            return;
        }
        // The n-th value takes a random place among n, so that each has the same chance to be among those kept.
        if self.kept.len() < KEPT {
            self.kept.push(value);
        } else if let Some(kept) = self.kept.get_mut(self.draws.random_range(0..self.seen) as usize) {
            *kept = value;
        }
    }

    fn summarise(&self, name: &str, seconds: f64, numbers: &mut Numbers) {
        let number = match self.average {
            Average::Rate => self.number / seconds.max(1e-9),
            _ if self.seen == 0 => return,
            Average::Mean => self.number / self.seen as f64,
            Average::Last | Average::Sum | Average::Max => self.number,
            Average::Spread => {
                if let Some(spread) = Spread::of(&self.kept) {
                    numbers.insert(format!("{name}/median"), spread.median);
                    numbers.insert(format!("{name}/p95"), spread.p95);
                    numbers.insert(format!("{name}/max"), self.number);
                }
                return;
            }
        };
        numbers.insert(name.into(), number);
    }
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
        let numbers = meters.take().numbers(2.0);
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
        meters.take();
        assert_eq!(meters.take().numbers(1.0), [("env/steps".into(), 5.0), ("env/steps_per_s".into(), 0.0)].into());
    }

    #[test]
    fn a_window_of_any_length_takes_bounded_memory_and_keeps_its_spread() {
        let mut meters = Meters::default();
        let count = 10 * KEPT;
        meters.record_all("staleness/updates", (0..count).map(|i| i as f64)).unwrap();
        meters.record("lag/updates", 3.0).unwrap();
        let window = meters.take();
        let samples: BTreeMap<_, _> = window.samples().collect();
        assert_eq!(samples["lag/updates"], [3.0]);
        assert_eq!(samples["staleness/updates"].len(), KEPT);
        let numbers = window.numbers(1.0);
        assert_eq!(numbers["staleness/updates/max"], count as f64 - 1.0);
        for (name, share) in [("median", 0.5), ("p95", 0.95)] {
            let found = numbers[&format!("staleness/updates/{name}")] / count as f64;
            assert!((found - share).abs() < 0.01, "{name}: {found}");
        }
        assert_eq!(meters.take().samples().count(), 0);
    }

    #[test]
    fn families_and_typos() {
        assert_eq!(find("train/loss/dyn").unwrap().name, "train/loss/dyn");
        assert_eq!(find("train/loss/image").unwrap().name, "train/loss/*");
        assert_eq!(find("train/new_number").unwrap().name, "train/*");
        let message = Meters::default().record("env/step", 1.0).unwrap_err().to_string();
        assert!(message.contains("`env/step` (did you mean `env/steps`?)"), "{message}");
        assert!(find("train/").is_err());
    }
}
