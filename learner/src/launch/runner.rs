//! A process of an actor, here or on another host.

use std::time::Duration;

use super::child::Process;
use super::hosts::{End, Remote};

/// Wherever it runs.
pub enum Runner {
    /// A child of the launcher's.
    Here(Process),
    /// A child of another host's relay.
    There(Remote),
}

impl Runner {
    /// Its id, on its host.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Here(process) => process.pid(),
            Self::There(remote) => remote.pid(),
        }
    }

    /// How long it has run.
    pub fn age(&self) -> Duration {
        match self {
            Self::Here(process) => process.age(),
            Self::There(remote) => remote.age(),
        }
    }

    /// Have it come through another door.
    pub fn tell(&mut self, door: &str) {
        match self {
            Self::Here(process) => process.tell(door),
            Self::There(remote) => remote.tell(door),
        }
    }

    /// End it.
    pub fn kill(&mut self) {
        match self {
            Self::Here(process) => process.kill(),
            Self::There(remote) => remote.kill(),
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<End> {
        match self {
            Self::There(remote) => remote.ended().cloned(),
            Self::Here(process) => {
                let status = process.ended()?;
                let lines = if status.success() { String::new() } else { process.last_lines() };
                Some(End { how: status.to_string(), code: status.code(), lines })
            }
        }
    }

    /// Where its whole output is.
    pub fn log(&self, name: &str) -> String {
        match self {
            Self::Here(process) => process.log().display().to_string(),
            Self::There(remote) => format!("logs/{name}.log on {}", remote.host),
        }
    }
}
