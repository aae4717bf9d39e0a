//! What happened to parameters while somebody watched: how a test proves "frozen: read, never modified".

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::store::Entry;
use super::{ParamError, Params, Phase};

/// Paths by what happened to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Resolved to a handle or copied out. A module that kept its handle from before reads unseen.
    pub read: BTreeSet<String>,
    /// Created.
    pub created: BTreeSet<String>,
    /// Written through the store, or of other values at the end than at the beginning, whoever wrote them.
    pub modified: BTreeSet<String>,
}

/// A recording under way.
struct Recording {
    trace: Trace,
    before: BTreeMap<String, u64>,
}

/// The store's recorder; idle unless a trace was started.
#[derive(Default)]
pub(super) struct Recorder(Mutex<Option<Recording>>);

impl Recorder {
    pub fn read(&self, path: &str) {
        self.note(path, |trace| &mut trace.read);
    }

    pub fn created(&self, path: &str) {
        self.note(path, |trace| &mut trace.created);
    }

    pub fn modified(&self, path: &str) {
        self.note(path, |trace| &mut trace.modified);
    }

    fn note(&self, path: &str, set: impl FnOnce(&mut Trace) -> &mut BTreeSet<String>) {
        if let Some(recording) = self.0.lock().as_mut() {
            set(&mut recording.trace).insert(path.to_string());
        }
    }
}

impl<P: Phase> Params<P> {
    /// Begin to record; a recording under way is dropped. Reads every value once, so that writes through handles show too.
    pub fn start_trace(&self) -> Result<(), ParamError> {
        let before = sums(&self.entries.read())?;
        *self.recorder.0.lock() = Some(Recording { trace: Trace::default(), before });
        Ok(())
    }

    /// End the recording and return it; empty if none was under way.
    pub fn stop_trace(&self) -> Result<Trace, ParamError> {
        let Some(Recording { mut trace, before }) = self.recorder.0.lock().take() else { return Ok(Trace::default()) };
        let after = sums(&self.entries.read())?;
        trace.modified.extend(before.into_iter().filter(|(p, sum)| after.get(p) != Some(sum)).map(|(p, _)| p));
        Ok(trace)
    }

    /// Record what `run` does.
    pub fn trace<R>(&self, run: impl FnOnce() -> R) -> Result<(R, Trace), ParamError> {
        self.start_trace()?;
        let result = run();
        Ok((result, self.stop_trace()?))
    }
}

fn sums(entries: &BTreeMap<String, Entry>) -> Result<BTreeMap<String, u64>, ParamError> {
    let sum = |entry: &Entry| entry.weight.with_values(|values| xxh3_64(bytemuck::cast_slice(values)));
    entries.iter().map(|(path, entry)| Ok((path.clone(), sum(entry)?))).collect()
}
