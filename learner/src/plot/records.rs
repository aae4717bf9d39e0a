//! One metric out of a run's `metrics.jsonl`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use shared::config::nearest;
use shared::metrics::METRICS;

use super::PlotError;

/// The file in the run folder.
pub(crate) const FILE: &str = "metrics.jsonl";

/// A number that the run reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Environment steps by then.
    pub step: f64,
    /// Updates by then.
    pub update: f64,
    /// Minutes since the first record.
    pub minutes: f64,
    /// The number.
    pub value: f64,
    /// Episodes that it is the mean of; 1 for numbers that are not of episodes.
    pub weight: f64,
}

/// What is needed of one record.
struct Record {
    step: f64,
    update: f64,
    time: f64,
    values: Vec<Option<f64>>,
    episodes: Option<f64>,
}

/// The numbers of one metric, oldest first, at least one.
pub(super) fn read(run: &Path, metric: &str) -> Result<Vec<Sample>, PlotError> {
    let mut names = BTreeSet::new();
    let samples = each(run, &[metric], &mut names, Err)?.into_iter().flatten().collect::<Vec<_>>();
    if samples.is_empty() { Err(absent(run.join(FILE), metric, &names)) } else { Ok(samples) }
}

/// The numbers of several metrics, each oldest first, and the names of all that the run reported. What a run did after the
/// checkpoint from which it went on later is left out, and so is a last line that is still being written. `damaged` says whether
/// to go on without a line that is no record.
pub(crate) fn each(
    run: &Path,
    metrics: &[&str],
    names: &mut BTreeSet<String>,
    mut damaged: impl FnMut(PlotError) -> Result<(), PlotError>,
) -> Result<Vec<Vec<Sample>>, PlotError> {
    let mut records: Vec<Record> = Vec::new();
    let bytes = whole(run)?;
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate().filter(|_| !bytes.is_empty()) {
        let record = match parse(line, metrics, names) {
            Ok(record) => record,
            Err(message) => {
                damaged(PlotError::Line { path: run.join(FILE), line: index + 1, message })?;
                continue;
            }
        };
        while records.last().is_some_and(|last| last.step > record.step || last.update > record.update) {
            records.pop();
        }
        records.push(record);
    }
    Ok((0..metrics.len()).map(|i| samples(&records, i, metrics[i].starts_with("episode/"))).collect())
}

/// The newest record that is whole; none where there is none yet.
pub(crate) fn last(run: &Path) -> Result<Option<Map<String, Value>>, PlotError> {
    Ok(whole(run)?.rsplit(|b| *b == b'\n').find_map(|line| serde_json::from_slice(line).ok()))
}

/// The lines that have been written to their end.
fn whole(run: &Path) -> Result<Vec<u8>, PlotError> {
    let path = run.join(FILE);
    let mut bytes = std::fs::read(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => PlotError::NoMetrics { run: run.into() },
        _ => PlotError::Read { path, source },
    })?;
    bytes.truncate(bytes.iter().rposition(|b| *b == b'\n').unwrap_or(0));
    Ok(bytes)
}

fn parse(line: &[u8], metrics: &[&str], names: &mut BTreeSet<String>) -> Result<Record, String> {
    let record: Map<String, Value> = serde_json::from_slice(line).map_err(|error| format!("not a record: {error}"))?;
    let number = |key: &str| match record.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| format!("`{key}` is {value}, not a number")),
    };
    let needed = |key: &str| number(key)?.ok_or_else(|| format!("`{key}` is missing"));
    names.extend(record.keys().filter(|key| !names.contains(*key)).cloned().collect::<Vec<_>>());
    Ok(Record {
        step: needed("step")?,
        update: needed("update")?,
        time: needed("time")?,
        values: metrics.iter().map(|metric| number(metric)).collect::<Result<_, _>>()?,
        episodes: number("episode/count")?,
    })
}

/// A record of episodes is the mean of those that ended since the record before it.
fn samples(records: &[Record], metric: usize, of_episodes: bool) -> Vec<Sample> {
    let start = records.first().map_or(0.0, |first| first.time);
    let mut counted = 0.0;
    let mut samples = Vec::new();
    for record in records {
        let episodes = record.episodes.unwrap_or(counted) - counted;
        counted += episodes;
        let weight = if of_episodes { episodes.max(1.0) } else { 1.0 };
        let Record { step, update, time, .. } = *record;
        samples.extend(record.values[metric].map(|value| Sample {
            step,
            update,
            minutes: (time - start) / 60.0,
            value,
            weight,
        }));
    }
    samples
}

fn absent(path: PathBuf, metric: &str, names: &BTreeSet<String>) -> PlotError {
    let metric = metric.to_string();
    let planned = || METRICS.iter().map(|m| m.name).filter(|name| !name.ends_with('*'));
    if names.contains(&metric) || planned().any(|name| name == metric) {
        return PlotError::NotYet { path, metric };
    }
    let nearest = nearest(&metric, names.iter().map(String::as_str).chain(planned()));
    PlotError::Unknown { path, metric, nearest }
}
