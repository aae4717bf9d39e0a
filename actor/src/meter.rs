//! What an actor tells about itself: steps, episodes, and where its time goes.

use std::time::{Duration, Instant};

use shared::trace::span;
use shared::wire::{Episode, Numbers, Waiting};

use crate::receiver::Policy;

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
    /// Sum over steps.
    lag: u64,
    /// Steps that `lag` is the sum over.
    acted: u64,
    beyond: u64,
    calls: u64,
    /// Sum over steps.
    ready: Duration,
    flight: u64,
    /// Steps of each environment.
    each: Vec<u64>,
    first_uses: Vec<(u64, f32)>,
    version: u64,
}

impl Meter {
    /// For `envs` environments.
    pub fn new(envs: usize) -> Self {
        let running = vec![Episode { score: 0.0, length: 0 }; envs];
        Self {
            since: Instant::now(),
            steps: 0,
            episodes: Vec::new(),
            running,
            spent: [0.0; 4],
            lag: 0,
            acted: 0,
            beyond: 0,
            calls: 0,
            ready: Duration::ZERO,
            flight: 0,
            each: vec![0; envs],
            first_uses: Vec::new(),
            version: 0,
        }
    }

    /// One step of one environment.
    pub fn step(&mut self, env: usize, reward: f32, is_first: bool, is_last: bool) {
        self.steps += 1;
        self.each[env] += 1;
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

    /// This policy is about to act for `rows` environments, `lag` updates behind the learner, which may be more than `bound`.
    pub fn acts(&mut self, policy: &Policy, rows: usize, lag: u64, bound: u64) {
        if self.version != policy.version {
            self.version = policy.version;
            self.first_uses.push((policy.version, policy.taken.elapsed().as_secs_f32()));
        }
        self.calls += 1;
        self.lag += lag * rows as u64;
        self.acted += rows as u64;
        if bound > 0 && lag > bound {
            self.beyond += rows as u64;
        }
    }

    /// An environment has its next action, this long after its step ended, from a snapshot that many updates newer than that of the action
    /// before.
    pub fn chosen(&mut self, ready: Duration, flight: u64) {
        self.ready += ready;
        self.flight = self.flight.max(flight);
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
        let (steps, each) = (std::mem::take(&mut self.steps), self.each.iter().copied());
        let [fewest, most] = [each.clone().min(), each.max()].map(Option::unwrap_or_default);
        self.each.fill(0);
        let numbers = Numbers {
            steps,
            episodes: std::mem::take(&mut self.episodes),
            waiting,
            seconds: self.since.elapsed().as_secs_f32(),
            waited,
            policy,
            env,
            features,
            lag: std::mem::take(&mut self.lag) as f32 / std::mem::take(&mut self.acted).max(1) as f32,
            beyond: std::mem::take(&mut self.beyond),
            calls: std::mem::take(&mut self.calls),
            ready: std::mem::take(&mut self.ready).as_secs_f32() / steps.max(1) as f32,
            flight: std::mem::take(&mut self.flight),
            slowest: fewest as f32 / most.max(1) as f32,
            first_uses: std::mem::take(&mut self.first_uses),
        };
        self.since = Instant::now();
        numbers
    }
}
