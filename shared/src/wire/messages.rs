//! The words between learner and actors.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::chunk::ChunkHead;
use crate::env::Spaces;

/// From an actor to the learner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToLearner {
    /// The first word, through the doorway.
    Hello(Box<Hello>),
    /// Experience; its numbers travel beside the message. Needs a credit.
    Chunk(ChunkHead),
    /// This snapshot is the one acted with from the next step on.
    SnapshotTaken {
        /// Its version.
        version: u64,
        /// Digest that the actor computed over the bytes it acts with.
        digest: u64,
    },
    /// Progress since the last message of this kind.
    Numbers(Numbers),
    /// The last word: everything recorded has been sent.
    Goodbye {
        /// Why the actor ends.
        reason: String,
        /// Steps that each of its environments has made since the process started.
        steps: Vec<u64>,
    },
}

/// From the learner to an actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToActor {
    /// Joined. Brings the frozen encoder's region when there is one; a first snapshot follows.
    Welcome(Box<Welcome>),
    /// Not joined.
    Refused {
        /// Why.
        reason: String,
    },
    /// A snapshot of the policy, in the region beside the message.
    Snapshot {
        /// Its version.
        version: u64,
        /// Updates the learner had made when it was taken.
        update: u64,
    },
    /// Chunks that may be sent on top.
    Credits {
        /// How many.
        count: u32,
        /// Chunks that came over this link and outlive the learner: the actor need not keep them any more.
        stored: u64,
    },
    /// How far the learner is, told about twice a second and with nothing else to say.
    Clock {
        /// Updates so far.
        update: u64,
    },
    /// Take no step until told to go on, or go on.
    Pause {
        /// Which of the two.
        on: bool,
    },
    /// Record what every thread does, and write it to the [file](crate::trace::file) of this actor.
    Trace {
        /// Run folder.
        run: PathBuf,
        /// For how long, seconds.
        seconds: f64,
    },
    /// Send what is recorded, say goodbye, end.
    Stop,
}

/// How an actor introduces itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The run's secret; a stranger does not have it.
    pub token: String,
    /// Index of the actor.
    pub actor: u32,
    /// How often this actor was started before.
    pub generation: u32,
    /// Process id.
    pub pid: u32,
    /// Version of the binary.
    pub binary: String,
    /// Newest snapshot that it has acted with: none (0), or one of a learner that has died.
    pub version: u64,
}

/// What an actor needs to know to act.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The run's whole config, as TOML.
    pub config: String,
    /// Observation space of the environment, as the learner found it.
    pub env_obs: Spaces,
    /// Observation space of the agent (frames replaced by features where the encoder sees them).
    pub agent_obs: Spaces,
    /// Action space.
    pub act: Spaces,
    /// Fingerprint of the layout of policy snapshots.
    pub layout: u64,
    /// Description of the frozen encoder in the region beside the message, as JSON; none without one.
    pub vit: Option<String>,
    /// Steps of each of the actor's environments that are stored: it goes on sending there. Zeros for a new process.
    pub stored: Vec<u64>,
}

/// What an actor waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Waiting {
    /// Nothing: it acts.
    Nothing,
    /// Credits: the learner is behind.
    Credits,
    /// A snapshot fresh enough for `sync.max_lag_updates`.
    Snapshot,
    /// The end of a pause.
    Resume,
}

/// An episode that ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Sum of rewards.
    pub score: f32,
    /// Steps.
    pub length: u32,
}

/// An actor's progress since its last report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// Environment steps.
    pub steps: u64,
    /// Episodes that ended.
    pub episodes: Vec<Episode>,
    /// What is waited for just now.
    pub waiting: Waiting,
    /// Seconds covered by this report.
    pub seconds: f32,
    /// Of those, seconds spent waiting.
    pub waited: f32,
    /// Of those, seconds in the policy.
    pub policy: f32,
    /// Of those, seconds in environments.
    pub env: f32,
    /// Of those, seconds in the frozen encoder.
    pub features: f32,
    /// Updates between the snapshot acted with and the learner, as far as it told: mean over the steps; 0 without steps.
    pub lag: f32,
    /// Steps that were acted with a snapshot older than `sync.max_lag_updates`.
    pub beyond: u64,
    /// Calls of the policy.
    pub calls: u64,
    /// Seconds from the end of an environment's step until its next action: mean over the steps; 0 without steps.
    pub ready: f32,
    /// Updates between the snapshots that an environment's action before and its action now come from: the most.
    pub flight: u64,
    /// Steps of the environment with the fewest by those of the one with the most, 0 to 1.
    pub slowest: f32,
    /// Snapshots that were acted with for the first time: version, and seconds since it was taken.
    pub first_uses: Vec<(u64, f32)>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::array::DType;
    use crate::env::Space;
    use crate::experience::StreamId;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn spaces() -> impl Strategy<Value = Spaces> {
        let space = prop_oneof![
            vec(1usize..9, 0..3).prop_map(|s| Space::vector(&s)),
            (1usize..9).prop_map(|n| Space::discrete(&[], n)),
            Just(Space::image(4, 5, 3)),
        ];
        vec(("[a-z/]{1,8}", space), 0..4).prop_map(|x| x.into_iter().collect())
    }

    fn numbers() -> impl Strategy<Value = Numbers> {
        let episode = (-9f32..9.0, any::<u32>()).prop_map(|(score, length)| Episode { score, length });
        let first_uses = vec((any::<u64>(), 0f32..9.0), 0..5);
        (any::<u64>(), vec(episode, 0..5), 0f32..9.0, first_uses).prop_map(|(steps, episodes, seconds, first_uses)| {
            Numbers {
                lag: seconds,
                beyond: steps,
                calls: steps,
                ready: seconds,
                flight: steps,
                slowest: 0.5,
                first_uses,
                steps,
                episodes,
                waiting: Waiting::Credits,
                seconds,
                waited: 0.5,
                policy: 0.25,
                env: 0.0,
                features: 0.0,
            }
        })
    }

    /// Any head of a chunk.
    pub(crate) fn head() -> impl Strategy<Value = ChunkHead> {
        let stream = (any::<u32>(), any::<u32>(), any::<u32>());
        let column = ("[a-z/]{1,8}", vec(0usize..9, 1..4));
        (stream, any::<u64>(), vec(column, 0..4)).prop_map(|((actor, generation, env), first_step, columns)| {
            ChunkHead {
                stream: StreamId { actor, generation, env },
                first_step,
                columns: columns.into_iter().map(|(name, shape)| (name, DType::F32, shape)).collect(),
            }
        })
    }

    /// Any message to the learner.
    pub(crate) fn to_learner() -> impl Strategy<Value = ToLearner> {
        prop_oneof![
            (".{0,20}", any::<[u32; 3]>(), ".{0,9}", any::<u64>()).prop_map(|(token, numbers, binary, version)| {
                let [actor, generation, pid] = numbers;
                ToLearner::Hello(Box::new(Hello { token, actor, generation, pid, binary, version }))
            }),
            head().prop_map(ToLearner::Chunk),
            any::<(u64, u64)>().prop_map(|(version, digest)| ToLearner::SnapshotTaken { version, digest }),
            numbers().prop_map(ToLearner::Numbers),
            (".{0,40}", vec(any::<u64>(), 0..5)).prop_map(|(reason, steps)| ToLearner::Goodbye { reason, steps }),
        ]
    }

    /// Any message to an actor.
    pub(crate) fn to_actor() -> impl Strategy<Value = ToActor> {
        let numbers = vec(any::<u64>(), 0..5);
        let welcome = (".{0,99}", spaces(), spaces(), any::<u64>(), proptest::option::of(".{0,20}"), numbers);
        prop_oneof![
            welcome.prop_map(|(config, obs, act, layout, vit, stored)| ToActor::Welcome(Box::new(Welcome {
                config,
                env_obs: obs.clone(),
                agent_obs: obs,
                act,
                layout,
                vit,
                stored
            }))),
            ".{0,40}".prop_map(|reason| ToActor::Refused { reason }),
            any::<(u64, u64)>().prop_map(|(version, update)| ToActor::Snapshot { version, update }),
            any::<(u32, u64)>().prop_map(|(count, stored)| ToActor::Credits { count, stored }),
            any::<u64>().prop_map(|update| ToActor::Clock { update }),
            any::<bool>().prop_map(|on| ToActor::Pause { on }),
            Just(ToActor::Stop),
        ]
    }
}
