//! Policy snapshots: copied at a step border by the train thread, put into shared memory and offered by a thread of its own.

use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender};
use shared::params::Weight;
use shared::snapshot::PolicySnapshot;
use shared::snapshot::format::{self, SnapshotHeader};

use crate::RunError;
use crate::run::Run;

/// The train thread's end: takes copies.
pub struct Publisher {
    version: u64,
    queue: Sender<Vec<u8>>,
}

impl Publisher {
    /// Goes on from the last published version.
    pub fn new(version: u64, queue: Sender<Vec<u8>>) -> Self {
        Self { version, queue }
    }

    /// The newest version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Copy the parameters as they are now and hand the copy over. A value that is not finite is an error, and nothing is published.
    pub fn publish(&mut self, update: u64, params: &[(String, Weight)]) -> Result<(), RunError> {
        for (path, weight) in params {
            let finite = weight.with_values(|values| values.iter().all(|x| x.is_finite()));
            if !finite.map_err(shared::params::ParamError::from)? {
                return Err(RunError::NotFinite { path: path.clone(), update });
            }
        }
        let version = self.version + 1;
        let header = SnapshotHeader { version, update, published: PolicySnapshot::now() };
        let encoded = format::encode(&header, params)?;
        self.version = version;
        // A closed queue means that the publisher has failed; the run is stopping for that reason already.
        let _ = self.queue.send(encoded);
        Ok(())
    }
}

/// The publisher thread: until the train thread is done.
pub fn publish_all(run: &Run, queue: &Receiver<Vec<u8>>) -> Result<(), RunError> {
    for encoded in queue {
        let start = Instant::now();
        let snapshot = Arc::new(PolicySnapshot::publish(&encoded)?);
        run.totals.lock().counters.version = snapshot.version;
        run.snapshots.swap(snapshot.clone());
        run.links.offer(&snapshot);
        run.record("snapshot/version", snapshot.version as f64);
        run.record("snapshot/bytes", encoded.len() as f64);
        run.record("snapshot/publish_ms", 1e3 * start.elapsed().as_secs_f64());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use shared::params::Region;
    use shared::snapshot::format::SnapshotView;

    fn params(value: f32) -> Vec<(String, Weight)> {
        vec![("pol/kernel".into(), Weight::Var(Var::new(&[value, 1.0], &Device::Cpu).unwrap()))]
    }

    #[test]
    fn versions_rise_by_one_and_a_bad_value_is_never_published() {
        let (sender, receiver) = crossbeam::channel::unbounded();
        let mut publisher = Publisher::new(4, sender);
        publisher.publish(9, &params(0.5)).unwrap();
        let error = publisher.publish(10, &params(f32::NAN)).unwrap_err();
        assert!(error.to_string().contains("`pol/kernel`"), "{error}");
        publisher.publish(11, &params(0.25)).unwrap();
        drop(publisher);
        let open = |bytes: Vec<u8>| SnapshotView::open(Arc::new(bytes) as Region).unwrap().header();
        let seen: Vec<_> = receiver.iter().map(open).map(|h| (h.version, h.update)).collect();
        assert_eq!(seen, [(5, 9), (6, 11)]);
    }

    #[test]
    fn a_copy_does_not_change_with_the_parameters() {
        let (sender, receiver) = crossbeam::channel::unbounded();
        let var = Var::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let params = vec![("pol/kernel".to_string(), Weight::Var(var.clone()))];
        Publisher::new(0, sender).publish(0, &params).unwrap();
        var.set(&candle_core::Tensor::new(&[7f32, 7.0], &Device::Cpu).unwrap()).unwrap();
        let snapshot = PolicySnapshot::publish(&receiver.recv().unwrap()).unwrap();
        let view = SnapshotView::open(Arc::new(shared::wire::Bulk::Shared(snapshot.region))).unwrap();
        assert_eq!(view.iter().next().unwrap().1.values(), [1.0, 2.0]);
    }
}
