//! What people ask of a run while it goes on, and what it tells them: words of JSON over a socket in the run folder.
//!
//! A client sends one [`Request`] a line and gets one [`Answer`] a line, once what was asked for has taken effect. After
//! [`Request::Watch`] the socket carries [`Word`]s instead, until it is closed; a watcher that does not read is left out, not waited
//! for.

mod client;
mod hub;
mod socket;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shared::metrics::{Report, StartReport};

pub use client::{Client, Words};
pub use hub::{Asked, Hub};
pub use socket::Socket;

/// Name of the socket in the run folder.
const SOCKET: &str = "control.sock";
/// Longest line either side reads.
const LONGEST: u64 = 1 << 22;

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Have this many actor processes.
    Scale {
        /// How many.
        actors: usize,
    },
    /// Make no further update and take no further step, until [`Request::Resume`].
    Pause,
    /// Go on.
    Resume,
    /// Write a checkpoint now.
    Checkpoint,
    /// Save and end.
    Stop,
    /// Change an option that may change while a run goes on.
    Set {
        /// Its key, as in `run.train_ratio`.
        key: String,
        /// Its value, as TOML.
        value: String,
    },
    /// Record what all threads do, into a file of each process below `trace/`; see [`shared::trace`].
    Trace {
        /// For how long, seconds.
        seconds: f64,
    },
    /// Be told how the run goes.
    Watch,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It has taken effect: what is so now.
    Done(String),
    /// It has not: why, and what to do.
    Refused(String),
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// What runs; the first word, once the learner has loaded.
    Start(Box<StartReport>),
    /// How it goes, about twice a second.
    Report(Box<Report>),
    /// The run has ended: why.
    End(String),
}

/// Why a run was not reached.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ControlError {
    /// No launcher holds the run folder.
    #[error("no run goes on in {}", dir.display())]
    #[diagnostic(help("`lucid train --run {}` starts it or goes on with it", dir.display()))]
    NotRunning {
        /// Run folder.
        dir: PathBuf,
    },
    /// The socket failed.
    #[error("{doing} through {}: {source}", path.display())]
    Socket {
        /// What was being done.
        doing: &'static str,
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The other side said something else than agreed.
    #[error("{}: not understood: {message}", path.display())]
    Word {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The run refused.
    #[error("{0}")]
    Refused(String),
}

impl ControlError {
    fn socket(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Socket { doing, path: path.to_path_buf(), source }
    }
}

/// The socket's address. Addresses are at most 107 bytes long, paths are not: the folder goes by the number of its open file.
fn address(folder: &std::fs::File) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))
}
