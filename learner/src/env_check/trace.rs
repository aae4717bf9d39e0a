//! What came of stepping an environment, without keeping all of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actor::env::{Action, EnvError, Outcome, Step, make, sample_action};
use blake3::Hash;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::config::EnvConfig;
use shared::env::Spaces;

use super::Episodes;

/// Seeds of an environment and of the actions in it.
#[derive(Clone, Copy)]
pub struct Seeds {
    pub env: u64,
    pub actions: u64,
}

/// Steps, and the error that ended them early.
#[derive(Default)]
pub struct Trace {
    pub obs_space: Spaces,
    pub act_space: Spaces,
    pub outcomes: Vec<Outcome>,
    /// Of each step, with its flags and reward.
    pub digests: Vec<Hash>,
    pub error: Option<EnvError>,
    /// What the environment itself took.
    pub time: Duration,
    pub ranges: BTreeMap<String, [f32; 2]>,
}

/// Random actions in a fresh environment, from episode to episode.
pub fn play(config: &EnvConfig, seeds: Seeds, steps: usize) -> Result<Trace, EnvError> {
    let mut env = make(config, seeds.env)?;
    let mut draws = Xoshiro256PlusPlus::seed_from_u64(seeds.actions);
    let mut trace = Trace { obs_space: env.obs_space(), act_space: env.act_space(), ..Trace::default() };
    let mut reset = true;
    for _ in 0..steps {
        let action = Action { reset, values: sample_action(&trace.act_space, &mut draws) };
        let start = Instant::now();
        let step = env.step(&action);
        trace.time += start.elapsed();
        match step {
            Ok(step) => reset = trace.add(&step),
            Err(error) => {
                trace.error = Some(error);
                break;
            }
        }
    }
    Ok(trace)
}

impl Trace {
    /// Whether it was the last of its episode.
    pub fn add(&mut self, step: &Step) -> bool {
        let outcome = Outcome::of(step);
        let mut hasher = blake3::Hasher::new();
        for (key, array) in step {
            hasher.update(key.as_bytes()).update(&array.bytes);
            let range = self.ranges.entry(key.clone()).or_insert([f32::INFINITY, f32::NEG_INFINITY]);
            *range = array.to_f32().into_iter().fold(*range, |[low, high], x| [low.min(x), high.max(x)]);
        }
        self.digests.push(hasher.finalize());
        self.outcomes.push(outcome);
        outcome.is_last
    }

    /// Smallest and largest value of an entry.
    pub fn range(&self, key: &str) -> Option<[f32; 2]> {
        self.ranges.get(key).copied().filter(|[low, high]| low <= high)
    }

    /// Share of steps with a reward that is not zero.
    pub fn rewarded(&self) -> f64 {
        let rewarded = self.outcomes.iter().filter(|o| o.reward != 0.0).count();
        rewarded as f64 / self.outcomes.len().max(1) as f64
    }

    /// The first step at which another trace differs, of those that both have.
    pub fn differs_at(&self, other: &Self) -> Option<usize> {
        self.digests.iter().zip(&other.digests).position(|(a, b)| a != b)
    }

    pub fn episodes(&self) -> Episodes {
        let (mut found, mut lengths, mut returns) = (Episodes::default(), vec![], vec![]);
        let (mut length, mut sum) = (0, 0.0);
        for outcome in &self.outcomes {
            if outcome.is_first {
                (length, sum) = (0, 0.0);
            }
            sum += f64::from(outcome.reward);
            length += usize::from(!outcome.is_first);
            if outcome.is_last {
                found.count += 1;
                found.terminal += usize::from(outcome.is_terminal);
                lengths.push(length);
                returns.push(sum);
            }
        }
        found.length = lengths.iter().min().zip(lengths.iter().max()).map(|(low, high)| [*low, *high]);
        let extreme = |f: fn(f64, f64) -> f64| returns.iter().copied().reduce(f);
        let mean = returns.iter().sum::<f64>() / returns.len().max(1) as f64;
        found.returns = extreme(f64::min).zip(extreme(f64::max)).map(|(low, high)| [low, mean, high]);
        found
    }
}
