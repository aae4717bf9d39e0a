//! As much of parking_lot as those files use, over shuttle's locks.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync;
use shuttle::thread;

thread_local! {
    // All threads of one execution are coroutines of one thread of the system.
    static TIMEOUTS: Cell<bool> = const { Cell::new(false) };
}

/// Run `body` where a wait with a limit ends whenever the scheduler likes, its time over or not. Elsewhere it ends only when it is
/// woken, unless its limit is zero: nothing may depend on looking again after a while.
pub fn with_timeouts(body: impl FnOnce()) {
    TIMEOUTS.set(true);
    body();
    TIMEOUTS.set(false);
}

/// A lock of one thread at a time.
#[derive(Default)]
pub struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    /// Unlocked.
    pub fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// Wait for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { lock: &self.0, guard: Some(acquire(&self.0)) }
    }
}

fn acquire<T>(lock: &sync::Mutex<T>) -> sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A [`Mutex`] that is locked.
pub struct MutexGuard<'a, T> {
    lock: &'a sync::Mutex<T>,
    /// None only while [`Condvar`] waits.
    guard: Option<sync::MutexGuard<'a, T>>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("locked")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("locked")
    }
}

/// Whether a wait ended because its time was over.
#[derive(Clone, Copy)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether it did.
    pub fn timed_out(self) -> bool {
        self.0
    }
}

/// Where threads wait for a change of what a [`Mutex`] holds.
#[derive(Default)]
pub struct Condvar(sync::Condvar);

impl Condvar {
    /// Nobody waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wake everybody who waits.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Wake one thread, if one waits.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wait to be woken, until `deadline`.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> WaitTimeoutResult {
        let held = guard.guard.take().expect("locked");
        let over = Instant::now() >= deadline;
        if over || TIMEOUTS.get() {
            drop(held);
            thread::yield_now();
            guard.guard = Some(acquire(guard.lock));
            return WaitTimeoutResult(over || thread_rng().gen_bool(0.5));
        }
        guard.guard = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
        WaitTimeoutResult(false)
    }

    /// Wait while `condition` holds, for at most `limit`.
    pub fn wait_while_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        limit: Duration,
    ) -> WaitTimeoutResult {
        let deadline = Instant::now() + limit;
        let mut result = WaitTimeoutResult(false);
        while !result.timed_out() && condition(guard) {
            result = self.wait_until(guard, deadline);
        }
        WaitTimeoutResult(result.timed_out() && condition(guard))
    }
}

/// A lock of many readers or one writer.
#[derive(Default)]
pub struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    /// Unlocked.
    pub fn new(value: T) -> Self {
        Self(sync::RwLock::new(value))
    }

    /// Wait for a reader's lock.
    pub fn read(&self) -> sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait for the writer's lock.
    pub fn write(&self) -> sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
