//! Policy snapshots: copied at a step border by the train thread, put into shared memory and offered by a thread of its own.

use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender};
use shared::params::Weight;
use shared::snapshot::PolicySnapshot;
use shared::snapshot::format::{Draft, FormatError, SnapshotHeader};
use shared::trace::span;

use crate::RunError;
use crate::run::Run;

/// A copy of the policy on its way to the publisher thread.
pub struct Copied {
    header: SnapshotHeader,
    draft: Draft,
}

/// The train thread's end: takes copies.
pub struct Publisher {
    version: u64,
    queue: Sender<Copied>,
}

impl Publisher {
    /// Goes on from the last published version.
    pub fn new(version: u64, queue: Sender<Copied>) -> Self {
        Self { version, queue }
    }

    /// The newest version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Copy the parameters as they are now and hand the copy over.
    pub fn publish(&mut self, update: u64, params: &[(String, Weight)]) -> Result<(), RunError> {
        let draft = Draft::new(params)?;
        self.version += 1;
        let header = SnapshotHeader { version: self.version, update, published: PolicySnapshot::now() };
        // A closed queue means that the publisher has failed; the run is stopping for that reason already.
        let _ = self.queue.send(Copied { header, draft });
        Ok(())
    }
}

impl Copied {
    /// Into shared memory. A value that is not finite is an error, and nothing is published.
    pub fn share(self) -> Result<PolicySnapshot, RunError> {
        let Self { header, draft } = self;
        PolicySnapshot::publish(&draft.seal(&header)).map_err(|error| match error {
            FormatError::NotFinite { path } => RunError::NotFinite { path, update: header.update },
            error => error.into(),
        })
    }
}

/// The publisher thread: until the train thread is done.
pub fn publish_all(run: &Run, queue: &Receiver<Copied>) -> Result<(), RunError> {
    for copied in queue {
        let start = Instant::now();
        let _span = span("publish");
        let snapshot = Arc::new(copied.share()?);
        // A version that actors may hold is never given to another policy, whatever becomes of this process. The first error since a cut
        // is told by whoever takes steps in.
        let _ = run.journal.lock().publishing(snapshot.version);
        run.totals.lock().counters.version = snapshot.version;
        run.versions.push(&snapshot);
        run.snapshots.swap(snapshot.clone());
        run.links.offer(&snapshot);
        run.record("snapshot/version", snapshot.version as f64);
        run.record("snapshot/bytes", snapshot.region.len() as f64);
        run.record("snapshot/publish_ms", 1e3 * start.elapsed().as_secs_f64());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use shared::snapshot::format::SnapshotView;

    fn params(value: f32) -> Vec<(String, Weight)> {
        vec![("pol/kernel".into(), Weight::Var(Var::new(&[value, 1.0], &Device::Cpu).unwrap()))]
    }

    #[test]
    fn versions_rise_by_one_and_a_bad_value_is_never_shared() {
        let (sender, receiver) = crossbeam::channel::unbounded();
        let mut publisher = Publisher::new(4, sender);
        publisher.publish(9, &params(0.5)).unwrap();
        publisher.publish(11, &params(0.25)).unwrap();
        publisher.publish(12, &params(f32::NAN)).unwrap();
        drop(publisher);
        let seen: Vec<_> = receiver.iter().map(Copied::share).collect();
        let versions: Vec<_> = seen.iter().flatten().map(|snapshot| (snapshot.version, snapshot.update)).collect();
        assert_eq!(versions, [(5, 9), (6, 11)]);
        let error = seen[2].as_ref().err().unwrap().to_string();
        assert!(error.contains("`pol/kernel`"), "{error}");
    }

    #[test]
    fn a_copy_does_not_change_with_the_parameters() {
        let (sender, receiver) = crossbeam::channel::unbounded();
        let var = Var::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let params = vec![("pol/kernel".to_string(), Weight::Var(var.clone()))];
        Publisher::new(0, sender).publish(0, &params).unwrap();
        var.set(&candle_core::Tensor::new(&[7f32, 7.0], &Device::Cpu).unwrap()).unwrap();
        let snapshot = receiver.recv().unwrap().share().unwrap();
        let view = SnapshotView::open(Arc::new(shared::wire::Bulk::Shared(snapshot.region))).unwrap();
        assert_eq!(view.iter().next().unwrap().1.values(), [1.0, 2.0]);
    }
}
