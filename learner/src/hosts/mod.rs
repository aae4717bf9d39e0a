//! Actors on other hosts: a gate beside the learner, and a relay on each host, over zenoh.
//!
//! To the learner the [gate] is its actors: each has a link of its own, with its own credits, and is let in by its own door. To actors the
//! [relay] is their learner. Between the two goes one [line](line) each way for words, and one way for what is [long](freight): a snapshot
//! once for a host, however many actors it has. If anything on the way breaks, actors' links are closed at both ends, and what follows is
//! what follows when a learner dies: actors keep what is not stored, and go on by another door.

pub mod bench;
pub mod fake;
mod fleet;
mod freight;
mod gate;
pub mod growth;
mod host;
mod line;
pub mod packet;
mod relay;
mod secrets;
mod session;
mod store;
pub mod words;

pub use fleet::Fleet;
pub use gate::{GateArgs, run as gate};
pub use relay::Relay;
pub use secrets::{Authority, Identity, Token};
pub use store::cache as encoders;

/// A session with a run's gate, at HOST:PORT.
pub fn connect(address: &str, identity: Option<&Identity>) -> Result<zenoh::Session, HostError> {
    session::open(&session::Place::Connect(address), identity)
}

impl HostError {
    /// Something that cannot be sent, or that came and cannot be taken.
    fn way(why: impl std::fmt::Display) -> Self {
        Self::Way { message: why.to_string() }
    }
}

/// Why another host cannot take part.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum HostError {
    /// The network, or what is on the other side of it.
    #[error("{address}: {message}")]
    Network {
        /// Address or key.
        address: String,
        /// What the engine says.
        message: String,
    },
    /// Something that cannot be sent.
    #[error("cannot be sent to another host: {message}")]
    Way {
        /// Why.
        message: String,
    },
    /// The run does not take this host.
    #[error("the run does not take this host: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// A folder without a run.
    #[error("{path} is no run folder: it has no config.toml")]
    NoRun {
        /// The folder.
        path: std::path::PathBuf,
    },
    /// Nobody said where to go.
    #[error("the token does not say where the run listens")]
    #[diagnostic(help("say it with --join HOST:PORT"))]
    NoAddress,
    /// A thread that cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// A certificate that cannot be made.
    #[error("no certificate for a host: {message}")]
    Secrets {
        /// Why.
        message: String,
    },
    /// A file with secrets that is damaged, or another file.
    #[error("{path} does not admit anybody: {message}")]
    #[diagnostic(help("have another made where the run is: lucid host token RUN --name NAME"))]
    Token {
        /// Which file.
        path: std::path::PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A file of hosts that is not right.
    #[error("{path}: {message}")]
    #[diagnostic(help("docs/hosts_ssh.md has an example"))]
    Fleet {
        /// Which file.
        path: std::path::PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A token would take another file's place.
    #[error("{path} is there already")]
    #[diagnostic(help(
        "it admits its host for as long as the run has its folder: remove it, or name another file with --out"
    ))]
    TokenThere {
        /// Which file.
        path: std::path::PathBuf,
    },
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}
