//! Actors on other hosts: they join, act, lose their way and find it again; strangers stay outside.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use shared::metrics::Report;

use crate::browser::{address, fits};
use crate::chromium::browser;
use crate::support::{Run, checkpoint, children, is_alive, kill, lucid, wait_for};

/// An address where nobody listens, for TCP as for UDP.
pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A file that admits a host of this name to a run.
pub fn token(run: &Path, name: &str, path: &Path) -> PathBuf {
    let [run, out] = [run, path].map(|path| path.to_str().unwrap());
    let (ok, text) = lucid(&["host", "token", run, "--name", name, "--out", out]);
    assert!(ok, "{text}");
    path.to_path_buf()
}

/// A run that other hosts can join, on any free port.
struct Setup {
    folder: tempfile::TempDir,
    run: Run,
    address: String,
}

/// A relay with its actors.
struct Relay {
    child: Child,
    output: PathBuf,
}

impl Setup {
    fn new(sets: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_port().to_string();
        let listen = format!("hosts.listen={address}");
        let all = ["-c", "dummy", "--actors", "1", "--set", "run.train_ratio=4", "--set", &listen];
        let more = sets.iter().flat_map(|set| ["--set", set]);
        let run = Run::start(&folder.path().join("run"), &all.into_iter().chain(more).collect::<Vec<_>>());
        run.make_steps(50);
        Self { folder, run, address }
    }

    fn token(&self, name: &str) -> PathBuf {
        token(&self.run.dir, name, &self.folder.path().join(format!("{name}.token")))
    }

    fn relay(&self, token: &Path, args: &[&str]) -> Relay {
        let output = token.with_extension("out");
        let file = File::options().create(true).append(true).open(&output).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_lucid"))
            .args(["host", "--token", token.to_str().unwrap(), "--join", &self.address, "--folder"])
            .arg(token.with_extension("folder"))
            .args(args)
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Relay { child, output }
    }

    /// Wait until so many actors of a host act with a snapshot, and make steps.
    fn acting(&self, host: &str, count: usize) -> Report {
        let acts = |report: &Report| {
            report.actors_on(Some(host)).filter(|actor| actor.version > 0 && actor.steps > 0).count() == count
        };
        self.run.report(acts)
    }
}

impl Relay {
    fn actors(&self) -> Vec<u32> {
        children(self.child.id()).into_iter().map(|(pid, _)| pid).collect()
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn actors_of_another_host_act_and_end_with_the_run() {
    let mut setup = Setup::new(&[]);
    let mut relay = setup.relay(&setup.token("far"), &["--actors", "2"]);
    let report = setup.acting("far", 2);
    assert!(
        report.hosts.iter().any(|host| host.name == "far" && host.sent > 0 && host.received > 0),
        "{:?}",
        report.hosts
    );
    assert_eq!(relay.actors().len(), 2);
    setup.run.make_steps(200);
    // Round trips are measured also while there is always something else to say.
    let measured = |report: &Report| report.hosts[0].round_trip_ms;
    let first = measured(&setup.run.report(|report| measured(report) > 0.0));
    setup.run.report(|report| measured(report) != first);
    let (ok, text) = lucid(&["trace", setup.run.dir.to_str().unwrap(), "--seconds", "0.3"]);
    assert!(ok && text.contains("actor-0") && !text.contains("actor-1"), "only what is here is recorded: {text}");
    setup.run.signal(Signal::INT);
    setup.run.end_well();
    wait_for("the relay to end", || relay.child.try_wait().unwrap().is_some());
    assert!(relay.child.wait().unwrap().success(), "{}", relay.said());
    assert!(checkpoint(&setup.run.dir).counters.env_steps > 200);
    let warnings = setup.run.output();
    assert!(!warnings.contains("arrived"), "no step is missing: {warnings}");
}

#[test]
fn a_relay_that_is_killed_comes_back_and_a_learner_that_dies_is_followed() {
    let mut setup = Setup::new(&[]);
    let token = setup.token("far");
    let relay = setup.relay(&token, &["--actors", "2"]);
    setup.acting("far", 2);
    let actors = relay.actors();
    drop(relay);
    wait_for("its actors to end with it", || actors.iter().all(|pid| !is_alive(*pid)));
    let relay = setup.relay(&token, &["--actors", "2"]);
    setup.run.report(|report| {
        let pids = relay.actors();
        report.actors.iter().filter(|actor| actor.version > 0 && pids.contains(&actor.pid)).count() == 2
    });
    let (actors, learner) = (relay.actors(), setup.run.learner().unwrap());
    kill(learner, Signal::KILL);
    wait_for("another learner", || setup.run.learner().is_some_and(|pid| pid != learner));
    setup.acting("far", 2);
    assert_eq!(relay.actors(), actors, "the same processes go on");
    setup.run.signal(Signal::INT);
    setup.run.end_well();
}

#[test]
fn a_host_that_leaves_sends_what_it_has() {
    let mut setup = Setup::new(&[]);
    let mut relay = setup.relay(&setup.token("far"), &["--actors", "2"]);
    setup.acting("far", 2);
    kill(relay.child.id(), Signal::INT);
    wait_for("the relay to end", || relay.child.try_wait().unwrap().is_some());
    assert!(relay.child.wait().unwrap().success(), "{}", relay.said());
    setup.run.report(|report| report.hosts.is_empty() && report.actors.iter().all(|actor| actor.host.is_none()));
    setup.run.signal(Signal::INT);
    setup.run.end_well();
    let text = setup.run.output();
    assert!(!text.contains("arrived"), "no step is missing: {text}");
    assert!(text.contains("host far has left") && !text.contains("away"), "nobody waits for it: {text}");
}

#[test]
fn other_hosts_are_seen_on_the_page_and_in_metrics() {
    let Some(mut page) = browser() else { return };
    let mut setup = Setup::new(&["web.enabled=true"]);
    let far = setup.token("far");
    let relay = setup.relay(&far, &["--actors", "3"]);
    setup.acting("far", 3);
    page.open(&address(&setup.run).unwrap());
    let cell = |number: usize| format!("document.querySelector('#hosts td:nth-child({number})')?.textContent");
    page.wait(&format!("{} === 'far' && {} === '3'", cell(1), cell(3)));
    page.wait(&format!("{} === 'takes part' && !document.getElementById('others').hidden", cell(2)));
    page.wait("document.getElementById('count').value === '1'");
    fits(&mut page, "hosts");
    drop(relay);
    page.wait(&format!("{}.startsWith('away for')", cell(2)));
    setup.run.signal(Signal::INT);
    setup.run.end_well();
}

#[test]
fn of_two_hosts_with_one_name_the_newer_stays() {
    let mut setup = Setup::new(&[]);
    let token = setup.token("far");
    let mut older = setup.relay(&token, &[]);
    setup.acting("far", 1);
    let newer = setup.relay(&token, &["--actors", "2"]);
    wait_for("the older one to end", || older.child.try_wait().unwrap().is_some());
    assert!(older.said().contains("another host has come as far"), "{}", older.said());
    setup.run.report(|report| {
        let pids = newer.actors();
        report.actors.iter().filter(|actor| actor.version > 0 && pids.contains(&actor.pid)).count() == 2
    });
    setup.run.signal(Signal::INT);
    setup.run.end_well();
}

/// `lucid launch` with a stand-in for ssh, which runs what it is told on this machine.
#[test]
fn a_run_is_launched_on_hosts_and_what_ends_there_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("ssh"), "echo to $1 >> \"$0.log\"; shift; exec sh -c \"$*\"\n").unwrap();
    let host = |name: &str, actors: usize| {
        let (lucid, folder) = (env!("CARGO_BIN_EXE_lucid"), at(name));
        format!(
            "[[host]]\nname = {name:?}\nssh = \"me@{name}\"\nactors = {actors}\nlucid = {lucid:?}\nfolder = {folder:?}\n"
        )
    };
    let ways = format!("join = \"{}\"\nssh = [\"sh\", {:?}]\n", free_port(), at("ssh"));
    fs::write(at("hosts.toml"), format!("{ways}{}{}", host("near", 1), host("far", 2))).unwrap();
    let hosts = at("hosts.toml");
    let args = ["--hosts", hosts.to_str().unwrap(), "-c", "dummy", "--actors", "1", "--set", "run.train_ratio=4"];
    let mut run = Run::start_as("launch", Command::new(env!("CARGO_BIN_EXE_lucid")), &at("run"), &args, &[]);
    run.make_steps(50);
    let all = |report: &Report| {
        let of = |name| report.actors_on(Some(name)).filter(|actor| actor.version > 0 && is_alive(actor.pid)).count();
        [of("near"), of("far")] == [1, 2]
    };
    run.report(all);
    let is_host = |args: &[String]| args.get(1).is_some_and(|arg| arg == "host");
    let hosts = || children(run.pid()).into_iter().filter(|(_, args)| is_host(args)).map(|(pid, _)| pid);
    let before: Vec<u32> = hosts().collect();
    assert_eq!(before.len(), 2);
    kill(before[0], Signal::KILL);
    wait_for("the host to be started again", || hosts().any(|pid| !before.contains(&pid)));
    run.report(all);
    let hosts: Vec<u32> = hosts().collect();
    run.signal(Signal::INT);
    run.end_well();
    assert!(hosts.iter().all(|pid| !is_alive(*pid)), "hosts end with the run");
    let told = fs::read_to_string(at("ssh.log")).unwrap();
    assert!(told.contains("to me@near") && told.contains("to me@far"), "{told}");
    assert_eq!(fs::read_to_string(at("run/logs/host-far.log")).unwrap().matches("ended: the run has ended").count(), 1);
}

#[test]
fn strangers_neither_join_nor_hear_anything() {
    let mut setup = Setup::new(&[]);
    let other = Setup::new(&[]);
    // Of another run: its certificate is of another authority.
    let foreign = setup.relay(&other.token("foreign"), &[]);
    // Without encryption.
    let plain = setup.relay(&setup.token("plain"), &["--plain"]);
    // One that came later than they did is let in.
    let welcome = setup.relay(&setup.token("far"), &[]);
    let report = setup.acting("far", 1);
    assert!(report.hosts.len() == 1 && report.actors.len() == 2, "{report:?}");
    setup.run.make_steps(200);
    for relay in [&foreign, &plain] {
        wait_for("the stranger to be told why it may be", || relay.said().contains("is the token of this run"));
        assert!(relay.actors().is_empty() && !relay.said().contains("is part of the run"), "{}", relay.said());
    }
    assert!(welcome.said().contains("far is part of the run"));
    setup.run.signal(Signal::INT);
    setup.run.end_well();
}

#[test]
fn a_secret_that_is_not_the_runs_is_refused_and_told_also_without_encryption() {
    let mut setup = Setup::new(&["hosts.secure=false"]);
    let token = setup.token("far");
    let text = fs::read_to_string(&token).unwrap();
    let guess = text.lines().map(|line| if line.starts_with("secret") { "secret = \"guess\"" } else { line });
    fs::write(&token, guess.collect::<Vec<_>>().join("\n")).unwrap();
    let mut relay = setup.relay(&token, &["--plain"]);
    wait_for("the relay to be refused", || relay.child.try_wait().unwrap().is_some());
    assert!(!relay.child.wait().unwrap().success() && relay.said().contains("secret"), "{}", relay.said());
    wait_for("the run to tell of it", || setup.run.output().contains("host far: it does not have the run's secret"));
    setup.run.signal(Signal::INT);
    setup.run.end_well();
}
