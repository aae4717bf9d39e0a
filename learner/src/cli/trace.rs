//! `lucid trace`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use shared::trace::file;

use crate::RunError;
use crate::control::{Client, Request};
use crate::error::io;

/// How long to wait for the file of a process that was asked for one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Record what every thread of a run does and what it waits for, as a file for https://ui.perfetto.dev or chrome://tracing.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder.
    run: PathBuf,
    /// For how long, seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// The file to write [default: trace.json in the run folder].
    #[arg(long, short)]
    output: Option<PathBuf>,
}

/// Run it.
pub fn run(args: &Args) -> Result<(), RunError> {
    let mut client = Client::connect(&args.run)?;
    let parts = args.run.join("trace");
    // Of an earlier trace that was not waited for.
    match fs::remove_dir_all(&parts) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", &parts)(error)),
        _ => {}
    }
    let processes = client.ask(&Request::Trace { seconds: args.seconds })?;
    let deadline = Instant::now() + PATIENCE;
    let mut events = Vec::new();
    for process in processes.split_whitespace() {
        match part(&file(&args.run, process), deadline)? {
            Some(part) => {
                println!("{}", summary(process, &part, args.seconds));
                events.extend(part);
            }
            None => println!("{process}: has written nothing; it has ended, or is stopped"),
        }
    }
    let output = args.output.clone().unwrap_or_else(|| args.run.join("trace.json"));
    let text = serde_json::json!({ "displayTimeUnit": "ms", "traceEvents": events }).to_string();
    fs::write(&output, text).map_err(io("write", &output))?;
    fs::remove_dir_all(&parts).map_err(io("remove", &parts))?;
    println!("{}: open it at https://ui.perfetto.dev", output.display());
    Ok(())
}

/// The events of one process, once its file is there.
fn part(path: &Path, deadline: Instant) -> Result<Option<Vec<Value>>, RunError> {
    loop {
        match fs::read(path) {
            Ok(bytes) => {
                let events = serde_json::from_slice(&bytes).map_err(|error| io("read", path)(error.into()))?;
                return Ok(Some(events));
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("read", path)(error)),
            Err(_) if Instant::now() > deadline => return Ok(None),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A line for each thread: the shares of the time of what it did, the longest first.
fn summary(process: &str, events: &[Value], seconds: f64) -> String {
    let mut threads: BTreeMap<u64, (String, BTreeMap<&str, f64>)> = BTreeMap::new();
    for event in events {
        let (_, shares) = match (event["ph"].as_str(), event["tid"].as_u64()) {
            (Some("X"), Some(tid)) => threads.entry(tid).or_default(),
            (Some("M"), Some(tid)) if event["name"] == "thread_name" => {
                threads.entry(tid).or_default().0 = event["args"]["name"].as_str().unwrap_or_default().into();
                continue;
            }
            _ => continue,
        };
        let name = event["name"].as_str().unwrap_or_default();
        *shares.entry(name).or_default() += event["dur"].as_f64().unwrap_or(0.0) / (1e6 * seconds);
    }
    let line = |(name, shares): (String, BTreeMap<&str, f64>)| {
        let mut shares: Vec<_> = shares.into_iter().filter(|(_, share)| *share >= 0.005).collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        let shares: Vec<String> = shares.iter().map(|(name, share)| format!("{name} {:.0} %", 100.0 * share)).collect();
        (!shares.is_empty()).then(|| format!("\n  {name}: {}", shares.join(", ")))
    };
    let lines: String = threads.into_values().filter_map(line).collect();
    if lines.is_empty() { format!("{process}: idle") } else { format!("{process}:{lines}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shares_of_time_are_told_per_thread() {
        let span = |tid: u64, name: &str, dur: f64| json!({ "ph": "X", "name": name, "pid": 7, "tid": tid, "ts": 0.0, "dur": dur });
        let thread = |tid: u64, name: &str| json!({ "ph": "M", "name": "thread_name", "pid": 7, "tid": tid, "args": { "name": name } });
        let events = [
            thread(0, "train"),
            span(0, "update", 6e5),
            span(0, "update", 9e5),
            span(0, "publish", 1e5),
            thread(1, "idle"),
        ];
        assert_eq!(summary("learner", &events, 2.0), "learner:\n  train: update 75 %, publish 5 %");
        assert_eq!(summary("actor-0", &events[..1], 2.0), "actor-0: idle");
    }
}
