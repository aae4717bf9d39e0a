//! `metrics.jsonl`: one JSON object per line, appended over all resumes of a run.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{MetricError, Numbers, find};
use crate::files::append_whole;

/// The file, open for appending.
pub struct JsonLines {
    path: PathBuf,
    file: File,
}

impl JsonLines {
    /// Create the file, or go on with it; a last line that a crash cut short is removed.
    pub fn open(path: &Path) -> Result<Self, MetricError> {
        let failed = |source| MetricError::File { path: path.into(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        file.set_len(whole as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { path: path.into(), file })
    }

    /// Append one record: environment steps, updates, Unix time in seconds, and numbers whose names the table knows.
    /// A number that is not finite is written as null.
    pub fn append(&mut self, step: u64, update: u64, time: f64, numbers: &Numbers) -> Result<(), MetricError> {
        let mut record = Map::new();
        record.insert("step".into(), step.into());
        record.insert("update".into(), update.into());
        record.insert("time".into(), time.into());
        for (name, value) in numbers {
            known(name)?;
            record.insert(name.clone(), Value::from(*value));
        }
        let line = format!("{}\n", Value::Object(record));
        append_whole(&mut self.file, line.as_bytes())
            .map_err(|source| MetricError::File { path: self.path.clone(), source })
    }
}

fn known(name: &str) -> Result<(), MetricError> {
    let base = ["/median", "/p95", "/max"].iter().find_map(|end| name.strip_suffix(end));
    base.map_or_else(|| find(name), |base| find(base).or_else(|_| find(name))).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_resumed_file_loses_only_the_line_that_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let numbers = Numbers::from([("lag/updates/p95".into(), 2.0), ("train/loss/dyn".into(), f64::NAN)]);
        JsonLines::open(&path).unwrap().append(1, 2, 3.5, &numbers).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\": 7").unwrap();
        JsonLines::open(&path).unwrap().append(8, 9, 10.0, &Numbers::new()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let records: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(records.len(), 2);
        assert_eq!((&records[0]["step"], &records[0]["lag/updates/p95"]), (&Value::from(1), &Value::from(2.0)));
        assert_eq!(records[0]["train/loss/dyn"], Value::Null);
        assert_eq!((&records[1]["step"], &records[1]["update"]), (&Value::from(8), &Value::from(9)));
    }

    #[test]
    fn a_number_outside_the_table_is_refused_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut lines = JsonLines::open(&path).unwrap();
        assert!(lines.append(0, 0, 0.0, &Numbers::from([("made/up".into(), 1.0)])).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }
}
