//! What an environment shows and does under random actions, and what of it would hinder training: `lucid env check`.

mod findings;
mod trace;

use actor::env::EnvError;
use serde::Serialize;
use shared::config::EnvConfig;
use shared::env::{FLAGS, Space};

pub use findings::Finding;
use trace::{Seeds, play};

/// Steps over which repeated plays are compared.
const COMPARED: usize = 500;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The task.
    pub task: String,
    /// What the agent sees, without flags and reward.
    pub observations: Vec<Entry>,
    /// What it may do.
    pub actions: Vec<Entry>,
    /// Steps that were made.
    pub steps: usize,
    /// Seed of environment and actions.
    pub seed: u64,
    /// Steps a second on one core, with what the agent observes.
    pub steps_per_s: f64,
    /// Episodes that ended.
    pub episodes: Episodes,
    /// Smallest and largest reward; none without steps.
    pub reward: Option<[f32; 2]>,
    /// Share of steps with a reward that is not zero, 0 to 1.
    pub rewarded: f64,
    /// What would hinder training, faults first.
    pub findings: Vec<Finding>,
}

/// An entry of observations or actions.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its space, in words.
    pub space: String,
    /// Smallest and largest value seen; none of actions.
    pub seen: Option<[f32; 2]>,
}

/// Episodes that ended.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Episodes {
    /// How many.
    pub count: usize,
    /// Of them, those that the task ended; the others were cut, by a limit.
    pub terminal: usize,
    /// Shortest and longest, in steps.
    pub length: Option<[usize; 2]>,
    /// Least, mean and greatest sum of rewards.
    pub returns: Option<[f64; 3]>,
}

impl Report {
    /// Step environments of this config. What they do wrong is a finding; an error is one that cannot be made.
    pub fn make(config: &EnvConfig, steps: usize, seed: u64) -> Result<Self, EnvError> {
        let seeds = Seeds { env: seed, actions: seed };
        let trace = play(config, seeds, steps)?;
        let compared = steps.min(COMPARED);
        let again = play(config, seeds, compared)?;
        let other_env = play(config, Seeds { env: seed.wrapping_add(1), ..seeds }, compared)?;
        let other_actions = play(config, Seeds { actions: seed.wrapping_add(1), ..seeds }, compared)?;
        let findings = findings::of(&trace, [&again, &other_env, &other_actions]);
        let observed = trace.obs_space.iter().filter(|(key, _)| !FLAGS.contains(&key.as_str()));
        let entry = |(key, space): (&String, &Space), seen| Entry { key: key.clone(), space: words(space), seen };
        Ok(Self {
            task: config.task.clone(),
            observations: observed.map(|both| entry(both, trace.range(both.0))).collect(),
            actions: trace.act_space.iter().map(|both| entry(both, None)).collect(),
            steps: trace.outcomes.len(),
            seed,
            steps_per_s: trace.outcomes.len() as f64 / trace.time.as_secs_f64().max(1e-9),
            episodes: trace.episodes(),
            reward: trace.range("reward"),
            rewarded: trace.rewarded(),
            findings,
        })
    }

    /// How many findings make training impossible or wrong.
    pub fn faults(&self) -> usize {
        self.findings.iter().filter(|finding| finding.fault).count()
    }
}

/// A space in words.
pub fn words(space: &Space) -> String {
    let shape = match space.shape.as_slice() {
        [] => String::new(),
        shape => format!(" {shape:?}"),
    };
    match space.classes {
        Some(classes) => format!("{classes} classes{shape}"),
        None if space.is_image() => format!("image{shape}"),
        None if space.low.is_finite() || space.high.is_finite() => {
            format!("numbers{shape}, {} to {}", space.low, space.high)
        }
        None => format!("numbers{shape}"),
    }
}

#[cfg(test)]
mod tests;
