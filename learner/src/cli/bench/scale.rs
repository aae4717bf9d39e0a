//! `lucid bench scale`: whole runs with more and more actor processes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::median;
use crate::RunError;
use crate::error::io;
use crate::plot::records::FILE;
use crate::plot::{Curve, Plot};

/// Seconds that a run may take to start and to end, beside those that are measured.
const BESIDE: f64 = 8.0;
const TASKS: [(&str, &str); 2] = [("dummy_sleep", "sleeps 1 ms"), ("dummy_compute", "computes for 1 ms")];

/// Environment steps per second of a whole run, with an environment that sleeps for a millisecond at each step and with one that
/// computes for a millisecond. The networks are tiny, so that actors and what is between them and the learner decide.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Numbers of actor processes.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32")]
    actors: Vec<usize>,
    /// Seconds that each run is measured.
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    /// Override one option of all runs.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A picture: .png or .svg.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Lines of JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// What a run reached.
struct Found {
    steps: f64,
    updates: f64,
    versions: f64,
    age: f64,
    cores: f64,
}

/// Measure.
pub fn run(args: &Args) -> Result<(), RunError> {
    let mut curves: Vec<Curve> = vec![];
    if !args.json {
        println!(
            "{:<18} {:>6} {:>8} {:>8} {:>10} {:>13} {:>11} {:>6}",
            "environment", "actors", "steps/s", "of one", "updates/s", "lag, versions", "lag, s", "cores"
        );
    }
    for (task, name) in TASKS {
        let mut points: Vec<(f64, f64)> = vec![];
        for &actors in &args.actors {
            let found = measure(args, task, actors)?;
            points.push((actors as f64, found.steps));
            let times = found.steps / points[0].1;
            print(args.json, task, name, actors, &found, times);
        }
        curves.push(Curve { name: name.into(), points });
    }
    let Some(out) = &args.out else { return Ok(()) };
    let (title, y_label) = ("environment steps per second of the whole run".into(), "steps/s".into());
    Plot { curves, bands: vec![], marks: vec![], title, x_label: "actor processes".into(), y_label }.draw(out)?;
    Ok(())
}

fn print(json: bool, task: &str, name: &str, actors: usize, found: &Found, times: f64) {
    let Found { steps, updates, versions, age, cores } = found;
    match json {
        true => println!(
            r#"{{"case": "{task}", "actors": {actors}, "steps_per_s": {steps:.1}, "updates_per_s": {updates:.2}, "lag_versions_p95": {versions}, "lag_seconds_p95": {age:.4}, "cores": {cores:.2}}}"#
        ),
        false => println!(
            "{name:<18} {actors:>6} {steps:>8.0} {times:>7.1}x {updates:>10.1} {versions:>13.0} {age:>11.3} {cores:>6.2}"
        ),
    }
}

/// One run in a folder of its own.
fn measure(args: &Args, task: &str, actors: usize) -> Result<Found, RunError> {
    let dir = tempfile::tempdir().map_err(io("create", &std::env::temp_dir()))?;
    let run = dir.path().join("run");
    let binary = std::env::current_exe().map_err(io("find", Path::new("the running binary")))?;
    let mut command = Command::new(&binary);
    command.args(["train", "-c", "dummy", "--run"]).arg(&run);
    command.args(["--actors", &actors.to_string(), "--minutes", &((args.seconds + BESIDE) / 60.0).to_string()]);
    let own = [format!("env.task={task}"), "env.observe=vector".into(), "run.train_ratio=0.05".into()];
    for set in own.iter().chain(&args.set) {
        command.args(["--set", set]);
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(io("start", &binary))?;
    sleep(Duration::from_secs_f64(BESIDE / 2.0));
    let (busy, start) = (busy_seconds(), Instant::now());
    sleep(Duration::from_secs_f64(args.seconds));
    let cores = (busy_seconds() - busy) / start.elapsed().as_secs_f64();
    let mut said = String::new();
    if let Some(errors) = &mut child.stderr {
        let _ = std::io::Read::read_to_string(errors, &mut said);
    }
    let status = child.wait().map_err(io("wait for", &binary))?;
    let failed = |message: String| RunError::Bench { message: format!("{task} with {actors} actors: {message}") };
    if !status.success() {
        return Err(failed(format!("the run ended with {status}: {said}")));
    }
    let file = run.join(FILE);
    let text = fs::read_to_string(&file).map_err(io("read", &file))?;
    let records: Vec<BTreeMap<String, Value>> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    found(&records, args.seconds, actors, cores).map_err(failed)
}

/// From the records of the run's last `seconds` while all actors were there.
fn found(records: &[BTreeMap<String, Value>], seconds: f64, actors: usize, cores: f64) -> Result<Found, String> {
    let number = |r: &BTreeMap<String, Value>, key: &str| r.get(key).and_then(Value::as_f64);
    let all = |r: &&BTreeMap<String, Value>| {
        r.keys().filter(|key| key.starts_with("memory/rss/actor-")).count() == actors
            && r.contains_key("lag/seconds/p95")
    };
    let mut whole: Vec<_> = records.iter().filter(all).collect();
    let end = whole.last().and_then(|r| number(r, "time")).unwrap_or(0.0);
    whole.retain(|r| number(r, "time").is_some_and(|time| time >= end - seconds));
    let [first, .., last] = whole[..] else { return Err("its actors were not all there for long enough".into()) };
    let between = |key: &str| number(last, key).zip(number(first, key)).map(|(last, first)| last - first);
    let middle = |key: &str| median(whole.iter().filter_map(|r| number(r, key)).collect());
    let (Some(time), Some(steps)) = (between("time"), between("env/steps")) else {
        return Err("its records lack time or steps".into());
    };
    Ok(Found {
        steps: steps / time,
        updates: between("learner/updates").unwrap_or(0.0) / time,
        versions: middle("lag/versions/p95"),
        age: middle("lag/seconds/p95"),
        cores,
    })
}

/// Seconds that all cores of this machine have worked; 0 where nobody says.
pub(super) fn busy_seconds() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<f64> =
        text.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user, nice, system, idle, waiting for disks, interrupts.
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    (ticks.iter().take(8).sum::<f64>() - idle) / 100.0
}
