//! `lucid trace` of a run that goes on.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Run, kill, lucid};

#[test]
fn a_trace_tells_what_threads_of_all_processes_did_and_who_said_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let path = folder.to_str().unwrap();
    let mut run = Run::start(&folder, &["-c", "dummy", "--set", "run.train_ratio=1", "--actors", "3"]);
    run.make_steps(1);
    let (ok, text) = lucid(&["trace", path, "--seconds", "0"]);
    assert!(!ok && text.contains("more than 0"), "{text}");

    let stopped = run.actor(1).unwrap();
    kill(stopped, Signal::STOP);
    let (ok, text) = lucid(&["trace", path, "--seconds", "1"]);
    kill(stopped, Signal::CONT);
    assert!(ok && text.contains("actor-1: has written nothing"), "{text}");

    let trace: Value = serde_json::from_slice(&fs::read(folder.join("trace.json")).unwrap()).unwrap();
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    let mut spans: BTreeMap<(String, String), f64> = BTreeMap::new();
    for event in trace["traceEvents"].as_array().unwrap() {
        let pid = event["pid"].as_u64().unwrap();
        if event["name"] == "process_name" {
            names.insert(pid, event["args"]["name"].as_str().unwrap().into());
        } else if event["ph"] == "X" {
            let key = (names[&pid].clone(), event["name"].as_str().unwrap().to_string());
            *spans.entry(key).or_default() += event["dur"].as_f64().unwrap();
        }
    }
    assert_eq!(names.values().collect::<Vec<_>>().len(), 3);
    for (process, name) in
        [("learner", "update"), ("learner", "backward"), ("actor-0", "policy"), ("actor-2", "policy")]
    {
        assert!(
            spans.get(&(process.into(), name.into())).is_some_and(|time| *time > 0.0),
            "{process} {name}: {spans:?}"
        );
    }
    assert!(!folder.join("trace").exists(), "parts are left");
    run.signal(Signal::INT);
    run.end_well();
}
