//! What can go wrong with an environment.

/// What an environment or its wrapper can fail with. Every message names the task, the key, what was found and what
/// was expected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EnvError {
    /// No such task.
    #[error("unknown task `{task}` in `env.task`; did you mean `{nearest}`? known: {known}")]
    UnknownTask {
        /// The name asked for.
        task: String,
        /// The known name that is spelled most alike.
        nearest: String,
        /// Names that exist, comma separated.
        known: String,
    },
    /// An option the task cannot be built with.
    #[error("environment `{task}`: `{key}` is {found}; expected {expected}")]
    Config {
        /// Which task.
        task: String,
        /// Which option.
        key: String,
        /// Its value.
        found: String,
        /// Values that work.
        expected: String,
    },
    /// An action that the environment cannot take.
    #[error("environment `{task}`: action `{key}` is {found}; expected {expected}")]
    Action {
        /// Which task.
        task: String,
        /// Which action entry.
        key: String,
        /// What was given.
        found: String,
        /// What the action space asks for.
        expected: String,
    },
    /// An observation that does not fit the environment's own spaces: a fault of the environment.
    #[error("environment `{task}` returned `{key}` as {found}; its spaces promise {expected}")]
    Observation {
        /// Which task.
        task: String,
        /// Which observation entry.
        key: String,
        /// What was returned.
        found: String,
        /// What the observation space promises.
        expected: String,
    },
    /// A process with an environment that could not be started.
    #[error("environment `{task}`: {what}\n{help}")]
    Start {
        /// Which task.
        task: String,
        /// What went wrong, with the process's last words.
        what: String,
        /// What to do.
        help: String,
    },
    /// Its process failed and is being started again: not a fault of who asks, but a matter of time.
    #[error("environment `{task}` is being started again")]
    Restarting {
        /// Which task.
        task: String,
    },
    /// Its process failed again and again.
    #[error(
        "environment `{task}` failed {failures} times within a minute (env.max_restarts allows one less), at last: {what}"
    )]
    GaveUp {
        /// Which task.
        task: String,
        /// How often.
        failures: usize,
        /// Why the last time.
        what: String,
    },
    /// A bug in one that steps on a thread of its own.
    #[error("environment {env} (`{task}`) panicked: {what}; this is a bug in Lucid")]
    Panicked {
        /// Which task.
        task: String,
        /// Index of the environment within the actor.
        env: usize,
        /// What it said.
        what: String,
    },
    /// A step outside an episode.
    #[error("environment `{task}`: stepped {found}; expected an action with `reset` set")]
    NeedsReset {
        /// Which task.
        task: String,
        /// Where the stream of steps stands.
        found: &'static str,
    },
}

impl EnvError {
    /// A step after `is_last`.
    pub fn ended(task: &str) -> Self {
        Self::NeedsReset { task: task.into(), found: "after `is_last`" }
    }

    /// A step before the first reset.
    pub fn not_started(task: &str) -> Self {
        Self::NeedsReset { task: task.into(), found: "before the first reset" }
    }
}
