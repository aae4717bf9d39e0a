//! The store of snapshots: what readers see while a writer swaps, and when the old values go.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use interleavings::in_random_orders;
use interleavings::store::Store;
use shuttle::thread;

/// How often each version was dropped; version 0 is none.
type Dropped = Arc<[AtomicUsize; 4]>;

/// A value whose parts all follow from its version.
struct Value {
    version: usize,
    parts: [usize; 3],
    dropped: Dropped,
}

impl Value {
    fn new(version: usize, dropped: &Dropped) -> Arc<Self> {
        Arc::new(Self { version, parts: [1, 2, 3].map(|i| version * i), dropped: dropped.clone() })
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.dropped[self.version].fetch_add(1, SeqCst);
    }
}

/// One reads `reads` times and holds each value until the next one.
fn read(store: &Store<Value>, reads: usize) {
    let mut held: Option<Arc<Value>> = None;
    for _ in 0..reads {
        let newest = store.newest();
        if let Some(held) = &held {
            let newest = newest.as_ref().expect("once there is a value, there always is one");
            assert!(newest.version >= held.version, "version {} after {}", newest.version, held.version);
            assert_eq!(held.dropped[held.version].load(SeqCst), 0, "dropped while it was read");
        }
        if let Some(value) = &newest {
            assert_eq!(value.parts, [1, 2, 3].map(|i| value.version * i), "parts of several versions");
        }
        held = newest;
    }
}

/// A writer of `versions`, and readers who read so often each.
fn swaps_while_read(versions: usize, readers: &[usize]) {
    let dropped = Dropped::default();
    let store = Arc::new(Store::default());
    let reader = |&reads: &usize| {
        let store = store.clone();
        thread::spawn(move || read(&store, reads))
    };
    let readers: Vec<_> = readers.iter().map(reader).collect();
    for version in 1..=versions {
        store.swap(Value::new(version, &dropped));
    }
    for reader in readers {
        reader.join().unwrap();
    }
    let counts = || -> Vec<usize> { dropped[1..=versions].iter().map(|count| count.load(SeqCst)).collect() };
    let mut expected = vec![1; versions];
    expected[versions - 1] = 0;
    assert_eq!(counts(), expected, "with the readers gone, only the newest lives");
    drop(store);
    assert_eq!(counts(), vec![1; versions]);
}

#[test]
fn no_order_shows_an_older_or_mixed_value_and_each_goes_once() {
    shuttle::check_dfs(|| swaps_while_read(2, &[2]), None);
    shuttle::check_dfs(|| swaps_while_read(2, &[1, 1]), None);
}

#[test]
fn nor_does_it_with_more_readers() {
    in_random_orders(30_000, || swaps_while_read(3, &[3, 3, 2]));
}
