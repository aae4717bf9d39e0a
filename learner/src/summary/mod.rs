//! A run as one page to send to somebody: what ran, how it went, its curves and pictures, in a file that needs no other.

mod html;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use shared::config::{Config, TrainableBlocks};

use crate::RunError;
use crate::error::io;
use crate::plot::records::{self, Sample};
use crate::plot::{By, Plot, Request};
use crate::report::text::{bytes, duration, grouped, number};
use html::{escaped, table};

/// What is drawn where the run has recorded it, in this order.
const CURVES: [&str; 15] = [
    "episode/return",
    "eval/return",
    "episode/length",
    "env/steps_per_s",
    "learner/updates_per_s",
    "lag/updates/median",
    "lag/updates/max",
    "staleness/updates/median",
    "train/loss/dyn",
    "train/loss/rew",
    "train/loss/con",
    "train/loss/policy",
    "train/loss/value",
    "train/val",
    "replay/fill",
];
/// What else is read over the whole run.
const COUNTED: [&str; 2] = ["env/steps", "learner/skipped"];
/// What the run has recorded under each of these names, oldest first.
type Numbers<'a> = BTreeMap<&'a str, Vec<Sample>>;
/// Largest picture that is taken in, bytes: pages go by mail.
const LARGEST: u64 = 4 << 20;

/// The page about the run in this folder.
pub fn page(run: &Path) -> Result<String, RunError> {
    let path = run.join("config.toml");
    let config = Config::load(&[path.to_string_lossy()], &[] as &[&str])?;
    let last = records::last(run)?.unwrap_or_default();
    let names: Vec<&str> = CURVES.into_iter().chain(COUNTED).collect();
    let read = records::each(run, &names, &mut Default::default(), Err)?;
    let numbers: Numbers = names.into_iter().zip(read).collect();
    let mut body = facts(&config, &last, &numbers);
    body += &curves(run, &last, &numbers)?;
    body += &evaluations(run)?;
    body += &pictures(run)?;
    let differences = config.differences()?;
    let rows = differences.iter().map(|d| [escaped(&d.key), escaped(&d.value), escaped(&d.default)]);
    body += &html::section("Options that differ from the defaults", &table(["option", "value", "default"], rows));
    let all = format!("<details><summary>config.toml</summary><pre>{}</pre></details>", escaped(&config.to_toml()?));
    body += &html::section("All options", &all);
    let name = fs::canonicalize(run).unwrap_or_else(|_| run.to_path_buf());
    let name = name.file_name().map_or_else(|| run.to_string_lossy(), |name| name.to_string_lossy());
    Ok(html::document(&format!("{name}: {}", config.env.task), &body))
}

/// What ran and how far it came.
fn facts(config: &Config, last: &Map<String, Value>, numbers: &Numbers) -> String {
    let value = |name: &str| last.get(name).and_then(Value::as_f64);
    let count = |name: &str| value(name).map(|value| grouped(value as u64));
    let rounded = |name: &str| value(name).map(number);
    let eyes = match config.vit.weights.as_str() {
        "" => "convolutional encoder, trained".to_string(),
        weights if config.vit.trainable_blocks == TrainableBlocks::Last(0) => format!("{weights}, frozen"),
        weights => format!("{weights}, its last blocks trained"),
    };
    let newest = |name: &str| numbers.get(name).and_then(|samples| samples.last());
    let skipped: f64 = numbers["learner/skipped"].iter().map(|sample| sample.value).sum();
    let rows = [
        ("task", Some(config.env.task.clone())),
        ("sees through", Some(eyes)),
        ("lucid", Some(env!("CARGO_PKG_VERSION").to_string())),
        ("environment steps", count("env/steps")),
        ("updates", count("learner/updates")),
        ("episodes", count("episode/count")),
        ("mean return of the last record with episodes", newest("episode/return").map(|sample| number(sample.value))),
        ("time from first to last record", newest("env/steps").map(|sample| duration(60.0 * sample.minutes))),
        ("environment steps per second", rounded("env/steps_per_s")),
        ("updates per second", rounded("learner/updates_per_s")),
        ("replayed steps per environment step", rounded("replay/ratio")),
        ("updates skipped because of numbers that were not finite", Some(grouped(skipped as u64))),
        ("processes started again", rounded("actor/restarts")),
        ("memory of the learner", value("memory/rss/learner").map(|size| bytes(size as u64))),
    ];
    let known = rows.into_iter().filter_map(|(name, value)| Some([escaped(name), escaped(&value?)]));
    html::section("The run", &table(["", ""], known))
}

/// A picture for each metric that was recorded.
fn curves(run: &Path, last: &Map<String, Value>, numbers: &Numbers) -> Result<String, RunError> {
    let mut pictures = String::new();
    for metric in CURVES {
        let samples = &numbers[metric];
        if samples.is_empty() {
            continue;
        }
        let request = Request {
            runs: vec![(String::new(), run.to_path_buf())],
            metric: metric.into(),
            by: By::Steps,
            window: None,
            marks: vec![],
            each: true,
        };
        let plot = Plot::of(&request, std::slice::from_ref(samples));
        pictures += &format!("<figure>{}</figure>", plot.svg()?);
    }
    let rows = last.iter().filter_map(|(name, value)| Some([escaped(name), number(value.as_f64()?)]));
    let record = format!("<details><summary>the last record</summary>{}</details>", table(["metric", "value"], rows));
    Ok(html::section("Curves", &format!("<div class=\"many\">{pictures}</div>{record}")))
}

/// Lines of `eval.jsonl`, the newest last; nothing if there is none.
fn evaluations(run: &Path) -> Result<String, RunError> {
    let path = run.join("eval.jsonl");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(io("read", &path)(error)),
    };
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok());
    let row = |line: Map<String, Value>| {
        let value = |name: &str| line.get(name).and_then(Value::as_f64);
        let whole = |name: &str| value(name).map_or_else(String::new, |value| grouped(value as u64));
        let rounded = |name: &str| value(name).map_or_else(String::new, number);
        [whole("step"), whole("update"), whole("episodes"), rounded("mean"), rounded("std")]
    };
    Ok(html::section("Evaluations", &table(["steps", "updates", "episodes", "return", "deviation"], lines.map(row))))
}

/// The newest of each kind and name in `media/`.
fn pictures(run: &Path) -> Result<String, RunError> {
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for entry in fs::read_dir(run.join("media")).into_iter().flatten().flatten() {
        let path = entry.path();
        let Some((name, _)) = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.rsplit_once('-'))
        else {
            continue;
        };
        let small = entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST);
        if small && kind(&path).is_some() {
            found.push((name.to_string(), path));
        }
    }
    found.sort();
    let mut figures = String::new();
    for pair in found.chunk_by(|a, b| a.0 == b.0) {
        let Some((name, path)) = pair.last() else { continue };
        let bytes = fs::read(path).map_err(io("read", path))?;
        let source = format!("data:{};base64,{}", kind(path).unwrap_or_default(), STANDARD.encode(bytes));
        let name = escaped(name);
        figures += &format!("<figure><img src=\"{source}\" alt=\"{name}\"><figcaption>{name}</figcaption></figure>");
    }
    if figures.is_empty() {
        return Ok(figures);
    }
    Ok(html::section("Pictures", &format!("<div class=\"many\">{figures}</div>")))
}

fn kind(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()? {
        "gif" => Some("image/gif"),
        "png" => Some("image/png"),
        _ => None,
    }
}
