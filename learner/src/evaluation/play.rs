//! Episodes with one policy.

use std::sync::Arc;

use actor::env::{Env, Interrupt, make_all};
use actor::{ActLoop, ActorError, Features, Meter, Policy, Scheduler, stream_seed};
use shared::array::Array;
use shared::config::Config;
use shared::env::Spaces;
use shared::experience::StreamId;
use shared::wire::Episode;

use super::film::{Film, Filmed};

/// Streams of evaluations do not share seeds with those of training.
const EVALUATION: u32 = u32::MAX;

/// How much is played.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Environments stepped together; no more than there are episodes.
    pub envs: usize,
    /// Episodes, at least one.
    pub episodes: usize,
    /// Seed of environments and actions: two plays of one policy with the same plan are the same.
    pub seed: u64,
    /// Whether the first episode is filmed.
    pub film: bool,
}

/// Environments, and what was played in them so far.
pub struct Play {
    acts: ActLoop,
    meter: Meter,
    tally: Tally,
    film: Option<Film>,
}

impl Play {
    /// Environments of the config, whose observation spaces are `obs`, each before its first episode.
    pub fn new(config: &Config, obs: Spaces, features: Arc<Features>, plan: Plan) -> Result<Self, ActorError> {
        let episodes = plan.episodes.max(1);
        let n = plan.envs.clamp(1, episodes);
        let seed = |env: u32| stream_seed(plan.seed, StreamId { actor: EVALUATION, generation: 0, env });
        let seeds: Vec<u64> = (0..n).map(|env| seed(env as u32)).collect();
        let mut envs = make_all(&config.env, &seeds, &Interrupt::default())?;
        let film = plan.film.then(Film::default);
        if let Some(film) = &film {
            let first = envs.remove(0);
            envs.insert(0, Box::new(Filmed::new(first, film.clone())) as Box<dyn Env>);
        }
        let acts = ActLoop::new(&config.env.task, obs, Scheduler::together(envs), features, seed(EVALUATION));
        Ok(Self { acts, meter: Meter::new(n), tally: Tally::new(n, episodes), film })
    }

    /// One step of all environments; whether all episodes have been played.
    pub fn step(&mut self, policy: &Policy) -> Result<bool, ActorError> {
        let acts = self.acts.step(policy, &mut self.meter)?;
        self.tally.add(&acts.columns["reward"], &acts.columns["is_last"]);
        Ok(self.tally.complete())
    }

    /// Episodes that have ended and count.
    pub fn episodes(&self) -> &[Episode] {
        &self.tally.episodes
    }

    /// Frames of the first episode, u8 [T, H, W, C]; none if it is not filmed or cannot be.
    pub fn film(&self) -> Option<Array> {
        self.film.as_ref()?.frames()
    }
}

/// Episodes that count: each environment plays the same number of them, so that short ones are not preferred.
struct Tally {
    running: Vec<Episode>,
    left: Vec<usize>,
    episodes: Vec<Episode>,
}

/// Before its first step.
const BLANK: Episode = Episode { score: 0.0, length: 0 };

impl Tally {
    fn new(envs: usize, count: usize) -> Self {
        let left = (0..envs).map(|i| count / envs + usize::from(i < count % envs)).collect();
        Self { running: vec![BLANK; envs], left, episodes: Vec::new() }
    }

    fn complete(&self) -> bool {
        self.left.iter().all(|&n| n == 0)
    }

    fn add(&mut self, reward: &Array, is_last: &Array) {
        for (env, (reward, last)) in reward.to_f32().into_iter().zip(is_last.to_f32()).enumerate() {
            let running = &mut self.running[env];
            running.score += reward;
            running.length += 1;
            if last != 0.0 {
                let episode = std::mem::replace(running, BLANK);
                if self.left[env] > 0 {
                    self.left[env] -= 1;
                    self.episodes.push(episode);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_environment_plays_its_share() {
        let mut tally = Tally::new(2, 3);
        let ends = Array::u8(&[2], &[1, 0]);
        for _ in 0..5 {
            tally.add(&Array::f32(&[2], &[1.0, 2.0]), &ends);
        }
        let found = |tally: &Tally| tally.episodes.iter().map(|e| (e.score, e.length)).collect::<Vec<_>>();
        assert!(!tally.complete());
        assert_eq!(found(&tally), [(1.0, 1), (1.0, 1)]);
        tally.add(&Array::f32(&[2], &[1.0, 2.0]), &Array::u8(&[2], &[1, 1]));
        assert!(tally.complete());
        assert_eq!(found(&tally), [(1.0, 1), (1.0, 1), (12.0, 6)]);
    }
}
