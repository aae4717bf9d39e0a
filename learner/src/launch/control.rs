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
        /// Name of the door.
        door: String,
        /// Why.
        reason: String,
    },
    /// An actor's link is cut.
    Lost {
        /// Its index.
        actor: u32,
        /// Of that process.
        generation: u32,
        /// Name of the door that it had come through.
        door: String,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::wire::codec::{decode, encode};

    use super::*;
    use crate::evaluation::{FromEvaluator, ToEvaluator};

    /// Bytes of a message with some changed, and any bytes.
    fn hostile<M: Serialize>(messages: &[M]) -> impl Strategy<Value = Vec<u8>> + use<M> {
        let messages: Vec<Vec<u8>> = messages.iter().map(|message| encode(message).unwrap()).collect();
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
        let changed = (prop::sample::select(messages), changes).prop_map(|(mut bytes, changes)| {
            changes.into_iter().for_each(|(at, byte)| *at.get_mut(&mut bytes) = byte);
            bytes
        });
        prop_oneof![prop::collection::vec(any::<u8>(), 0..300), changed]
    }

    fn notices() -> Vec<Notice> {
        vec![
            Notice::Hello { token: "secret".into() },
            Notice::Ready(Box::default()),
            Notice::Invitation { actor: 3, generation: 1, door: "/tmp/door".into() },
            Notice::Answered { number: 7, answer: Answer::Refused("no".into()) },
            Notice::Report(Box::new(Report {
                returns: vec![1.0; 9],
                losses: vec![("a".into(), 0.5)],
                ..Report::default()
            })),
            Notice::Failed { message: "why".into() },
        ]
    }

    fn orders() -> Vec<Order> {
        let asked = |ask| Order::Asked { number: 9, ask };
        vec![
            Order::Invite { actor: 300 },
            asked(Ask::Trace { seconds: 2.0 }),
            asked(Ask::Options("run.steps = 4".into())),
            Order::Stop { reason: "done".into() },
        ]
    }

    fn evaluators() -> Vec<FromEvaluator> {
        let episodes = vec![shared::wire::Episode { score: 1.0, length: 300 }; 4];
        vec![
            FromEvaluator::Hello { token: "secret".into(), pid: 77, binary: "0".into() },
            FromEvaluator::Evaluated { version: 3, digest: u64::MAX, episodes, seconds: 2.0 },
            FromEvaluator::Warning("careful".into()),
        ]
    }

    fn evaluations() -> Vec<ToEvaluator> {
        let refused = ToEvaluator::Refused { reason: "no".into() };
        vec![refused, ToEvaluator::Evaluate { version: 1 << 40, step: 9 }, ToEvaluator::Trace { seconds: 1.0 }]
    }

    /// What is read is a message that can be sent on.
    fn is_read_or_refused<M: Serialize + for<'a> Deserialize<'a>>(bytes: &[u8]) {
        if let Ok(message) = decode::<M>(bytes) {
            encode(&message).unwrap();
        }
    }

    #[test]
    fn what_is_sent_is_read() {
        for notice in notices() {
            assert_eq!(decode::<Notice>(&encode(&notice).unwrap()).unwrap(), notice);
        }
        for order in orders() {
            assert_eq!(decode::<Order>(&encode(&order).unwrap()).unwrap(), order);
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_read_or_refused(
            notice in hostile(&notices()),
            order in hostile(&orders()),
            from in hostile(&evaluators()),
            to in hostile(&evaluations()),
        ) {
            is_read_or_refused::<Notice>(&notice);
            is_read_or_refused::<Order>(&order);
            is_read_or_refused::<FromEvaluator>(&from);
            is_read_or_refused::<ToEvaluator>(&to);
        }
    }
}
