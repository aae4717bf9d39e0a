//! Threads of a process that drives others or watches a run.

use std::path::Path;
use std::thread;

use signal_hook::iterator::Signals;

use crate::RunError;
use crate::error::io;

/// Start a thread that nobody waits for.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), RunError> {
    thread::Builder::new().name(name.into()).spawn(run).map(drop).map_err(io("start", name.as_ref()))
}

/// Call `heard` on a thread of its own with each of these signals that comes, until it says that nobody listens any more.
pub(crate) fn on_signals(signals: &[i32], mut heard: impl FnMut(i32) -> bool + Send + 'static) -> Result<(), RunError> {
    let mut signals = Signals::new(signals).map_err(io("watch", Path::new("signals")))?;
    spawn("signals", move || {
        for signal in signals.forever() {
            if !heard(signal) {
                return;
            }
        }
    })
}
