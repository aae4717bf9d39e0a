//! Memory stays what it is, however many snapshots are published: with a slow actor, and with one that takes none at all.
//!
//! LUCID_PUBLISHES (10,000) says how many.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::Signal;
use shared::metrics::Report;

use crate::support::{Run, children, kill, wait_within};

/// What a process has: descriptors, mappings, resident memory in KiB.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    mappings: usize,
    resident: usize,
}

/// Of a process; none if it has just ended.
fn held(pid: u32) -> Option<Held> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches(" kB").trim().parse::<usize>().ok()
    };
    Some(Held {
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
        mappings: fs::read_to_string(format!("/proc/{pid}/maps")).ok()?.lines().count(),
        // Without pages of the program's file, of which the system maps more or fewer.
        resident: kib("RssAnon")? + kib("RssShmem")?,
    })
}

/// What each process held, in reports until so many versions are published: of each figure, the smallest first.
fn held_until(run: &Run, reports: impl Iterator<Item = Report>, version: u64) -> BTreeMap<u32, [Vec<usize>; 3]> {
    let mut seen = BTreeMap::<u32, [Vec<usize>; 3]>::new();
    for report in reports {
        let processes = children(run.pid()).into_iter().map(|(pid, _)| pid).chain([run.pid()]);
        for (pid, now) in processes.filter_map(|pid| Some((pid, held(pid)?))) {
            let figures = seen.entry(pid).or_default();
            figures.iter_mut().zip([now.descriptors, now.mappings, now.resident]).for_each(|(all, one)| all.push(one));
        }
        if report.version >= version {
            break;
        }
    }
    seen.values_mut().flatten().for_each(|figures| figures.sort_unstable());
    seen
}

/// Of each figure the one at this rank, from the smallest on, given how many there are.
fn ranked(figures: &[Vec<usize>; 3], rank: impl Fn(usize) -> usize) -> Held {
    let [descriptors, mappings, resident] = figures.each_ref().map(|all| all[rank(all.len())]);
    Held { descriptors, mappings, resident }
}

/// A process gets a tenth of its time, until this is done.
fn slow_down(pid: u32, done: Arc<AtomicBool>) -> JoinHandle<()> {
    thread::spawn(move || {
        while !done.load(Ordering::Acquire) {
            for (signal, time) in [(Signal::STOP, 90), (Signal::CONT, 10)] {
                kill(pid, signal);
                thread::park_timeout(Duration::from_millis(time));
            }
        }
    })
}

#[test]
fn thousands_of_snapshots_for_eight_actors_of_which_one_is_slow_and_one_stopped_take_no_memory() {
    let publishes: u64 = std::env::var("LUCID_PUBLISHES").map_or(10_000, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    // An update a step, a replay that its bytes bound and that is full at once, and with 100,000 snapshots as many checkpoints, records and
    // predictions as a day has with the default options.
    let sets = [
        "run.train_ratio=32",
        "replay.gib=0.01",
        "sync.silence_timeout=1000000",
        "checkpoint.every=5",
        "log.every=0.1",
        "log.report_every=5",
    ];
    let args = ["-c", "dummy", "--actors", "8"].into_iter().chain(sets.iter().flat_map(|set| ["--set", set]));
    let mut run = Run::start(&dir.path().join("run"), &args.collect::<Vec<_>>());
    run.report(|report| report.actors.iter().filter(|actor| actor.version > 0).count() == 8);
    let [slow, stopped] = [6, 7].map(|actor| run.actor(actor).expect("it runs"));
    kill(stopped, Signal::STOP);
    let done = Arc::new(AtomicBool::new(false));
    let slowing = slow_down(slow, done.clone());
    let processes = children(run.pid()).len();
    // By one connection: what threads of another one need stays for the next.
    let mut reports = run.reports();
    held_until(&run, &mut reports, publishes / 4);
    let early = held_until(&run, &mut reports, publishes / 2);
    held_until(&run, &mut reports, 3 * publishes / 4);
    let late = held_until(&run, reports, publishes);
    done.store(true, Ordering::Release);
    slowing.join().unwrap();
    kill(stopped, Signal::CONT);
    assert_eq!(children(run.pid()).len(), processes, "{}", run.output());
    let (learner, launcher) = (run.learner().unwrap(), run.pid());
    for (pid, then) in early {
        // What it held typically, and what it holds at least: an update or a checkpoint needs more for a moment, how much more by chance.
        let (then, now) = (ranked(&then, |count| count / 2), ranked(&late[&pid], |_| 0));
        println!("process {pid}: {then:?}, later {now:?}");
        // Two in a hundred, and a few pages for a process that is small.
        let flat = now.resident <= then.resident + (then.resident / 50).max(512);
        let same = now.descriptors <= then.descriptors && now.mappings <= then.mappings + then.mappings / 50;
        assert!(flat && same, "process {pid} (launcher {launcher}, learner {learner}): {then:?} became {now:?}");
    }
    let replay = run.reports().next().unwrap().replay;
    assert!(replay.steps < replay.cap && replay.bytes <= replay.cap_bytes, "{replay:?}");
    assert!(replay.bytes > replay.cap_bytes / 2, "it is full: {replay:?}");
    // It takes the newest at once, and none of those that it missed.
    wait_within(Duration::from_secs(60), "the stopped actor to catch up", &mut || {
        let report = run.reports().next();
        report.is_some_and(|r| r.actors.iter().any(|actor| actor.pid == stopped && actor.version > publishes))
    });
    run.signal(Signal::INT);
    run.end_well();
}
