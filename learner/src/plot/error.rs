//! Why there is no picture.

use std::path::PathBuf;

/// Why a run's metrics were not plotted.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// Not a run folder, or one of a run that has not written anything yet.
    #[error("run folder {}: it has no metrics.jsonl; give the folder that `lucid train --run` was given", run.display())]
    NoMetrics {
        /// The folder.
        run: PathBuf,
    },
    /// Metrics that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line that is no record.
    #[error("{}, line {line}: {message}; remove the line to plot the others", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// No record has a number of this name.
    #[error("{} has no metric `{metric}`{}", path.display(), .nearest.as_ref().map_or_else(String::new, |n| format!(" (did you mean `{n}`?)")))]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The name.
        metric: String,
        /// The name in the file that is most like it.
        nearest: Option<String>,
    },
    /// A metric that the run has not reported so far.
    #[error("{} has no number for `{metric}` yet: wait until the run has reported one", path.display())]
    NotYet {
        /// The file.
        path: PathBuf,
        /// The name.
        metric: String,
    },
    /// A task without scores to compare with.
    #[error(
        "no scores are known that were published for {task} with env.observe = {observe}: give your own with --mark X,Y,LABEL"
    )]
    Unpublished {
        /// The task.
        task: String,
        /// What is observed of it.
        observe: String,
    },
    /// Labels that cannot be told which run they are for.
    #[error("{labels} labels for {runs} runs: give --label once for each run, in their order, or not at all")]
    Labels {
        /// How many.
        labels: usize,
        /// Of how many runs.
        runs: usize,
    },
    /// A picture of no known kind.
    #[error("{}: the name of a picture must end in .png or .svg", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// The picture could not be made.
    #[error("drawing the picture: {message}")]
    Draw {
        /// Why.
        message: String,
    },
    /// A file that cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
