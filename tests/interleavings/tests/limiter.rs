//! The train ratio's account between the ingest thread, the train thread, and whoever pauses a run or changes its ratio.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use interleavings::limiter::{Limiter, LimiterState, Limits};
use interleavings::{Mutex, in_random_orders, with_timeouts};
use shuttle::thread;

const LONG: Duration = Duration::from_secs(3600);
const RATIO: f64 = 2.0;
const CHUNK: usize = 4;
const UPDATE: usize = 6;

/// With the least tolerance there can be. The first chunk opens it.
fn limiter() -> Arc<Limiter> {
    let tolerance = (UPDATE as f64 + RATIO * CHUNK as f64) / 2.0;
    let limits = Limits { ratio: RATIO, update: UPDATE, chunk: CHUNK, min_items: CHUNK, tolerance };
    Arc::new(Limiter::new(limits, 1000, LimiterState::default()).unwrap())
}

/// What is due after so many chunks, the first of which does not count, and updates.
fn due(chunks: usize, updates: usize) -> f64 {
    RATIO * (CHUNK * chunks.saturating_sub(1)) as f64 - (UPDATE * updates) as f64
}

/// The ingest thread: each chunk as soon as its credit may be given.
fn insert(limiter: &Limiter, chunks: usize, mut inserted: impl FnMut()) {
    for _ in 0..chunks {
        while !limiter.wait_to_insert(LONG) {}
        limiter.inserted(CHUNK, 1000);
        inserted();
    }
}

/// The train thread.
fn train(limiter: &Limiter, updates: usize) {
    for _ in 0..updates {
        assert!(limiter.wait_to_train(|| false));
    }
}

/// Both sides get to the end, which is as far as the limits let them, and the account is exact.
fn both_sides() {
    let limiter = limiter();
    let other = limiter.clone();
    let ingest = thread::spawn(move || insert(&other, 4, || ()));
    train(&limiter, 5);
    ingest.join().unwrap();
    assert_eq!(limiter.state(), LimiterState { open: true, due: due(4, 5) });
    assert!(!limiter.try_train());
}

/// Somebody pauses the run, changes its ratio, and lets it go on; nobody is left behind.
fn paused_and_changed() {
    let limiter = limiter();
    let (ingest, learner) = (limiter.clone(), limiter.clone());
    let ingest = thread::spawn(move || insert(&ingest, 3, || ()));
    let learner = thread::spawn(move || train(&learner, 3));
    limiter.pause(true);
    let before = limiter.state();
    thread::yield_now();
    assert!(limiter.state().due >= before.due, "an update was taken while the run was paused");
    limiter.set_ratio(2.0 * RATIO).unwrap();
    limiter.pause(false);
    ingest.join().unwrap();
    learner.join().unwrap();
    // Each of the two chunks that count did so at the old ratio or at the new one.
    let due = limiter.state().due;
    let possible = [2.0, 3.0, 4.0].map(|times| RATIO * CHUNK as f64 * times - (3 * UPDATE) as f64);
    assert!(possible.contains(&due), "{due} is none of {possible:?}");
}

/// A higher ratio alone lets a learner go on that waits at the lower one.
fn a_ratio_wakes_the_learner() {
    let limiter = limiter();
    insert(&limiter, 1, || ());
    let learner = limiter.clone();
    let learner = thread::spawn(move || train(&learner, 2));
    limiter.set_ratio(2.0 * RATIO).unwrap();
    learner.join().unwrap();
    assert_eq!(limiter.state().due, due(1, 2));
}

/// The train thread takes the limiter's account and the count of steps for a checkpoint at one border, as `saver.rs` does.
fn checkpoints() {
    let (limiter, steps) = (limiter(), Arc::new(Mutex::new(0)));
    let (other, counter) = (limiter.clone(), steps.clone());
    let ingest = thread::spawn(move || {
        for _ in 0..3 {
            while !other.wait_to_insert(LONG) {}
            let mut steps = counter.lock();
            *steps += 1;
            other.inserted(CHUNK, 1000);
        }
    });
    let other = limiter.clone();
    let onlooker = thread::spawn(move || {
        let state = other.state();
        assert!(state.open || state.due == 0.0, "nothing is due before training starts: {state:?}");
    });
    for update in 1..=3 {
        train(&limiter, 1);
        let border = steps.lock();
        assert_eq!(limiter.state(), LimiterState { open: true, due: due(*border, update) });
    }
    ingest.join().unwrap();
    onlooker.join().unwrap();
}

/// A stop is seen without being woken for it, by looking again after a while.
fn stopped() {
    let (limiter, stop) = (limiter(), Arc::new(AtomicBool::new(false)));
    let (other, asked) = (limiter.clone(), stop.clone());
    let learner = thread::spawn(move || {
        let mut taken = 0;
        while other.wait_to_train(|| asked.load(SeqCst)) {
            taken += 1;
        }
        taken
    });
    insert(&limiter, 2, || ());
    stop.store(true, SeqCst);
    let taken = learner.join().unwrap();
    assert_eq!(limiter.state().due, due(2, taken));
}

#[test]
fn neither_side_waits_for_ever_and_the_account_is_exact() {
    in_random_orders(20_000, both_sides);
    with_timeouts(|| in_random_orders(5_000, both_sides));
}

#[test]
fn pauses_and_other_ratios_lose_no_wake_up() {
    in_random_orders(20_000, paused_and_changed);
    in_random_orders(5_000, a_ratio_wakes_the_learner);
    with_timeouts(|| in_random_orders(5_000, paused_and_changed));
}

#[test]
fn a_checkpoint_reads_one_instant() {
    in_random_orders(20_000, checkpoints);
}

#[test]
fn a_stop_ends_the_wait() {
    with_timeouts(|| in_random_orders(5_000, stopped));
}
