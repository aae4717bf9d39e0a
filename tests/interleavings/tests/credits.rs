//! Credits: none is taken twice, none is lost, and a closed link wakes whoever waits.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::sync::Arc;
use std::time::Duration;

use interleavings::credits::{Credits, Pause};
use interleavings::{in_random_orders, with_timeouts};
use shuttle::thread::{self, JoinHandle};

const LONG: Duration = Duration::from_secs(3600);

/// How many of `wanted` credits it got until the link closed; it waits again whenever its time is over.
fn taker(credits: &Arc<Credits>, wanted: u32) -> JoinHandle<u32> {
    let credits = credits.clone();
    thread::spawn(move || {
        let mut got = 0;
        while got < wanted {
            match credits.take(LONG) {
                Pause::Ready => got += 1,
                Pause::Closed => break,
                Pause::Later => {}
            }
        }
        got
    })
}

fn rest(credits: &Credits) -> u32 {
    std::iter::from_fn(|| (credits.take(Duration::ZERO) == Pause::Ready).then_some(())).count() as u32
}

/// Everybody gets what he wants, since it is exactly what is there.
fn enough_for_all() {
    let credits = Arc::new(Credits::default());
    let takers = [taker(&credits, 2), taker(&credits, 1)];
    let other = credits.clone();
    let adder = thread::spawn(move || other.add(1));
    credits.add(2);
    adder.join().unwrap();
    assert_eq!(takers.map(|taker| taker.join().unwrap()), [2, 1]);
    assert_eq!(rest(&credits), 0);
}

/// Three want three each, and there are four before the link closes.
fn closed_with_waiters() {
    let credits = Arc::new(Credits::default());
    let takers = [3, 3, 3].map(|wanted| taker(&credits, wanted));
    credits.add(1);
    credits.add(3);
    credits.close();
    let taken: u32 = takers.map(|taker| taker.join().unwrap()).iter().sum();
    assert!(taken <= 4, "{taken} taken of 4");
    assert_eq!(credits.take(LONG), Pause::Closed);
}

/// More than is wanted: the rest stays.
fn more_than_wanted() {
    let credits = Arc::new(Credits::default());
    let takers = [taker(&credits, 2), taker(&credits, 1)];
    credits.add(3);
    credits.add(2);
    let taken: u32 = takers.map(|taker| taker.join().unwrap()).iter().sum();
    assert_eq!((taken, rest(&credits)), (3, 2));
}

#[test]
fn every_order_of_one_waiter_an_adder_and_a_close_ends() {
    let one = || {
        let credits = Arc::new(Credits::default());
        let waiter = taker(&credits, 2);
        credits.add(1);
        credits.close();
        assert!(waiter.join().unwrap() <= 1);
    };
    shuttle::check_dfs(one, None);
}

#[test]
fn no_credit_is_taken_twice_and_no_wake_up_is_lost() {
    in_random_orders(30_000, enough_for_all);
    in_random_orders(30_000, closed_with_waiters);
    in_random_orders(10_000, more_than_wanted);
}

#[test]
fn a_wait_that_times_out_takes_nothing() {
    with_timeouts(|| in_random_orders(10_000, more_than_wanted));
    with_timeouts(|| in_random_orders(10_000, enough_for_all));
}
