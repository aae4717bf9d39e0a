//! One evaluation, as `eval.jsonl` has it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use shared::dreamer::Choice;
use shared::metrics::EvaluatedReport;
use shared::wire::Episode;

use crate::RunError;
use crate::error::io;

/// Its file in a run folder: one record a line.
pub const FILE: &str = "eval.jsonl";

/// Who asked for an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The run itself, by `eval.every`.
    Training,
    /// `lucid eval`.
    Command,
}

/// What was played, with which policy, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Who asked for it.
    pub source: Source,
    /// Environment steps of training at the policy that acted.
    pub step: u64,
    /// Updates made by then.
    pub update: u64,
    /// Version of the policy: every step was taken with it.
    pub version: u64,
    /// How actions were chosen.
    pub actions: Choice,
    /// Seed of environments and actions.
    pub seed: u64,
    /// When it ended, seconds since 1970.
    pub time: f64,
    /// Episodes.
    pub episodes: usize,
    /// Mean of their returns.
    pub mean: f64,
    /// Standard deviation of their returns.
    pub std: f64,
    /// Mean of their lengths, steps.
    pub length: f64,
    /// Their returns, in the order in which they ended.
    pub returns: Vec<f32>,
    /// Their lengths, steps.
    pub lengths: Vec<u32>,
}

impl Record {
    /// Of these episodes, without a policy that acted.
    pub fn new(source: Source, actions: Choice, seed: u64, episodes: &[Episode]) -> Self {
        let count = episodes.len().max(1) as f64;
        let mean_of = |value: &dyn Fn(&Episode) -> f64| episodes.iter().map(value).sum::<f64>() / count;
        let mean = mean_of(&|e| e.score.into());
        Self {
            source,
            step: 0,
            update: 0,
            version: 0,
            actions,
            seed,
            time: now(),
            episodes: episodes.len(),
            mean,
            std: mean_of(&|e| (f64::from(e.score) - mean).powi(2)).sqrt(),
            length: mean_of(&|e| e.length.into()),
            returns: episodes.iter().map(|e| e.score).collect(),
            lengths: episodes.iter().map(|e| e.length).collect(),
        }
    }

    /// By the policy of this version and update, when training was at `step`.
    pub fn of(self, version: u64, update: u64, step: u64) -> Self {
        Self { version, update, step, ..self }
    }

    /// As one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and words can be written as JSON")
    }

    /// Append it to the run folder's file.
    pub fn append(&self, run: &Path) -> Result<(), RunError> {
        let file = run.join(FILE);
        let open = OpenOptions::new().create(true).append(true).open(&file);
        // In one piece: several processes may append.
        let line = self.to_json() + "\n";
        open.and_then(|mut f| f.write_all(line.as_bytes())).map_err(io("write", &file))
    }

    /// The newest of the run's own evaluations in a run folder; lines that cannot be read are passed over.
    pub fn newest(run: &Path) -> Option<Self> {
        let text = fs::read_to_string(run.join(FILE)).ok()?;
        let records = text.lines().rev().filter_map(|line| serde_json::from_str::<Self>(line).ok());
        records.into_iter().find(|record| record.source == Source::Training)
    }

    /// For the screen, now.
    pub fn report(&self) -> EvaluatedReport {
        EvaluatedReport {
            version: self.version,
            update: self.update,
            step: self.step,
            episodes: self.episodes as u64,
            mean: self.mean,
            std: self.std,
            length: self.length,
            age: (now() - self.time).max(0.0),
        }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(source: Source, version: u64) -> Record {
        let episodes = [(1.0, 10), (-1.0, 20), (3.0, 30)].map(|(score, length)| Episode { score, length });
        Record::new(source, Choice::Mode, 7, &episodes).of(version, 90, 1000)
    }

    #[test]
    fn a_record_has_mean_and_deviation_and_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let first = record(Source::Training, 3);
        assert_eq!((first.mean, first.length, first.episodes), (1.0, 20.0, 3));
        assert!((first.std - (8f64 / 3.0).sqrt()).abs() < 1e-12);
        first.append(dir.path()).unwrap();
        fs::write(dir.path().join(FILE), fs::read_to_string(dir.path().join(FILE)).unwrap() + "{\"mean\": 1}\n")
            .unwrap();
        record(Source::Command, 4).append(dir.path()).unwrap();
        let read = Record::newest(dir.path()).unwrap();
        // The last digit of a number may be another one after JSON.
        assert!((read.time - first.time).abs() < 1e-3);
        assert_eq!(Record { time: first.time, ..read }, first);
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&last["source"], &last["actions"], &last["version"]),
            (&"command".into(), &"mode".into(), &4.into())
        );
    }

    #[test]
    fn a_folder_without_evaluations_has_no_newest() {
        assert_eq!(Record::newest(tempfile::tempdir().unwrap().path()), None);
    }
}
