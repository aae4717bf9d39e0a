//! Who steps when, and which environments have taken a step that the policy is to act on.

use std::io;
use std::time::{Duration, Instant};

use crate::env::{Action, Apart, Ended, Env, EnvError, Interrupt, Step};

/// How long to wait for environments that step apart before looking around again.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long to wait before looking again whether an environment has been started again.
const RESTARTING: Duration = Duration::from_millis(5);

/// An environment that waits for its action.
pub struct Ready {
    /// Its index.
    pub env: usize,
    /// Since when.
    pub since: Instant,
    /// What it shows.
    pub step: Step,
}

/// The environments of an actor.
pub struct Scheduler(How);

enum How {
    /// All are asked, then all waited for.
    Together { envs: Vec<Box<dyn Env>>, next: Vec<Action> },
    /// Each begins its next step as soon as it has an action; so many must be ready.
    Apart { envs: Apart, wait_for: usize },
}

impl Scheduler {
    /// All step together. One that is being started again is waited for.
    pub fn together(envs: Vec<Box<dyn Env>>) -> Self {
        let next = envs.iter().map(|_| Action::reset()).collect();
        Self(How::Together { envs, next })
    }

    /// All step together, without those that are being started again.
    pub fn leaving_behind(mut envs: Vec<Box<dyn Env>>) -> Self {
        envs.iter_mut().for_each(|env| env.set_patient(false));
        Self::together(envs)
    }

    /// Each steps on a thread of its own, and `wait_for` of them, fewer than there are, must be ready for a call of the policy. They were
    /// made with `interrupt`, and are environments of `task`.
    pub fn apart(task: &str, envs: Vec<Box<dyn Env>>, wait_for: usize, interrupt: Interrupt) -> io::Result<Self> {
        let envs = Apart::new(task, envs, interrupt)?;
        (0..envs.count()).for_each(|env| envs.begin(env, Action::reset()));
        Ok(Self(How::Apart { envs, wait_for }))
    }

    /// How many environments there are.
    pub fn count(&self) -> usize {
        match &self.0 {
            How::Together { envs, .. } => envs.len(),
            How::Apart { envs, .. } => envs.count(),
        }
    }

    /// Add environments that have taken a step to those that are `ready`, and say whether these are enough to act on. Waits for them, but
    /// where they step apart not for long.
    pub fn wait(&mut self, ready: &mut Vec<Ready>) -> Result<bool, EnvError> {
        match &mut self.0 {
            How::Together { envs, next } => {
                if ready.is_empty() {
                    step_together(envs, next, ready)?;
                }
                if ready.is_empty() {
                    std::thread::sleep(RESTARTING);
                }
                Ok(!ready.is_empty())
            }
            How::Apart { envs, wait_for } => {
                let until = Instant::now() + PATIENCE;
                while ready.len() < *wait_for
                    && let Some(ended) = envs.ended(until.saturating_duration_since(Instant::now()))
                {
                    ready.push(Ready::new(ended)?);
                }
                // Whoever is ready is taken, so that nobody is passed over.
                while let Some(ended) = envs.ended(Duration::ZERO) {
                    ready.push(Ready::new(ended)?);
                }
                Ok(ready.len() >= *wait_for)
            }
        }
    }

    /// The next action of an environment that was ready.
    pub fn act(&mut self, env: usize, action: Action) {
        match &mut self.0 {
            How::Together { next, .. } => next[env] = action,
            How::Apart { envs, .. } => envs.begin(env, action),
        }
    }
}

impl Ready {
    fn new(ended: Ended) -> Result<Self, EnvError> {
        Ok(Self { env: ended.env, since: ended.at, step: ended.step? })
    }
}

fn step_together(envs: &mut [Box<dyn Env>], next: &[Action], ready: &mut Vec<Ready>) -> Result<(), EnvError> {
    envs.iter_mut().zip(next).for_each(|(env, action)| env.begin(action));
    for (index, (env, action)) in envs.iter_mut().zip(next).enumerate() {
        let step = match env.step(action) {
            Err(EnvError::Restarting { .. }) => continue,
            step => step,
        };
        ready.push(Ready::new(Ended { env: index, at: Instant::now(), step })?);
    }
    Ok(())
}
