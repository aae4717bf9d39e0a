//! A run that is hurt at random, again and again: after each fault it goes on, or ends with a clear message and is resumed.
//!
//! LUCID_CHAOS_SECONDS (60) and LUCID_CHAOS_SEED (1) say how long and with which faults; LUCID_CHAOS_REPORT names a file for what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use learner::control::{Client, Word};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rustix::process::{Pid, Signal, kill_process};
use shared::metrics::Report;

use crate::python::python;
use crate::support::{Run, checkpoint, children, flat, is_alive, lucid, versions, wait_for, wait_within};

/// How long a run may take to go on after a fault.
const PATIENCE: Duration = Duration::from_secs(100);
/// Size of the disk that is filled.
const DISK: &str = "96m";

/// Processes of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Launcher,
    Learner,
    Actor,
    Evaluator,
    Environment,
}

const ANY: [Who; 5] = [Who::Launcher, Who::Learner, Who::Actor, Who::Evaluator, Who::Environment];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// SIGKILL.
    Kill(Who),
    /// SIGKILL to every process at once.
    KillAll,
    /// SIGSTOP, and SIGCONT later.
    Stop(Who),
    /// Stopped and continued many times.
    Slow(Who),
    /// More threads that compute than there are cores.
    Starve,
    FillDisk,
    /// The newest checkpoint is deleted, then the learner killed.
    TakeCheckpoint,
    /// Everything is killed and a file of replay cut short.
    CutReplay,
    /// Nonsense, long lines, and watchers that do not read.
    Flood,
    Scale,
    Checkpoint,
    /// Ctrl-C, and resumed.
    Interrupt,
}

impl Fault {
    fn draw(random: &mut Xoshiro256PlusPlus, disk: bool) -> Self {
        let who = ANY[random.random_range(0..ANY.len())];
        match random.random_range(0..20) {
            0..6 => Self::Kill(who),
            6 => Self::KillAll,
            7..10 => Self::Stop(who),
            10..12 => Self::Slow(who),
            12 => Self::Starve,
            13 if disk => Self::FillDisk,
            14 => Self::TakeCheckpoint,
            15 => Self::CutReplay,
            16 => Self::Flood,
            17 => Self::Scale,
            18 => Self::Checkpoint,
            19 => Self::Interrupt,
            _ => Self::Kill(Who::Learner),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Kill(who) => format!("kill the {who:?}").to_lowercase(),
            Self::Stop(who) => format!("stop the {who:?} for a while").to_lowercase(),
            Self::Slow(who) => format!("slow the {who:?}").to_lowercase(),
            Self::KillAll => "kill all processes".into(),
            Self::Starve => "starve all of processor time".into(),
            Self::FillDisk => "fill the disk".into(),
            Self::TakeCheckpoint => "delete the newest checkpoint, kill the learner".into(),
            Self::CutReplay => "kill all, cut a file of replay".into(),
            Self::Flood => "flood the control socket".into(),
            Self::Scale => "scale".into(),
            Self::Checkpoint => "ask for a checkpoint".into(),
            Self::Interrupt => "Ctrl-C".into(),
        }
    }
}

/// What reports have said, over all launchers and learners.
#[derive(Default)]
pub struct Seen {
    pub steps: u64,
    pub version: u64,
    /// Of each actor's process.
    held: BTreeMap<u32, u64>,
    pub last: Option<(Instant, Report)>,
    /// Updates and steps that came on top since this was last set to zero.
    pub progress: [u64; 2],
    pub violations: Vec<String>,
}

impl Seen {
    fn look(&mut self, report: Report) {
        let Report { steps, version, .. } = report;
        if steps < self.steps {
            self.violations.push(format!("steps went back from {} to {steps}", self.steps));
        }
        if version < self.version {
            self.violations.push(format!("the version went back from {} to {version}", self.version));
        }
        for actor in report.actors.iter().filter(|actor| actor.version > 0) {
            let held = self.held.entry(actor.pid).or_default();
            if actor.version < *held {
                let (pid, now) = (actor.pid, actor.version);
                self.violations.push(format!("process {pid} went back from version {held} to {now}"));
            }
            *held = actor.version;
        }
        if let Some((_, last)) = &self.last {
            self.progress[0] += report.updates.saturating_sub(last.updates);
            self.progress[1] += report.steps.saturating_sub(last.steps);
        }
        (self.steps, self.version) = (steps, version);
        self.last = Some((Instant::now(), report));
    }

    /// Steps may have been lost by what was done to the files: what comes next is taken as it is.
    fn forget(&mut self) {
        *self = Self { violations: std::mem::take(&mut self.violations), ..Self::default() };
    }
}

/// A file system of its own in a folder; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// None where this user may not mount one.
    fn mount(folder: &Path) -> Option<Self> {
        let options = ["-t", "tmpfs", "-o", &format!("size={DISK}"), "lucid-chaos"];
        let mounted = Command::new("mount").args(options).arg(folder).output().is_ok_and(|done| done.status.success());
        mounted.then(|| Self(folder.to_path_buf()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

struct Chaos {
    random: Xoshiro256PlusPlus,
    folder: PathBuf,
    /// For doors and the like; nothing may be left in it.
    temporary: PathBuf,
    disk: Option<Disk>,
    run: Run,
    actors: usize,
    seen: Arc<Mutex<Seen>>,
    /// Of each fault, how long it took to go on, seconds.
    taken: BTreeMap<String, Vec<f64>>,
    /// How runs ended that were not asked to.
    ends: BTreeMap<String, usize>,
    resumed: usize,
    /// Dropped last.
    _base: tempfile::TempDir,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let base = tempfile::tempdir().unwrap();
        let [disk, temporary] = ["disk", "temporary"].map(|name| base.path().join(name));
        [&disk, &temporary].into_iter().for_each(|folder| fs::create_dir(folder).unwrap());
        let mounted = Disk::mount(&disk);
        if mounted.is_none() {
            println!("no small disk can be mounted here: none is filled");
        }
        let folder = disk.join("run");
        let sets = [
            "env.task=gymnasium:CartPole-v1",
            &format!("env.python={}", python()),
            "env.max_restarts=1000",
            "env.timeout=20",
            "actor.envs=2",
            "actor.max_restarts=1000",
            "run.train_ratio=1",
            "replay.size=5000",
            "checkpoint.every=2",
            "eval.every=3000",
            "eval.episodes=2",
            "log.every=2",
            "log.report_every=20",
            "web.enabled=true",
        ];
        let args: Vec<&str> =
            ["-c", "dummy", "--actors", "2"].into_iter().chain(sets.iter().flat_map(|set| ["--set", set])).collect();
        let run = Run::start_with(&folder, &args, &[("TMPDIR", &temporary)]);
        let (random, seen) = (Xoshiro256PlusPlus::seed_from_u64(seed), Arc::default());
        let (taken, ends) = Default::default();
        let chaos = Self {
            random,
            folder,
            temporary,
            disk: mounted,
            run,
            actors: 2,
            seen,
            taken,
            ends,
            resumed: 0,
            _base: base,
        };
        listen(&chaos.seen, &chaos.run);
        chaos
    }

    fn resume(&mut self, more: &[&str]) {
        self.resumed += 1;
        self.run = Run::start_with(&self.folder, more, &[("TMPDIR", &self.temporary)]);
        listen(&self.seen, &self.run);
    }

    fn find(&mut self, who: Who) -> Option<u32> {
        let launcher = self.run.pid();
        let of = |word: &str| {
            let all = children(launcher).into_iter();
            all.filter(|(_, args)| args.get(1).is_some_and(|arg| arg == word)).map(|(pid, _)| pid).collect::<Vec<_>>()
        };
        let found = match who {
            Who::Launcher => vec![launcher],
            Who::Learner => of("learner"),
            Who::Actor => of("actor"),
            Who::Evaluator => of("evaluator"),
            Who::Environment => of("actor").into_iter().flat_map(children).map(|(pid, _)| pid).collect(),
        };
        (!found.is_empty()).then(|| found[self.random.random_range(0..found.len())])
    }

    /// Seconds between these.
    fn while_of(&mut self, least: f64, most: f64) -> Duration {
        Duration::from_secs_f64(self.random.random_range(least..most))
    }

    /// Whether the run goes on by itself: false if it has to be resumed.
    fn harm(&mut self, fault: Fault) -> bool {
        match fault {
            Fault::Kill(who) => {
                if let Some(pid) = self.find(who) {
                    signal(pid, Signal::KILL);
                }
                who != Who::Launcher
            }
            Fault::KillAll => {
                self.kill_all();
                false
            }
            Fault::Stop(who) => {
                let rest = self.while_of(0.1, 5.0);
                if let Some(pid) = self.find(who) {
                    signal(pid, Signal::STOP);
                    pause(rest);
                    signal(pid, Signal::CONT);
                }
                true
            }
            Fault::Slow(who) => {
                if let Some(pid) = self.find(who) {
                    for _ in 0..30 {
                        signal(pid, Signal::STOP);
                        pause(Duration::from_millis(80));
                        signal(pid, Signal::CONT);
                        pause(Duration::from_millis(20));
                    }
                }
                true
            }
            Fault::Starve => {
                let (until, cores) = (Instant::now() + self.while_of(1.0, 4.0), thread::available_parallelism());
                let busy = move || while Instant::now() < until {};
                let threads: Vec<_> = (0..4 * cores.map_or(2, usize::from)).map(|_| thread::spawn(busy)).collect();
                threads.into_iter().for_each(|thread| thread.join().unwrap());
                true
            }
            Fault::FillDisk => {
                self.fill_disk();
                true
            }
            Fault::TakeCheckpoint => {
                let mut complete: Vec<_> = entries(&self.folder.join("checkpoints"));
                complete.retain(|path| path.extension().is_none());
                complete.sort();
                if complete.len() > 1 {
                    // The learner may be deleting older ones meanwhile, but not this.
                    fs::remove_dir_all(complete.pop().unwrap()).unwrap();
                }
                self.harm(Fault::Kill(Who::Learner))
            }
            Fault::CutReplay => {
                self.kill_all();
                let files = entries(&self.folder.join("replay"));
                if !files.is_empty() {
                    let file =
                        File::options().write(true).open(&files[self.random.random_range(0..files.len())]).unwrap();
                    let length = file.metadata().unwrap().len();
                    file.set_len(self.random.random_range(0..=length)).unwrap();
                }
                // Whatever was in it is lost.
                self.seen.lock().forget();
                false
            }
            Fault::Flood => {
                flood(&self.folder);
                true
            }
            Fault::Scale => {
                let count = self.random.random_range(1..5);
                if lucid(&["scale", self.folder.to_str().unwrap(), &count.to_string()]).0 {
                    self.actors = count;
                }
                true
            }
            Fault::Checkpoint => {
                let (ok, text) = lucid(&["checkpoint", self.folder.to_str().unwrap()]);
                assert!(ok, "{text}");
                true
            }
            Fault::Interrupt => {
                self.run.signal(Signal::INT);
                self.run.end_well();
                false
            }
        }
    }

    /// While the disk is full, steps are only in memory, as warnings say.
    fn fill_disk(&mut self) {
        let ballast = self.folder.with_file_name("ballast");
        let mut file = File::create(&ballast).unwrap();
        let block = vec![1; 1 << 16];
        while file.write_all(&block).is_ok() {}
        pause(self.while_of(2.0, 5.0));
        drop(file);
        fs::remove_file(&ballast).unwrap();
        // From here on everything is on disk again, also for who goes on from the checkpoint before the newest.
        for _ in 0..2 {
            let saved = || lucid(&["checkpoint", self.folder.to_str().unwrap()]).0 || !is_alive(self.run.pid());
            wait_for("a checkpoint after the disk was full", saved);
        }
    }

    fn kill_all(&mut self) {
        let launcher = self.run.pid();
        let mut all = vec![launcher];
        let below: Vec<u32> = children(launcher).into_iter().map(|(pid, _)| pid).collect();
        all.extend(below.iter().flat_map(|pid| children(*pid)).map(|(pid, _)| pid));
        all.extend(below);
        // Stopped first, so that none sees another one die.
        all.iter().for_each(|pid| signal(*pid, Signal::STOP));
        all.iter().for_each(|pid| signal(*pid, Signal::KILL));
        self.run.end();
        wait_within(PATIENCE, "killed processes to end", &mut || all.iter().all(|pid| !is_alive(*pid)));
    }

    /// Until updates and steps are made again and all actors are there.
    fn go_on(&mut self, mut runs: bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut since = Instant::now();
        self.seen.lock().progress = [0; 2];
        loop {
            if runs && let Some(status) = self.run.ended() {
                let text = self.run.output();
                let why = clear_end(&text).unwrap_or_else(|| panic!("ended without a clear message: {status}\n{text}"));
                *self.ends.entry(why.into()).or_default() += 1;
                // What a full disk or a damaged file has cost is told.
                self.seen.lock().forget();
                runs = false;
            }
            if !runs {
                wait_within(PATIENCE, "what is left of the last run to end", &mut || {
                    strays(&self.temporary).is_empty()
                });
                let damaged = flat(&self.run.output()).contains("--drop-damaged-replay");
                self.resume(if damaged { &["--drop-damaged-replay"] } else { &[] });
                (runs, since) = (true, Instant::now());
            }
            let seen = self.seen.lock();
            assert!(seen.violations.is_empty(), "{:#?}\n{}{}", seen.violations, self.run.output(), self.run.logs());
            let complete = |report: &Report| {
                let there = report.actors.iter().filter(|actor| actor.version > 0 && actor.silent < 5.0);
                there.count() == self.actors && report.actors.len() == self.actors
            };
            let whole = seen.last.as_ref().is_some_and(|(at, report)| *at > since && complete(report));
            if whole && seen.progress.iter().all(|more| *more > 1) {
                return;
            }
            let state = seen.last.as_ref().map(|(at, report)| (at.elapsed(), report.clone()));
            drop(seen);
            assert!(Instant::now() < deadline, "{state:#?}\n{}{}", self.run.output(), self.run.logs());
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn report(&self, seed: u64, elapsed: Duration) -> String {
        let mut text = String::new();
        let faults: usize = self.taken.values().map(Vec::len).sum();
        let seen = self.seen.lock();
        let _ = writeln!(
            text,
            "Seed {seed}, {:.0} minutes, {faults} faults, {} resumes; {} steps and version {} at the end.\n",
            elapsed.as_secs_f64() / 60.0,
            self.resumed,
            seen.steps,
            seen.version
        );
        text += &table(&self.taken);
        for (why, times) in &self.ends {
            let _ = writeln!(text, "\nEnded with a clear message and was resumed, {times} times: {why}.");
        }
        text
    }

    /// The end in order, and nothing left.
    fn end(mut self, shared_memory: &BTreeSet<PathBuf>) {
        self.run.signal(Signal::INT);
        self.run.end_well();
        // Files that were cut leave holes.
        check_replay(&self.folder, self.ends.keys().any(|why| why.contains("damaged")));
        wait_within(PATIENCE, "all processes to be gone", &mut || strays(&self.temporary).is_empty());
        assert_eq!(entries(&self.temporary), [] as [PathBuf; 0], "temporary files are left");
        // Other tests have some for a while.
        let left = || entries("/dev/shm".as_ref()).into_iter().find(|path| !shared_memory.contains(path));
        wait_within(PATIENCE, "shared memory to be gone", &mut || left().is_none());
        for folder in [self.folder.clone(), self.folder.join("checkpoints")] {
            let unfinished = |path: &&PathBuf| path.extension().is_some_and(|e| e == "tmp" || e == "sock");
            assert_eq!(entries(&folder).iter().find(unfinished), None);
        }
    }
}

/// Hear every report of the launcher that runs now, from a thread that ends with it.
pub fn listen(seen: &Arc<Mutex<Seen>>, run: &Run) {
    let (seen, folder, pid) = (seen.clone(), run.dir.clone(), run.pid());
    thread::spawn(move || {
        while is_alive(pid) {
            if let Ok(words) = Client::connect(&folder).and_then(Client::watch) {
                for word in words.map_while(Result::ok) {
                    if let Word::Report(report) = word {
                        seen.lock().look(*report);
                    }
                }
            }
            thread::park_timeout(Duration::from_millis(50));
        }
    });
}

/// Of each fault, how often it came, and how many seconds it took to go on.
pub fn table(taken: &BTreeMap<String, Vec<f64>>) -> String {
    let row = |(name, seconds): (&String, &Vec<f64>)| {
        let mut sorted = seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let (median, most) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
        format!("| {name} | {} | {median:.1} s | {most:.1} s |\n", sorted.len())
    };
    let rows: String = taken.iter().map(row).collect();
    format!("| fault | times | until it went on: median | most |\n| --- | --- | --- | --- |\n{rows}")
}

/// Every step that was counted is in replay once, in order, in the last checkpoint of a run.
pub fn check_replay(folder: &Path, holes: bool) {
    let cut = checkpoint(folder);
    assert_eq!(cut.replay.inserted, cut.counters.env_steps, "every step that was counted came into replay");
    for stream in &cut.replay.streams {
        let whole = stream.blocks.windows(2).all(|pair| pair[0].first + pair[0].len as u64 == pair[1].first);
        let end = stream.blocks.last().map(|block| block.first + block.len as u64);
        assert!(whole || holes, "{stream:?}");
        assert!(end.is_none_or(|end| end <= stream.next));
    }
    let fresh: Vec<_> = cut.replay.online.iter().flat_map(|run| run.start..run.start + run.count).collect();
    let streams = cut.replay.online.iter().flat_map(|run| std::iter::repeat_n(run.stream, run.count as usize));
    let distinct: BTreeSet<_> = streams.zip(&fresh).collect();
    assert_eq!(distinct.len(), fresh.len(), "no step waits twice to be trained on as new");
    assert!(versions(folder, &cut).values().all(|versions| versions.is_sorted()), "versions only rise");
}

/// What a run says that ended without having been asked to, if it is one of what it should say.
fn clear_end(text: &str) -> Option<&'static str> {
    let text = flat(text);
    let known = [
        ("--drop-damaged-replay", "a file of replay was damaged"),
        ("Nospaceleftondevice", "the disk was full"),
        ("thelearnerended", "the learner died too often within a minute"),
    ];
    known.into_iter().find(|(said, _)| text.contains(said)).map(|(_, why)| why)
}

pub fn signal(pid: u32, signal: Signal) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), signal);
}

/// This is what is done to a process, and no waiting for something.
pub fn pause(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Processes that have this folder for temporary files.
fn strays(temporary: &Path) -> Vec<u32> {
    let mark = format!("TMPDIR={}\0", temporary.display());
    let pids = entries("/proc".as_ref()).into_iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok());
    let ours = |pid: &u32| {
        let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&variables).contains(&mark)
    };
    pids.filter(ours).filter(|pid| is_alive(*pid)).collect()
}

/// From several threads, for two seconds.
fn flood(folder: &Path) {
    let until = Instant::now() + Duration::from_secs(2);
    let one = |index: usize| {
        let socket = folder.join("control.sock");
        let mut asleep = Vec::new();
        while Instant::now() < until {
            let Ok(mut stream) = std::os::unix::net::UnixStream::connect(&socket) else { continue };
            let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
            let _ = match index % 3 {
                0 => stream.write_all(&vec![b'['; 1 << 20]),
                1 => stream.write_all(b"{\"scale\":{\"actors\":-1}}\n\xff\xfe\n"),
                _ => stream.write_all(b"\"watch\"\n"),
            };
            match index % 3 {
                2 if asleep.len() < 20 => asleep.push(stream),
                _ => drop(stream.read(&mut [0; 64])),
            }
        }
    };
    thread::scope(|scope| {
        (0..6).for_each(|index| drop(scope.spawn(move || one(index))));
    });
}

pub fn variable(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is {text}")))
}

#[test]
fn whatever_is_killed_stopped_filled_or_cut_a_run_goes_on_and_loses_nothing_that_was_counted() {
    let (seconds, seed) = (variable("LUCID_CHAOS_SECONDS", 60), variable("LUCID_CHAOS_SEED", 1));
    let shared_memory: BTreeSet<PathBuf> = entries("/dev/shm".as_ref()).into_iter().collect();
    let mut chaos = Chaos::new(seed);
    chaos.go_on(true);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        let fault = Fault::draw(&mut chaos.random, chaos.disk.is_some());
        println!("{:7.1} s: {}", begun.elapsed().as_secs_f64(), fault.name());
        let runs = chaos.harm(fault);
        let harmed = Instant::now();
        chaos.go_on(runs);
        chaos.taken.entry(fault.name()).or_default().push(harmed.elapsed().as_secs_f64());
    }
    let text = chaos.report(seed, begun.elapsed());
    println!("{text}");
    if let Ok(path) = std::env::var("LUCID_CHAOS_REPORT") {
        fs::write(path, &text).unwrap();
    }
    chaos.end(&shared_memory);
}
