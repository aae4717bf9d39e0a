//! `lucid trace` of a run that goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use learner::control::{Client, Request};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Run, kill, lucid};

const SMALL: [&str; 4] = ["-c", "dummy", "--set", "run.train_ratio=1"];

/// Microseconds that each span in the trace of a run lasted, by process and name.
fn spans(folder: &Path) -> BTreeMap<(String, String), Vec<f64>> {
    let trace: Value = serde_json::from_slice(&fs::read(folder.join("trace.json")).unwrap()).unwrap();
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    let mut spans: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    for event in trace["traceEvents"].as_array().unwrap() {
        let pid = event["pid"].as_u64().unwrap();
        if event["name"] == "process_name" {
            names.insert(pid, event["args"]["name"].as_str().unwrap().into());
        } else if event["ph"] == "X" {
            let key = (names[&pid].clone(), event["name"].as_str().unwrap().to_string());
            spans.entry(key).or_default().push(event["dur"].as_f64().unwrap());
        }
    }
    spans
}

#[test]
fn a_trace_tells_what_threads_of_all_processes_did_and_who_said_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let path = folder.to_str().unwrap();
    let evaluating = ["--set", "eval.every=100", "--actors", "3"];
    let mut run = Run::start(&folder, &[&SMALL[..], &evaluating].concat());
    run.report(|report| report.evaluation.as_ref().is_some_and(|evaluation| evaluation.pid != 0));
    let (ok, text) = lucid(&["trace", path, "--seconds", "0"]);
    assert!(!ok && text.contains("more than 0"), "{text}");

    let stopped = run.actor(1).unwrap();
    kill(stopped, Signal::STOP);
    let (ok, text) = lucid(&["trace", path, "--seconds", "1"]);
    kill(stopped, Signal::CONT);
    assert!(ok && text.contains("actor-1: has written nothing"), "{text}");

    let spans = spans(&folder);
    let processes: BTreeSet<&str> = spans.keys().map(|(process, _)| process.as_str()).collect();
    assert_eq!(processes, BTreeSet::from(["launcher", "learner", "actor-0", "actor-2", "evaluation"]));
    for (process, name) in [
        ("launcher", "wait for news"),
        ("launcher", "hear the learner"),
        ("launcher", "look after actors"),
        ("learner", "update"),
        ("learner", "backward"),
        ("actor-0", "policy"),
        ("actor-2", "policy"),
        ("evaluation", "wait for the learner"),
    ] {
        let long = spans.get(&(process.into(), name.into()));
        assert!(long.is_some_and(|long| long.iter().sum::<f64>() > 0.0), "{process} {name}: {spans:?}");
    }
    assert!(!folder.join("trace").exists(), "parts are left");
    run.signal(Signal::INT);
    run.end_well();
}

#[test]
fn a_thread_that_waits_from_before_a_trace_to_after_it_is_seen_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let mut run = Run::start(&folder, &[&SMALL[..], &["--actors", "1"]].concat());
    run.make_steps(1);
    Client::connect(&folder).unwrap().ask(&Request::Pause).unwrap();
    let (ok, text) = lucid(&["trace", folder.to_str().unwrap(), "--seconds", "0.5"]);
    assert!(ok && text.contains("train: wait for steps 100 %"), "{text}");
    let spans = spans(&folder);
    let waited = &spans[&("learner".to_string(), "wait for steps".to_string())];
    assert!(matches!(waited[..], [long] if (long - 5e5).abs() < 1.0), "{waited:?}");
    run.signal(Signal::INT);
    run.end_well();
}
