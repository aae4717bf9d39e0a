//! Asking a run that goes on: scaling, pausing, checkpoints, options, the end.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use learner::checkpoint::Checkpoints;
use learner::control::{Client, ControlError, Request};
use shared::config::Config;
use shared::metrics::{Phase, Report};

use crate::support::{Run, checkpoint, is_alive, lucid, wait_for};

const SMALL: [&str; 4] = ["-c", "dummy", "--set", "run.train_ratio=1"];

fn start(dir: &Path, more: &[&str]) -> Run {
    let run = Run::start(dir, &[&SMALL[..], more].concat());
    run.make_steps(1);
    run
}

fn ask(run: &Run, request: Request) -> Result<String, ControlError> {
    Client::connect(&run.dir).unwrap().ask(&request)
}

#[test]
fn scaling_up_and_down_loses_no_step_and_leaves_no_process() {
    scale_up_and_down(&[], 10);
}

#[test]
fn scaling_loses_no_step_of_environments_that_step_apart() {
    scale_up_and_down(&["--set", "actor.wait_for=1"], 2);
}

fn scale_up_and_down(more: &[&str], rounds: usize) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let args = ["--actors", "2", "--set", "actor.envs=2", "--set", "replay.size=1000000", "--set", "replay.gib=4"];
    let mut run = start(&folder, &[&args[..], more].concat());
    let mut all = run.actors();
    // Of launcher and learner: open files and sockets, and threads. The first round opens what stays.
    let processes = [run.pid(), run.learner().unwrap()];
    let open =
        || processes.map(|pid| ["fd", "task"].map(|what| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count()));
    let mut first = None;
    for (count, end_of_round) in [(16, false), (1, false), (8, false), (2, true)].repeat(rounds) {
        let said = ask(&run, Request::Scale { actors: count }).unwrap();
        assert_eq!(said, format!("{count} actors"));
        let now = run.actors();
        assert_eq!(now.len(), count);
        all.extend(now);
        let report = run.reports().next().unwrap();
        assert!(report.actors.iter().map(|a| a.index).eq(0..count) && report.actors.iter().all(|a| a.version > 0));
        run.make_steps(20);
        if end_of_round {
            // Threads of actors that have left end a little later.
            let bound = *first.get_or_insert_with(&open);
            wait_for("what one round opened to be closed", || {
                open().as_flattened().iter().zip(bound.as_flattened()).all(|(now, then)| now <= then)
            });
        }
    }
    let said = ask(&run, Request::Stop).unwrap();
    assert!(said.contains("ended in order"), "{said}");
    run.end_well();
    assert!(all.iter().all(|pid| !is_alive(*pid)));
    // The learner compares what each actor says it made with what arrived.
    assert!(!run.output().contains("arrived"), "{}", run.output());
    let cut = checkpoint(&folder);
    let kept: u64 = cut.replay.streams.iter().map(|s| s.next).sum();
    assert_eq!(kept, cut.counters.env_steps);
    assert_eq!(Config::load(&[folder.join("config.toml").to_str().unwrap()], &[] as &[&str]).unwrap().actor.count, 2);
}

#[test]
fn a_paused_run_rests_saves_and_goes_on() {
    for apart in [&[][..], &["--set", "actor.envs=3", "--set", "actor.wait_for=1"]] {
        rests_saves_and_goes_on(&[&["--actors", "2"], apart].concat());
    }
}

fn rests_saves_and_goes_on(args: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let mut run = start(&folder, args);
    run.make_steps(200);
    let said = ask(&run, Request::Pause).unwrap();
    // Chunks that were under way may arrive after the word.
    let mut resting =
        run.reports().filter(|r| r.actors.iter().all(|a| a.waits_for == "resume" && a.steps_per_s == 0.0));
    let first = resting.next().unwrap();
    assert_eq!(first.phase, Phase::Paused);
    assert!(said.contains(&format!("after update {}", first.updates)), "{said} {}", first.updates);
    let third = resting.nth(1).unwrap();
    assert_eq!((third.steps, third.updates), (first.steps, first.updates));
    ask(&run, Request::Scale { actors: 3 }).unwrap();
    let said = ask(&run, Request::Checkpoint).unwrap();
    assert!(said.contains(&format!("update {}", first.updates)), "{said}");
    assert_eq!(Checkpoints::new(&folder, 2).latest().unwrap().unwrap().cut.counters.updates, first.updates);
    ask(&run, Request::Resume).unwrap();
    run.make_steps(200);
    ask(&run, Request::Pause).unwrap();
    // A paused run can be stopped, and what actors hold then is not lost.
    assert!(ask(&run, Request::Stop).is_ok());
    run.end_well();
    assert!(!run.output().contains("arrived"), "{}", run.output());
    assert!(checkpoint(&folder).counters.updates > first.updates);
}

#[test]
fn live_options_change_and_others_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let mut run = start(&folder, &["--actors", "1"]);
    let path = folder.to_str().unwrap();
    let (ok, text) = lucid(&["set", path, "run.train_ratio=2"]);
    assert!(ok && text.contains("changed"), "{text}");
    let saved = || Config::load(&[folder.join("config.toml").to_str().unwrap()], &[] as &[&str]).unwrap();
    assert_eq!(saved().run.train_ratio, 2.0);
    for (set, why) in
        [("agent.opt.lr=1", "cannot change"), ("run.tain_ratio=2", "train_ratio"), ("run.steps=x", "steps")]
    {
        let (ok, text) = lucid(&["set", path, set]);
        assert!(!ok && text.contains(why), "{text}");
    }
    // Twice the old ratio, over more steps than either side may be ahead.
    let replayed =
        |report: &Report| (report.updates as usize * saved().agent.batch_size * saved().agent.batch_length) as f64;
    let before = run.reports().next().unwrap();
    run.make_steps(2000);
    let after = run.reports().next().unwrap();
    let ratio = (replayed(&after) - replayed(&before)) / (after.steps - before.steps) as f64;
    assert!((1.5..2.5).contains(&ratio), "{ratio}");
    let goal = after.steps + 100;
    assert!(lucid(&["set", path, &format!("run.steps={goal}")]).0);
    run.end_well();
    assert!(run.output().contains("reached run.steps"), "{}", run.output());
    assert_eq!(saved().run.steps, goal);
    let (ok, text) = lucid(&["scale", path, "3"]);
    assert!(!ok && text.contains("no run goes on"), "{text}");
}

#[test]
fn socket_and_page_are_the_owners_and_the_socket_survives_nonsense() {
    let dir = tempfile::tempdir().unwrap();
    // Longer than an address of a socket may be.
    let folder = dir.path().join("a".repeat(120)).join("run");
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    let mut run = start(&folder, &["--actors", "1"]);
    let socket = folder.join("control.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let page = folder.join("page.url");
    assert_eq!(fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o600);
    let url = fs::read_to_string(&page).unwrap();
    let secret = url.trim().split_once("/?token=").expect("the secret in the address of the page").1;
    let short = dir.path().join("s");
    std::os::unix::fs::symlink(&folder, &short).unwrap();
    for nonsense in [&b"{\"scale\": {\"actors\": -1}}\n"[..], b"\xff\xfe\n", b"[[[[", &[b'x'; 1 << 23]] {
        let mut stream = UnixStream::connect(short.join("control.sock")).unwrap();
        // A socket that is closed early refuses the rest.
        let _ = stream.write_all(nonsense);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || String::from_utf8_lossy(&answer).contains("refused"));
    }
    assert!(ask(&run, Request::Scale { actors: 0 }).unwrap_err().to_string().contains("at least one"));
    // A watcher that does not read holds nobody up.
    let _asleep = Client::connect(&folder).unwrap().watch().unwrap();
    run.make_steps(200);
    assert!(lucid(&["stop", folder.to_str().unwrap()]).0);
    run.end_well();
    assert!(!socket.exists() && !page.exists());
    assert!(!run.output().contains(secret) && !run.logs().contains(secret), "{}", run.output());
}

#[test]
fn a_stopped_actor_that_is_not_wanted_is_ended_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(&dir.path().join("run"), &["--actors", "3", "--set", "sync.join_timeout=3"]);
    let pid = run.actor(2).unwrap();
    crate::support::kill(pid, rustix::process::Signal::STOP);
    ask(&run, Request::Scale { actors: 2 }).unwrap();
    wait_for("the stopped actor to be gone", || !is_alive(pid));
    ask(&run, Request::Stop).unwrap();
    run.end_well();
}
