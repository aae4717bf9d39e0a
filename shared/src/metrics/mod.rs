//! Every number a run reports: its name, unit and averaging in one table, meters that fill it, and the files it goes to.

mod jsonl;
mod meters;
mod report;
mod table;
mod tensorboard;

pub use jsonl::JsonLines;
pub use meters::{Meters, Numbers, Spread, Window};
pub use report::{
    ActorReport, EvaluatedReport, EvaluatingReport, EvaluationReport, HostReport, ModuleRow, Phase, ReplayReport,
    Report, StartReport, VitReport,
};
pub use table::{Average, METRICS, Metric, find};
pub use tensorboard::EventFile;

/// Why a number was not reported.
#[derive(Debug, thiserror::Error)]
pub enum MetricError {
    /// A name that the table lacks.
    #[error("unknown metric `{name}`{}: add it to shared/src/metrics/table.rs", .nearest.as_ref().map_or_else(String::new, |n| format!(" (did you mean `{n}`?)")))]
    Unknown {
        /// The name.
        name: String,
        /// The name most like it.
        nearest: Option<String>,
    },
    /// The file cannot be read or written.
    #[error("cannot write metrics to `{}`: {source}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
