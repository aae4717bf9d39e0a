//! One child process: this binary again, with its output in the run folder's logs.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use actor::TOKEN_VAR;

use super::PARENT_VAR;
use crate::RunError;
use crate::error::io;

/// Environment variables of processes that compute.
pub const ENVIRONMENT: [(&str, &str); 2] = [
    // candle's threads wait for work by spinning: with processes beside each other that costs more than it gives.
    ("CANDLE_NUM_THREADS", "1"),
    // The allocator keeps freed pages for ten seconds: the next update needs them again, and clearing them takes a sixth of its
    // time. What a checkpoint took goes back.
    ("MIMALLOC_PURGE_DELAY", "10000"),
];

/// Lines of a log that are shown when its process has died.
const LAST_LINES: usize = 12;

/// A running child; killed when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
    started: Instant,
}

impl Process {
    /// Start this binary with `args`; `name` is that of its log.
    pub fn start(dir: &Path, name: &str, args: &[String], token: &str) -> Result<Self, RunError> {
        let log = dir.join("logs").join(format!("{name}.log"));
        let binary = std::env::current_exe().map_err(io("find", Path::new("the running binary")))?;
        let output = OpenOptions::new().create(true).append(true).open(&log).map_err(io("open", &log))?;
        let errors = output.try_clone().map_err(io("open", &log))?;
        let child = Command::new(&binary)
            .args(args)
            .env(TOKEN_VAR, token)
            .env(PARENT_VAR, std::process::id().to_string())
            .envs(ENVIRONMENT)
            // Held open as long as this process lives: its end tells the child.
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            // A Ctrl-C in the terminal reaches the launcher alone, which then ends the run in order.
            .process_group(0)
            .spawn()
            .map_err(io("start", &binary))?;
        Ok(Self { child, log, started: Instant::now() })
    }

    /// Write a line to its standard input; one that has ended is noticed by whoever watches it.
    pub fn tell(&mut self, line: &str) {
        if let Some(input) = &mut self.child.stdin {
            let _ = writeln!(input, "{line}");
        }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How long it has run.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last lines of its log.
    pub fn last_lines(&self) -> String {
        let text = fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| format!("\n  {line}")).collect()
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// End it at once.
    pub fn kill(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
