//! The files whose locks the processes of Lucid depend on, compiled a second time, as they are, over locks that a model checker
//! schedules. What `shared` and `learner` are built from does not know of it.
//!
//! shuttle runs the threads of a test one at a time and decides at each operation on a lock who goes on: in every possible order where
//! there are few, else in random ones. A schedule in which nobody can go on is a failure, and so a wake-up that was lost.

// In the files below, `parking_lot` is this crate.
extern crate self as parking_lot;

mod locks;

#[path = "../../../shared/src/wire/credits.rs"]
pub mod credits;
#[path = "../../../learner/src/limiter.rs"]
pub mod limiter;
#[path = "../../../shared/src/snapshot/store.rs"]
pub mod store;

pub use locks::{Condvar, Mutex, MutexGuard, RwLock, WaitTimeoutResult, with_timeouts};

/// Run a test in so many random orders, of threads that are equally likely to go on and of threads with priorities.
pub fn in_random_orders(count: usize, test: impl Fn() + Send + Sync + Copy + 'static) {
    shuttle::check_random(test, count);
    shuttle::check_pct(test, count, 3);
}
