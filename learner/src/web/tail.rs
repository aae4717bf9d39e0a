//! What the records of a run come to, read on from where the last reading stopped.

use std::path::Path;

use serde_json::{Map, Value};

use super::records::piece;

/// The newest record, and sums over all.
#[derive(Debug, Default)]
pub struct Tail {
    next: u64,
    /// The newest.
    pub newest: Map<String, Value>,
    /// Updates skipped because a value was not finite.
    pub skipped: f64,
}

impl Tail {
    /// Read what is new in the run's folder.
    pub fn read(&mut self, run: &Path) -> std::io::Result<()> {
        loop {
            let piece = piece(run, self.next)?;
            if piece.next < self.next {
                *self = Self::default();
                continue;
            }
            if piece.next == self.next {
                return Ok(());
            }
            self.next = piece.next;
            let records = piece.lines.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
            records.for_each(|record| self.take(record));
        }
    }

    fn take(&mut self, record: Map<String, Value>) {
        self.skipped += record.get("learner/skipped").and_then(Value::as_f64).unwrap_or_default();
        self.newest = record;
    }
}
