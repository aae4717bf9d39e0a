//! The train ratio: whichever side is ahead waits, actors through their credits and the learner before an update.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

/// How often a waiting thread looks at its stop flag.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// Slack of the comparisons in replayed steps, against rounding where both limits meet.
const SLACK: f64 = 1e-6;

/// Settings under which one side could wait for the other for ever.
#[derive(Debug, thiserror::Error)]
pub enum LimiterError {
    /// A number that is not positive and finite.
    #[error("limiter: {name} is {value}, must be a positive number")]
    NotPositive {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// Both sides could be blocked at once.
    #[error(
        "limiter: a tolerance of {tolerance} replayed steps is too small for updates of {update} steps and chunks of {chunk} \
         steps at train ratio {ratio}: both sides could wait for each other; it must be at least {needed}, \
         or lower actor.chunk or run.train_ratio"
    )]
    Tolerance {
        /// Replayed steps either side may be ahead.
        tolerance: f64,
        /// Replayed steps of one update.
        update: f64,
        /// Environment steps of a chunk.
        chunk: f64,
        /// Replayed per environment step.
        ratio: f64,
        /// Smallest tolerance that works.
        needed: f64,
    },
    /// Training would never start.
    #[error(
        "limiter: training starts at {min_items} items, but replay holds at most {capacity}: raise replay.size or replay.gib"
    )]
    Capacity {
        /// Items before the first update.
        min_items: usize,
        /// Items that fit.
        capacity: usize,
    },
}

/// What the limiter holds the two sides to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Replayed steps per environment step (`run.train_ratio`).
    pub ratio: f64,
    /// Replayed steps of one update, B * T.
    pub update: usize,
    /// Environment steps of one insert, the actors' chunk.
    pub chunk: usize,
    /// Items in replay before the first update.
    pub min_items: usize,
    /// Replayed steps that either side may be ahead.
    pub tolerance: f64,
}

impl Limits {
    /// The usual ones: training starts with `batch * length` items, and either side may be four updates ahead, or one chunk
    /// where that is more. `length`: steps of one item; `trained`: those of them that are trained on, T.
    pub fn new(ratio: f64, batch: usize, length: usize, trained: usize, chunk: usize) -> Self {
        let update = batch * trained;
        let tolerance = (4.0 * update as f64).max(ratio * chunk as f64);
        Self { ratio, update, chunk, min_items: batch * length, tolerance }
    }

    /// The tolerance at another ratio: a chunk still fits.
    fn tolerance_at(&self, ratio: f64) -> f64 {
        if ratio > self.ratio { self.tolerance.max(ratio * self.chunk as f64) } else { self.tolerance }
    }

    /// Whether one side could wait for the other for ever.
    fn check(&self) -> Result<(), LimiterError> {
        let Limits { ratio, tolerance, .. } = *self;
        let (update, chunk) = (self.update as f64, self.chunk as f64);
        let positive = [
            ("run.train_ratio", ratio),
            ("steps per update", update),
            ("actor.chunk", chunk),
            ("tolerance", tolerance),
        ];
        if let Some((name, value)) = positive.into_iter().find(|(_, v)| !(*v > 0.0 && v.is_finite())) {
            return Err(LimiterError::NotPositive { name, value });
        }
        let needed = (update + ratio * chunk) / 2.0;
        if tolerance < needed {
            return Err(LimiterError::Tolerance { tolerance, update, chunk, ratio, needed });
        }
        Ok(())
    }
}

/// What a checkpoint keeps, so that a resumed run neither skips updates nor makes up for time it was not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LimiterState {
    /// Whether the first update has been due.
    pub open: bool,
    /// Replayed steps due (negative: the learner is ahead).
    pub due: f64,
}

/// Who waits for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Neither side is held.
    Nobody,
    /// The learner, for experience.
    Learner,
    /// Actors, for updates.
    Actors,
}

/// Shares of time since the last report, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// The train thread waited for experience (`limiter/learner_waits`).
    pub learner_waits: f64,
    /// Credits were held back from actors (`limiter/actors_wait`).
    pub actors_wait: f64,
}

/// Shared by the ingest thread and the train thread.
pub struct Limiter {
    limits: Limits,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    state: LimiterState,
    /// Replayed per environment step, now.
    ratio: f64,
    paused: bool,
    learner: Meter,
    actors: Meter,
    since: Instant,
}

/// Time during which something was so.
#[derive(Default)]
struct Meter {
    on_since: Option<Instant>,
    total: Duration,
}

impl Limiter {
    /// `capacity`: items that replay can hold; `state`: from a checkpoint, or the default.
    pub fn new(limits: Limits, capacity: usize, state: LimiterState) -> Result<Self, LimiterError> {
        let ratio = limits.ratio;
        limits.check()?;
        if limits.min_items > capacity {
            return Err(LimiterError::Capacity { min_items: limits.min_items, capacity });
        }
        let inner = Inner {
            state,
            ratio,
            paused: false,
            learner: Meter::default(),
            actors: Meter::default(),
            since: Instant::now(),
        };
        Ok(Self { limits, inner: Mutex::new(inner), changed: Condvar::new() })
    }

    /// Tell that `steps` environment steps arrived and that replay now holds `items`.
    pub fn inserted(&self, steps: usize, items: usize) {
        let mut inner = self.inner.lock();
        if inner.state.open {
            inner.state.due += inner.ratio * steps as f64;
        }
        inner.state.open |= items >= self.limits.min_items;
        self.update_meters(inner);
    }

    /// Whether an actor may have a credit for one more chunk.
    pub fn may_insert(&self) -> bool {
        self.insert_allowed(&self.inner.lock())
    }

    /// Wait until [`Limiter::may_insert`], at most `timeout`; returns whether it is so.
    pub fn wait_to_insert(&self, timeout: Duration) -> bool {
        let mut inner = self.inner.lock();
        self.changed.wait_while_for(&mut inner, |inner| !self.insert_allowed(inner), timeout);
        self.insert_allowed(&inner)
    }

    /// Take one update if it is due.
    pub fn try_train(&self) -> bool {
        let mut inner = self.inner.lock();
        let allowed = self.train_allowed(&inner);
        if allowed {
            inner.state.due -= self.limits.update as f64;
            self.update_meters(inner);
        }
        allowed
    }

    /// Wait until an update is due and take it; false if `called` away first.
    pub fn wait_to_train(&self, called: impl Fn() -> bool) -> bool {
        self.inner.lock().learner.set(true);
        let mut taken = false;
        while !called() && !taken {
            taken = self.try_train();
            if !taken {
                let mut inner = self.inner.lock();
                self.changed.wait_while_for(&mut inner, |inner| !self.train_allowed(inner), STOP_CHECK);
            }
        }
        self.inner.lock().learner.set(false);
        taken
    }

    /// Hold both sides, or let them go.
    pub fn pause(&self, on: bool) {
        let mut inner = self.inner.lock();
        inner.paused = on;
        self.update_meters(inner);
    }

    /// Whether both sides are held.
    pub fn is_paused(&self) -> bool {
        self.inner.lock().paused
    }

    /// Another train ratio, for steps that arrive from now on.
    pub fn set_ratio(&self, ratio: f64) -> Result<(), LimiterError> {
        Limits { ratio, tolerance: self.limits.tolerance_at(ratio), ..self.limits }.check()?;
        let mut inner = self.inner.lock();
        inner.ratio = ratio;
        self.update_meters(inner);
        Ok(())
    }

    /// What a checkpoint keeps.
    pub fn state(&self) -> LimiterState {
        self.inner.lock().state
    }

    /// Who is held at this moment.
    pub fn waits(&self) -> Waits {
        let inner = self.inner.lock();
        match (self.insert_allowed(&inner), self.train_allowed(&inner)) {
            (false, _) => Waits::Actors,
            (true, false) => Waits::Learner,
            (true, true) => Waits::Nobody,
        }
    }

    /// Shares of time since the last call.
    pub fn take_shares(&self) -> Shares {
        let mut inner = self.inner.lock();
        let span = inner.since.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        inner.since = Instant::now();
        let share = |total: Duration| (total.as_secs_f64() / span).min(1.0);
        Shares { learner_waits: share(inner.learner.take()), actors_wait: share(inner.actors.take()) }
    }

    fn insert_allowed(&self, inner: &Inner) -> bool {
        let due = inner.state.due + inner.ratio * self.limits.chunk as f64;
        !inner.paused && (!inner.state.open || due <= self.limits.tolerance_at(inner.ratio) + SLACK)
    }

    fn train_allowed(&self, inner: &Inner) -> bool {
        let due = inner.state.due - self.limits.update as f64;
        !inner.paused && inner.state.open && due >= -self.limits.tolerance_at(inner.ratio) - SLACK
    }

    fn update_meters(&self, mut inner: parking_lot::MutexGuard<'_, Inner>) {
        let held = !self.insert_allowed(&inner);
        inner.actors.set(held);
        drop(inner);
        self.changed.notify_all();
    }
}

impl Meter {
    fn set(&mut self, on: bool) {
        match (on, self.on_since) {
            (true, None) => self.on_since = Some(Instant::now()),
            (false, Some(since)) => {
                self.total += since.elapsed();
                self.on_since = None;
            }
            _ => {}
        }
    }

    fn take(&mut self) -> Duration {
        let on = self.on_since.is_some();
        self.set(false);
        self.set(on);
        std::mem::take(&mut self.total)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn open(limits: Limits) -> Limiter {
        Limiter::new(limits, usize::MAX, LimiterState { open: true, due: 0.0 }).unwrap()
    }

    #[test]
    fn training_starts_with_enough_items_and_then_keeps_the_ratio() {
        let limits = Limits::new(64.0, 8, 33, 32, 16);
        let limiter = Limiter::new(limits, 10_000, LimiterState::default()).unwrap();
        limiter.inserted(263, 263);
        assert!(!limiter.try_train() && limiter.may_insert());
        limiter.inserted(1, 264);
        let mut updates = 0;
        let mut steps = 0;
        while steps < 1000 {
            while limiter.may_insert() {
                limiter.inserted(16, 10_000);
                steps += 16;
            }
            assert_eq!(limiter.waits(), Waits::Actors);
            while limiter.try_train() {
                updates += 1;
            }
            assert_eq!(limiter.waits(), Waits::Learner);
        }
        let replayed = (updates * 8 * 32) as f64;
        assert!((replayed - 64.0 * steps as f64).abs() <= limits.tolerance, "{updates} updates for {steps} steps");
    }

    #[test]
    fn a_resumed_run_owes_what_it_owed_and_nothing_more() {
        let limits = Limits::new(64.0, 8, 33, 32, 16);
        let limiter = open(limits);
        limiter.inserted(16, 0);
        limiter.try_train();
        let text = serde_json::to_string(&limiter.state()).unwrap();
        let resumed = Limiter::new(limits, usize::MAX, serde_json::from_str(&text).unwrap()).unwrap();
        let updates = |l: &Limiter| std::iter::from_fn(|| l.try_train().then_some(())).count();
        assert_eq!(updates(&resumed), updates(&limiter));
    }

    #[test]
    fn settings_that_could_block_both_sides_are_refused() {
        let mut limits = Limits { tolerance: 639.0, ..Limits::new(64.0, 8, 33, 32, 16) };
        let error = Limiter::new(limits, 1000, LimiterState::default()).err().unwrap().to_string();
        assert!(error.contains("at least 640") && error.contains("actor.chunk"), "{error}");
        limits.tolerance = 640.0;
        assert!(Limiter::new(limits, 1000, LimiterState::default()).is_ok());
        assert!(matches!(Limiter::new(limits, 263, LimiterState::default()), Err(LimiterError::Capacity { .. })));
        limits.ratio = 0.0;
        assert!(matches!(
            Limiter::new(limits, 1000, LimiterState::default()),
            Err(LimiterError::NotPositive { name: "run.train_ratio", .. })
        ));
    }

    #[test]
    fn a_waiting_learner_wakes_for_experience_and_for_stop() {
        let limiter = open(Limits::new(64.0, 8, 33, 32, 16));
        while limiter.try_train() {}
        let stop = AtomicBool::new(false);
        let stopped = || stop.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            let learner = scope.spawn(|| (limiter.wait_to_train(stopped), limiter.wait_to_train(stopped)));
            limiter.inserted(4, 0);
            while limiter.state().due > -900.0 {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            assert_eq!(learner.join().unwrap(), (true, false));
        });
        assert!(limiter.take_shares().learner_waits > 0.0);
    }

    proptest! {
        #[test]
        fn one_side_can_always_go_on(
            ratio in 0.1f64..2000.0, batch in 1usize..32, trained in 1usize..128, chunk in 1usize..256,
            tightest: bool, turns in prop::collection::vec((any::<bool>(), 1usize..4), 1..200),
        ) {
            let mut limits = Limits::new(ratio, batch, trained + 1, trained, chunk);
            if tightest {
                limits.tolerance = (limits.update as f64 + ratio * chunk as f64) / 2.0;
            }
            let limiter = open(limits);
            for (insert, times) in turns {
                for _ in 0..times {
                    let moved = if insert && limiter.may_insert() {
                        limiter.inserted(chunk, 0);
                        true
                    } else {
                        !insert && limiter.try_train()
                    };
                    prop_assert!(limiter.state().due.abs() <= limits.tolerance * (1.0 + 1e-9) + 2.0 * SLACK);
                    prop_assert!(moved || limiter.may_insert() || limiter.try_train());
                }
            }
        }
    }
}
