//! The words between the gate and the relay of another host.

use serde::{Deserialize, Serialize};
use shared::wire::{ToActor, ToLearner};

use crate::launch::{End, Who};

/// How a relay introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// What its host is called.
    pub name: String,
    /// What admits it to the run.
    pub secret: String,
    /// Version of the binary.
    pub binary: String,
    /// Actors that it is to have.
    pub actors: u32,
    /// Which relay it is, over all its connections.
    pub instance: u64,
    /// Processes of actors that run there already, and lost the run.
    pub running: Vec<Who>,
}

/// From a relay to the gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Up {
    /// The same moment of the gate's clock that it sent, microseconds.
    Beat {
        /// What was sent.
        sent: u64,
    },
    /// There is nothing to say.
    Nothing,
    /// A word of an actor; bytes may lie beside it.
    Said(Who, ToLearner),
    /// An actor's link is closed.
    Closed(Who),
    /// A process of an actor runs.
    Started(Who, u32),
    /// A process of an actor has ended, or could not be started.
    Ended(Who, End),
    /// This snapshot has arrived whole.
    Have {
        /// Its version.
        version: u64,
    },
    /// The frozen encoder's region is not here from this byte on.
    Want {
        /// BLAKE3 of the region.
        digest: [u8; 32],
        /// First byte that is missing.
        offset: u64,
    },
    /// The host is to leave the run: its actors are to send what they have and end.
    Leaving,
    /// The relay ends, once it is told to stop: all that it said has then arrived.
    Goodbye,
}

/// Where words or pieces of one connection go: `hello`, `answer`, `up`, `down` or `piece`.
pub fn key(what: &str, epoch: &str) -> String {
    format!("lucid/{what}/{epoch}")
}

/// What lies beside a word to an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// The snapshot of this version, which has arrived.
    Snapshot(u64),
    /// The frozen encoder's region.
    Encoder {
        /// BLAKE3 of its bytes.
        digest: [u8; 32],
        /// How many they are.
        length: u64,
    },
}

/// From the gate to a relay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Down {
    /// The moment it is sent, on the gate's clock, microseconds.
    Beat {
        /// To be sent back.
        sent: u64,
    },
    /// Let this process of an actor in, by a new door.
    Invite {
        /// Which process.
        who: Who,
        /// Whether to start it; else it is one that runs, or has ended meanwhile.
        start: bool,
    },
    /// End this process of an actor.
    Kill(Who),
    /// A word to an actor.
    Said(Who, ToActor, Beside),
    /// An actor's link is closed.
    Closed(Who),
    /// The run has ended: end all actors, and the relay.
    Stop {
        /// Why.
        reason: String,
    },
}

/// The gate's answer to an introduction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The host is part of the run.
    Welcome {
        /// Whether its actors are to wait while the run is not heard: no snapshot may be older than `sync.max_lag_updates`.
        hold: bool,
    },
    /// It is not.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Which bytes a piece is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blob {
    /// A snapshot's region.
    Snapshot {
        /// Its version.
        version: u64,
    },
    /// The frozen encoder's region.
    Encoder {
        /// BLAKE3 of its bytes.
        digest: [u8; 32],
    },
}

/// Part of something long, its bytes beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// What it is part of.
    pub blob: Blob,
    /// Where it begins.
    pub offset: u64,
    /// Bytes of the whole.
    pub length: u64,
    /// Checksum (XXH3) of the bytes of this piece.
    pub checksum: u64,
}
