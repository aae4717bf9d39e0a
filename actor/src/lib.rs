//! The actor process: environments, the act loop, features, and the recorder.

mod act_loop;
pub mod env;
mod features;
pub mod guard;
mod meter;
mod process;
mod receiver;
mod recorder;
mod restart;
mod scheduler;

pub use act_loop::{ActLoop, Acts};
pub use features::{Features, agent_spaces};
pub use meter::Meter;
pub use process::{Args, Kit, TOKEN_VAR, name, run, stream_seed};
pub use receiver::{Blueprint, Policy};
pub use restart::Restarts;
pub use scheduler::Scheduler;

use shared::wire::WireError;

/// What only fuzz targets need.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::env::gymnasium::child_says;
}

/// Why an actor ended early.
#[derive(Debug, thiserror::Error)]
pub enum ActorError {
    /// Between processes.
    #[error("while {doing}: {source}")]
    Wire {
        /// What was being done.
        doing: &'static str,
        /// What went wrong.
        source: WireError,
    },
    /// The learner does not take this process.
    #[error("the learner refused this actor: {reason}")]
    Refused {
        /// Its reason.
        reason: String,
    },
    /// A learner that took the place of one that died lacks steps between those it has and those that this process still holds.
    #[error(
        "environment {env}: the learner has {stored} steps, but this process holds only those from {held} on; it begins new streams"
    )]
    Lost {
        /// Index of the environment within the actor.
        env: usize,
        /// Steps that the learner has.
        stored: u64,
        /// First step that is held.
        held: u64,
    },
    /// The learner said something out of order.
    #[error("expected {wanted} from the learner, but got something else; are both of the same Lucid version?")]
    Order {
        /// What should have come.
        wanted: &'static str,
    },
    /// The config that came with the welcome.
    #[error(transparent)]
    Config(#[from] shared::config::ConfigError),
    /// From an environment.
    #[error(transparent)]
    Env(#[from] env::EnvError),
    /// An environment that does not keep its word.
    #[error("environment {env} (`{task}`): entry `{key}` {message}")]
    Entry {
        /// Index of the environment within the actor.
        env: usize,
        /// Its task.
        task: String,
        /// Which entry.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// A policy that does not keep finite what it carries from step to step.
    #[error("environment {env}: the policy of version {version} computed a recurrent state that is not finite")]
    NotFinite {
        /// Index of the environment within the actor.
        env: usize,
        /// Version of its snapshot.
        version: u64,
    },
    /// From the policy or its parameters.
    #[error("policy: {0}")]
    Policy(#[from] shared::params::ParamError),
    /// A snapshot that is not whole.
    #[error("snapshot {version} cannot be acted with: {message}")]
    Snapshot {
        /// Its version.
        version: u64,
        /// What is wrong.
        message: String,
    },
    /// The frozen encoder's region or description.
    #[error("the frozen encoder that came with the welcome cannot be used: {message}")]
    Encoder {
        /// What is wrong.
        message: String,
    },
    /// The frozen encoder.
    #[error(transparent)]
    Vit(#[from] shared::vit::VitError),
    /// From the operating system.
    #[error("actor process: {0}")]
    Io(#[from] std::io::Error),
}

/// For `map_err`: what was being done when a link failed.
pub(crate) fn wire(doing: &'static str) -> impl Fn(WireError) -> ActorError {
    move |source| ActorError::Wire { doing, source }
}
