//! The words between the learner and the evaluation actor.

use serde::{Deserialize, Serialize};
use shared::wire::{Episode, Welcome};

/// What the evaluation actor is called in logs, metrics and traces.
pub const EVALUATION_ACTOR: &str = "evaluation";

/// From the learner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToEvaluator {
    /// Joined. Brings the frozen encoder's region where there is one.
    Welcome(Box<Welcome>),
    /// Not joined.
    Refused {
        /// Why.
        reason: String,
    },
    /// Evaluate the snapshot in the region beside the message.
    Evaluate {
        /// Its version.
        version: u64,
        /// Environment steps of training now.
        step: u64,
    },
    /// Take no step until told to go on, or go on.
    Pause {
        /// Which of the two.
        on: bool,
    },
    /// Record what every thread does, and write it to the [file](shared::trace::file) of this process.
    Trace {
        /// For how long, seconds.
        seconds: f64,
    },
    /// End, whatever is being played.
    Stop,
}

/// From the evaluation actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromEvaluator {
    /// The first word, through the doorway.
    Hello {
        /// The run's secret.
        token: String,
        /// Process id.
        pid: u32,
        /// Version of the binary.
        binary: String,
    },
    /// Episodes of the evaluation that have ended.
    Progress {
        /// How many.
        played: u64,
    },
    /// An evaluation has ended.
    Evaluated {
        /// The snapshot that acted, from the first step to the last.
        version: u64,
        /// Digest that was computed over the bytes that acted.
        digest: u64,
        /// Its episodes.
        episodes: Vec<Episode>,
        /// How long it took.
        seconds: f64,
    },
    /// Something that people should know.
    Warning(String),
}
