//! The words between launcher and learner.

use serde::{Deserialize, Serialize};
use shared::metrics::{Report, StartReport};

use crate::control::Answer;
use crate::desk::Ask;

/// From the launcher to the learner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Open a door for this actor.
    Invite {
        /// Its index.
        actor: u32,
    },
    /// Open a door for an actor's process that runs already, and lost its learner.
    Readmit {
        /// Its index.
        actor: u32,
        /// How often it was started before.
        generation: u32,
    },
    /// Have this actor send what it has and end.
    Dismiss {
        /// Its index.
        actor: u32,
    },
    /// Open a door for the evaluation actor.
    InviteEvaluator,
    /// Somebody asks for something.
    Asked {
        /// Number of the answer.
        number: u64,
        /// What.
        ask: Ask,
    },
    /// Save and end.
    Stop {
        /// Why.
        reason: String,
    },
}

/// From the learner to the launcher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Notice {
    /// The first word.
    Hello {
        /// The run's secret.
        token: String,
    },
    /// Everything is loaded: actors may come.
    Ready(Box<StartReport>),
    /// A door is open for an actor.
    Invitation {
        /// Its index.
        actor: u32,
        /// How often it was started before, over all resumes.
        generation: u32,
        /// Name of the door.
        door: String,
    },
    /// An actor came through its door.
    Joined {
        /// Its index.
        actor: u32,
    },
    /// Nobody, or somebody else, came through an actor's door.
    NotJoined {
        /// Its index.
        actor: u32,
        /// Of the process that was to come.
        generation: u32,
        /// Why.
        reason: String,
    },
    /// An actor's link is cut: its process is of no use any more.
    Lost {
        /// Its index.
        actor: u32,
        /// Of that process.
        generation: u32,
    },
    /// A door is open for the evaluation actor.
    EvaluatorInvitation {
        /// Name of the door.
        door: String,
    },
    /// The evaluation actor's link is cut: its process is of no use any more.
    EvaluatorLost {
        /// Name of the door that it came through.
        door: String,
    },
    /// Nobody, or somebody else, came through the evaluation actor's door.
    EvaluatorNotJoined {
        /// Name of the door; empty if there is none.
        door: String,
        /// Why.
        reason: String,
    },
    /// What became of a request.
    Answered {
        /// Its number.
        number: u64,
        /// The answer.
        answer: Answer,
    },
    /// How the run goes.
    Report(Box<Report>),
    /// The run is about to end: actors are told to stop.
    Stopping,
    /// The run has ended in order and is saved.
    Done {
        /// Why it ended.
        reason: String,
    },
    /// The run has ended with an error.
    Failed {
        /// The error, with its causes.
        message: String,
    },
}
