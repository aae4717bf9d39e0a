//! What an actor tells about itself: steps, episodes, and where its time goes.

use std::time::{Duration, Instant};

use shared::trace::span;
use shared::wire::{Episode, Numbers, Waiting};

/// How often numbers are sent.
const EVERY: Duration = Duration::from_millis(500);

/// What time is spent on.
#[derive(Clone, Copy)]
pub enum Part {
    /// Waiting for the learner.
    Wait,
    /// In the policy.
    Policy,
    /// In environments.
    Env,
    /// In the frozen encoder.
    Features,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Wait => "wait for the learner",
            Part::Policy => "policy",
            Part::Env => "environments",
            Part::Features => "encoder",
        }
    }
}

/// Collects numbers between two reports.
pub struct Meter {
    since: Instant,
    steps: u64,
    episodes: Vec<Episode>,
    running: Vec<Episode>,
    spent: [f32; 4],
}

impl Meter {
    /// For `envs` environments.
    pub fn new(envs: usize) -> Self {
        let running = vec![Episode { score: 0.0, length: 0 }; envs];
        Self { since: Instant::now(), steps: 0, episodes: Vec::new(), running, spent: [0.0; 4] }
    }

    /// One step of one environment.
    pub fn step(&mut self, env: usize, reward: f32, is_first: bool, is_last: bool) {
        self.steps += 1;
        let episode = &mut self.running[env];
        if is_first {
            *episode = Episode { score: 0.0, length: 0 };
        }
        episode.score += reward;
        episode.length += 1;
        if is_last {
            self.episodes.push(*episode);
        }
    }

    /// Run something and count its time.
    pub fn time<R>(&mut self, part: Part, run: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let _span = span(part.name());
        let result = run();
        self.spent[part as usize] += start.elapsed().as_secs_f32();
        result
    }

    /// The numbers since the last report, when it is time for one.
    pub fn due(&mut self, waiting: Waiting) -> Option<Numbers> {
        (self.since.elapsed() >= EVERY).then(|| self.take(waiting))
    }

    /// The numbers since the last report.
    pub fn take(&mut self, waiting: Waiting) -> Numbers {
        let [waited, policy, env, features] = std::mem::take(&mut self.spent);
        let numbers = Numbers {
            steps: std::mem::take(&mut self.steps),
            episodes: std::mem::take(&mut self.episodes),
            waiting,
            seconds: self.since.elapsed().as_secs_f32(),
            waited,
            policy,
            env,
            features,
        };
        self.since = Instant::now();
        numbers
    }
}
