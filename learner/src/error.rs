//! Why a run could not start or go on, as people read it.

use std::path::{Path, PathBuf};

/// What ends a process of a run early.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum RunError {
    /// Options.
    #[error(transparent)]
    Config(#[from] shared::config::ConfigError),
    /// Where the learner computes.
    #[error(transparent)]
    Device(#[from] shared::device::DeviceError),
    /// The environment.
    #[error(transparent)]
    Env(#[from] actor::env::EnvError),
    /// The actor process.
    #[error(transparent)]
    Actor(Box<actor::ActorError>),
    /// The agent.
    #[error(transparent)]
    Agent(#[from] crate::agent::AgentError),
    /// Parameters.
    #[error(transparent)]
    Param(#[from] shared::params::ParamError),
    /// Replay.
    #[error(transparent)]
    Replay(#[from] crate::replay::ReplayError),
    /// The train ratio.
    #[error(transparent)]
    Limiter(#[from] crate::limiter::LimiterError),
    /// Checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    /// A checkpoint of the official code.
    #[error(transparent)]
    Official(#[from] crate::official::OfficialError),
    /// Experience that was recorded elsewhere.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Offline(#[from] crate::offline::OfflineError),
    /// Metrics.
    #[error(transparent)]
    Metric(#[from] shared::metrics::MetricError),
    /// A picture of metrics.
    #[error(transparent)]
    Plot(#[from] crate::plot::PlotError),
    /// The frozen encoder.
    #[error(transparent)]
    Vit(#[from] shared::vit::VitError),
    /// The frozen encoder's weights.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Fetch(#[from] crate::vit::FetchError),
    /// Another host.
    #[cfg(feature = "hosts")]
    #[error(transparent)]
    #[diagnostic(transparent)]
    Host(#[from] crate::hosts::HostError),
    /// A run that goes on, or does not.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Control(#[from] crate::control::ControlError),
    /// The page about the run.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Web(#[from] crate::web::WebError),
    /// A file that was asked for.
    #[error(transparent)]
    File(#[from] crate::durable::FileError),
    /// Pictures and animations of a run.
    #[error(transparent)]
    Media(#[from] crate::media::MediaError),
    /// Nothing to film.
    #[error("task `{task}` draws no pictures, so there is nothing to film")]
    #[diagnostic(help(
        "`lucid env check {task}` and `lucid eval` without --video step it unfilmed; where an error of its own stands above, what draws is \
         missing"
    ))]
    Film {
        /// The task.
        task: String,
    },
    /// A film of it.
    #[error(transparent)]
    FilmFile(#[from] crate::film_file::FilmError),
    /// An environment that cannot be trained in as it is.
    #[error("{count} {} of task `{task}` would make training impossible or wrong", if *count == 1 { "fault" } else { "faults" })]
    #[diagnostic(help("what to do about each stands above"))]
    EnvFaults {
        /// The task.
        task: String,
        /// How many.
        count: usize,
    },
    /// A picture.
    #[error("cannot {doing} the picture {}", path.display())]
    #[diagnostic(help("PNG and JPEG files are read, PNG files written"))]
    Image {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: image::ImageError,
    },
    /// Weights that cannot be read.
    #[error(transparent)]
    Weights(#[from] crate::vit::LoadError),
    /// Snapshots.
    #[error("publishing the policy: {0}")]
    Snapshot(#[from] shared::snapshot::format::FormatError),
    /// Another process.
    #[error("{doing}: {source}")]
    Wire {
        /// What was being done.
        doing: &'static str,
        /// What went wrong.
        source: shared::wire::WireError,
    },
    /// A file or another thing of the operating system.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Snapshots that reach an actor too late to be acted with.
    #[error(
        "sync.max_lag_updates = {bound} cannot be met: a snapshot takes {ack_ms:.0} ms to reach actor {actor}, and the learner is \
         {late} updates further by then, again and again"
    )]
    #[diagnostic(help(
        "set sync.max_lag_updates above {late}, sync.max_lag_mode = \"soft\", or fewer actors for these cores"
    ))]
    Lag {
        /// Which actor.
        actor: u32,
        /// Updates that an actor may be behind.
        bound: u64,
        /// Updates that the learner made on the way.
        late: u64,
        /// Time on the way, milliseconds.
        ack_ms: f64,
    },
    /// A parameter that has become infinite or not a number: the policy is not published.
    #[error("parameter `{path}` is not finite after update {update}; the run stops with the last policy it published")]
    #[diagnostic(help("resume from the last checkpoint with a lower agent.opt.lr"))]
    NotFinite {
        /// Its path.
        path: String,
        /// After which update.
        update: u64,
    },
    /// A measurement that did not come about.
    #[error("{message}")]
    Bench {
        /// Of what, and why.
        message: String,
    },
    /// Three bad updates in a row.
    #[error("{count} updates in a row were not finite, at update {update}; first: {what}")]
    #[diagnostic(help("their batches are in {}; a lower agent.opt.lr often helps", folder.display()))]
    Diverged {
        /// How many.
        count: usize,
        /// After which update.
        update: u64,
        /// What was not finite first.
        what: String,
        /// Where the batches are.
        folder: PathBuf,
    },
    /// A run folder that cannot be used.
    #[error("run folder {}: {message}", path.display())]
    #[diagnostic(help("{help}"))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        message: String,
        /// What to do.
        help: String,
    },
    /// A child process that ended the run.
    #[error("{what}")]
    #[diagnostic(help("{help}"))]
    Child {
        /// Who, and how it ended, with its last lines.
        what: String,
        /// What to do.
        help: String,
    },
    /// Told so by the learner.
    #[error("the learner stopped: {message}")]
    #[diagnostic(help("{help}"))]
    Learner {
        /// Its reason.
        message: String,
        /// What to do.
        help: String,
    },
    /// Stopped at once, without saving.
    #[error("stopped at once, without a last checkpoint")]
    #[diagnostic(help("{help}"))]
    Interrupted {
        /// What to do.
        help: String,
    },
    /// A frozen parameter that is not what it was.
    #[error(
        "frozen parameters are not what they were: {tensors}; `{prefix}` now has digest {found}, but the run was made with \
         {recorded} (from {origin})"
    )]
    #[diagnostic(help(
        "bring the original weights back (`lucid vit fetch` does it for a fetched model) and go on from the last checkpoint with \
         `lucid train --run …`, or start a new run"
    ))]
    Frozen {
        /// Paths of the changed tensors, or the prefix where they are not known.
        tensors: String,
        /// Module prefix.
        prefix: String,
        /// Digest in the checkpoint.
        recorded: String,
        /// Digest now.
        found: String,
        /// Where the weights came from.
        origin: String,
    },
}

impl From<actor::ActorError> for RunError {
    fn from(error: actor::ActorError) -> Self {
        Self::Actor(Box::new(error))
    }
}

/// For `map_err`: what was being done when a link failed.
pub(crate) fn wire(doing: &'static str) -> impl FnOnce(shared::wire::WireError) -> RunError {
    move |source| RunError::Wire { doing, source }
}

/// For `map_err`: what was being done with which file.
pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RunError {
    let path = path.to_path_buf();
    move |source| RunError::Io { doing, path, source }
}
