//! Starting the binary, waiting for things with a deadline, and looking into run folders.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use learner::checkpoint::{Checkpoints, Cut};
use learner::control::{Client, Word};
use rustix::process::{Pid, Signal, kill_process};
use shared::experience::{StreamId, VERSION};
use shared::metrics::Report;

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// `lucid train` in a folder that goes away with it.
pub struct Run {
    pub dir: PathBuf,
    child: Child,
}

impl Run {
    /// Start `lucid train` with these arguments on a run folder. Its output goes to files beside the folder.
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        Self::start_with(dir, args, &[])
    }

    /// [`Self::start`] with variables of the environment.
    pub fn start_with(dir: &Path, args: &[&str], variables: &[(&str, &Path)]) -> Self {
        Self::start_as("train", Command::new(env!("CARGO_BIN_EXE_lucid")), dir, args, variables)
    }

    /// [`Self::start_with`] of `train`, or another word for it, by a command to which only arguments are to be added.
    pub fn start_as(word: &str, mut lucid: Command, dir: &Path, args: &[&str], variables: &[(&str, &Path)]) -> Self {
        let output = |end: &str| File::create(dir.with_extension(end)).unwrap();
        let child = lucid
            .arg(word)
            .args(args)
            .arg("--run")
            .arg(dir)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(output("out"))
            .stderr(output("err"))
            .spawn()
            .unwrap();
        Self { dir: dir.to_path_buf(), child }
    }

    /// Everything it printed.
    pub fn output(&self) -> String {
        let read = |end: &str| fs::read_to_string(self.dir.with_extension(end)).unwrap_or_default();
        read("out") + &read("err")
    }

    /// Process id of the launcher.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Wait for its end.
    pub fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the run to end", || {
            status = self.ended();
            status.is_some()
        });
        status.unwrap()
    }

    /// Wait for its end, which must be in order.
    pub fn end_well(&mut self) {
        let status = self.end();
        assert!(status.success(), "{status}\n{}{}", self.output(), self.logs());
    }

    /// Logs of its processes.
    pub fn logs(&self) -> String {
        let files = fs::read_dir(self.dir.join("logs")).into_iter().flatten().flatten();
        files.map(|f| fs::read_to_string(f.path()).unwrap_or_default()).collect()
    }

    /// Processes of its actors.
    pub fn actors(&self) -> Vec<u32> {
        let is_actor = |args: &[String]| args.iter().any(|arg| arg == "actor");
        children(self.pid()).into_iter().filter(|(_, args)| is_actor(args)).map(|(pid, _)| pid).collect()
    }

    /// Process of the learner, while it runs.
    pub fn learner(&self) -> Option<u32> {
        children(self.pid()).into_iter().find(|(_, args)| args.iter().any(|arg| arg == "learner")).map(|(pid, _)| pid)
    }

    /// Wait until there is a complete checkpoint with updates in it.
    pub fn wait_for_checkpoint(&self) -> Cut {
        let latest = || Checkpoints::new(&self.dir, 2).latest().ok().flatten().map(|loaded| loaded.cut);
        let mut found = None;
        wait_for("a checkpoint", || {
            found = latest().filter(|cut| cut.counters.updates > 0);
            found.is_some()
        });
        found.unwrap()
    }

    /// Process of an actor, while it runs.
    pub fn actor(&self, index: u32) -> Option<u32> {
        let wanted = ["--index".to_string(), index.to_string()];
        children(self.pid()).into_iter().find(|(_, args)| args.windows(2).any(|w| w == wanted)).map(|(pid, _)| pid)
    }

    /// Environment steps of the last record in `metrics.jsonl`.
    pub fn steps(&self) -> u64 {
        let text = fs::read_to_string(self.dir.join("metrics.jsonl")).unwrap_or_default();
        let last = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).next_back();
        last.and_then(|record| record["step"].as_u64()).unwrap_or(0)
    }

    /// Wait until this many more environment steps were made.
    pub fn make_steps(&self, more: u64) {
        let goal = self.steps() + more;
        wait_for("environment steps", || self.steps() >= goal);
    }

    /// Reports as they come, one every half second.
    pub fn reports(&self) -> impl Iterator<Item = Report> + use<> {
        let words = Client::connect(&self.dir).unwrap().watch().unwrap();
        words.filter_map(|word| match word.unwrap() {
            Word::Report(report) => Some(*report),
            _ => None,
        })
    }

    /// Wait for a report of which something is so.
    pub fn report(&self, so: impl Fn(&Report) -> bool) -> Report {
        self.make_steps(1);
        self.reports().take(240).find(so).expect("a report of which it is so")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `lucid` command that ends by itself: whether it succeeded, and what it printed.
pub fn lucid(args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lucid")).args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

/// Text without what the terminal adds to break it into lines.
pub fn flat(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && *c != '│').collect()
}

pub fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// Stop a process, and wait until each of its threads stands still: those that run when the signal comes go on for a moment.
pub fn hold(pid: u32) {
    kill(pid, Signal::STOP);
    let stands = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
    };
    wait_for("a process to stop", || fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().all(stands));
}

/// Poll until something is so.
pub fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, &mut so);
}

/// Poll until something is so, for at most `limit`.
pub fn wait_within(limit: Duration, what: &str, so: &mut impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !so() {
        assert!(Instant::now() < deadline, "waited {limit:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Children of a process with their arguments, zombies left out.
pub fn children(parent: u32) -> Vec<(u32, Vec<String>)> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).map(|pid| (pid, arguments(pid))).collect()
}

/// Whether a process runs.
pub fn is_alive(pid: u32) -> bool {
    parent_of(pid).is_some()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.next()?.parse().ok()).flatten()
}

fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).split('\0').map(String::from).collect()
}

/// A small ViT with its configuration, copied into a folder.
pub fn small_vit(folder: &Path) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parity/vit/hf_dinov2");
    let weights = folder.join("model.safetensors");
    fs::copy(format!("{source}.safetensors"), &weights).unwrap();
    fs::copy(format!("{source}_config/config.json"), folder.join("config.json")).unwrap();
    weights
}

/// Arguments of a short run that sees through these weights.
pub fn through(weights: &str) -> Vec<String> {
    let sets = [
        &format!("vit.weights={weights}"),
        "env.task=catch",
        "env.observe=pixels",
        "env.size=[56, 56]",
        "vit.decode=features",
        "vit.reduce=4",
        "vit.calibration=64",
        "run.train_ratio=1",
    ];
    let sets = sets.into_iter().flat_map(|set| ["--set".to_string(), set.to_string()]);
    ["-c", "dummy"].map(String::from).into_iter().chain(sets).collect()
}

/// The newest checkpoint of a run.
pub fn checkpoint(dir: &Path) -> Cut {
    Checkpoints::new(dir, 2).latest().unwrap().expect("the run has a checkpoint").cut
}

/// Versions that acted, by stream, in order, from the replay files of a checkpoint.
pub fn versions(dir: &Path, cut: &Cut) -> BTreeMap<StreamId, Vec<u64>> {
    let mut found: BTreeMap<StreamId, Vec<u64>> = BTreeMap::new();
    for stream in &cut.replay.streams {
        for file in stream.blocks.iter().flat_map(|block| &block.parts).map(|part| dir.join("replay").join(&part.file))
        {
            let bytes = fs::read(&file).unwrap();
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let Ok(column) = tensors.tensor(VERSION) else { continue };
            let numbers = column.data().as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
            found.entry(stream.id).or_default().extend(numbers);
        }
    }
    found
}
