//! Snapshots under a storm of publishes: real regions of shared memory, a writer that never waits, readers of all speeds. A test of its
//! own process, since it counts what the process has mapped.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use candle_core::{Device, Tensor, Var};
use proptest::prelude::*;
use shared::params::Weight;
use shared::snapshot::format::{SnapshotHeader, SnapshotView, encode};
use shared::snapshot::{PolicySnapshot, Store, digest};
use shared::wire::Bulk;

/// All numbers of a version follow from it: how many there are in each tensor, and what they are.
fn value(version: u64, tensor: usize, index: usize) -> f32 {
    ((version * 31 + tensor as u64 * 7 + index as u64) % 8191) as f32
}

fn publish(version: u64, sizes: &[usize]) -> PolicySnapshot {
    let weight = |(tensor, &size): (usize, &usize)| {
        let values: Vec<f32> = (0..size).map(|index| value(version, tensor, index)).collect();
        let values = Tensor::from_vec(values, size, &Device::Cpu).unwrap();
        (format!("pol/{tensor}"), Weight::Var(Var::from_tensor(&values).unwrap()))
    };
    let params: Vec<_> = sizes.iter().enumerate().map(weight).collect();
    let header = SnapshotHeader { version, update: 3 * version, published: 0 };
    PolicySnapshot::publish(&encode(&header, &params).unwrap()).unwrap()
}

/// One action: everything in the view is of its version, and what it reads is what was published.
fn act(view: &SnapshotView, published: u64, sizes: &[usize]) {
    assert_eq!(digest(view), published, "version {} is not what was published", view.version());
    assert_eq!(view.update(), 3 * view.version());
    for (tensor, (_, mapped)) in view.iter().enumerate() {
        assert_eq!(mapped.values().len(), sizes[tensor]);
        let mut numbers = mapped.values().iter().enumerate();
        assert!(numbers.all(|(index, x)| *x == value(view.version(), tensor, index)), "parts of several versions");
    }
}

/// Acts until the storm is over and its last version was acted with; `pace` actions with each snapshot that it takes.
fn reader(store: &Store<PolicySnapshot>, last: u64, sizes: &[usize], pace: usize, actions: &AtomicU64) {
    let mut version = 0;
    while version < last {
        let Some(snapshot) = store.newest() else { continue };
        assert!(snapshot.version >= version, "version {} after {version}", snapshot.version);
        version = snapshot.version;
        let view = SnapshotView::open(Arc::new(Bulk::Shared(snapshot.region.clone()))).unwrap();
        let published = snapshot.digest;
        // From here on the view alone keeps the region alive, as in an actor.
        drop(snapshot);
        for _ in 0..pace {
            act(&view, published, sizes);
            actions.fetch_add(1, SeqCst);
        }
    }
}

/// Regions of shared memory that this process has mapped.
fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| line.contains(" r--s ")).count()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn readers_see_whole_versions_in_order_and_memory_comes_back(
        versions in 200u64..400,
        sizes in prop::collection::vec(1usize..4000, 1..4),
        paces in prop::collection::vec(prop::sample::select(vec![1usize, 2, 50]), 1..5),
        offering: bool,
    ) {
        let before = (mappings(), descriptors());
        let store = Store::default();
        let (actions, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let mut alive = vec![];
        thread::scope(|scope| {
            for pace in &paces {
                scope.spawn(|| reader(&store, versions, &sizes, *pace, &actions));
            }
            // Somebody who only ever holds on to the newest, as the threads that offer snapshots to actors do.
            let held = offering.then(|| scope.spawn(|| {
                let mut held = None;
                while !over.load(SeqCst) {
                    held = store.newest();
                    thread::yield_now();
                }
                drop(held);
            }));
            for version in 1..=versions {
                let snapshot = Arc::new(publish(version, &sizes));
                alive.push(Arc::downgrade(&snapshot));
                store.swap(snapshot);
            }
            over.store(true, SeqCst);
            if let Some(held) = held {
                held.join().unwrap();
            }
        });
        prop_assert!(actions.load(SeqCst) >= paces.iter().map(|pace| *pace as u64).sum());
        let left = alive.iter().filter(|snapshot| snapshot.strong_count() > 0).count();
        prop_assert_eq!(left, 1, "only the newest lives");
        prop_assert!(mappings() > before.0, "its region is mapped, so what is counted are regions");
        drop(store);
        prop_assert_eq!((mappings(), descriptors()), before);
    }
}
