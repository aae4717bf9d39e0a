//! Why the store refused.

use std::path::PathBuf;

use crate::snapshot::format::FormatError;

/// Why the store refused. Messages name the path, the phase, what was found and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ParamError {
    /// No such parameter.
    #[error("no parameter `{path}` in the {phase} phase; nearest: {nearest}")]
    Missing {
        /// Path asked for.
        path: String,
        /// Phase of the store.
        phase: &'static str,
        /// Nearest existing paths, comma separated.
        nearest: String,
    },
    /// The acting step reads a parameter that its snapshot does not carry.
    #[error("no parameter `{path}` in the snapshot: add `{prefix}` to the snapshot's subset; nearest: {nearest}")]
    NotInSnapshot {
        /// Path asked for.
        path: String,
        /// Shortest prefix of the path of which the snapshot carries nothing.
        prefix: String,
        /// Nearest existing paths, comma separated.
        nearest: String,
    },
    /// A parameter of another shape.
    #[error(
        "parameter `{path}` has shape {found:?} in the {phase} phase, but {wanted:?} was asked for; nearest: {nearest}"
    )]
    Shape {
        /// Path asked for.
        path: String,
        /// Phase of the store.
        phase: &'static str,
        /// Shape in the store or file.
        found: Vec<usize>,
        /// Shape asked for.
        wanted: Vec<usize>,
        /// Nearest other paths, comma separated.
        nearest: String,
    },
    /// A parameter of another element type; casting is left to the caller.
    #[error("parameter `{path}` is {wanted} in the {phase} phase, but {found} was given; cast it explicitly")]
    Dtype {
        /// Path asked for.
        path: String,
        /// Phase of the store.
        phase: &'static str,
        /// Type given.
        found: String,
        /// Type of the parameter.
        wanted: String,
    },
    /// A prefix or regex that selects nothing.
    #[error("pattern `{pattern}` matches no parameter in the {phase} phase; there are: {existing}")]
    NoMatch {
        /// Prefix or regex.
        pattern: String,
        /// Phase of the store.
        phase: &'static str,
        /// What exists, by module.
        existing: String,
    },
    /// Neither an existing prefix nor a regex.
    #[error("pattern `{pattern}` is no existing prefix and no valid regex")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// From the regex parser.
        source: Box<regex::Error>,
    },
    /// A path that cannot be a parameter's.
    #[error("`{path}` cannot be the path of a parameter: {why}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Creation never overwrites.
    #[error("parameter `{path}` exists already; creation never overwrites")]
    Exists {
        /// The path.
        path: String,
    },
    /// A write to a frozen parameter.
    #[error("parameter `{path}` is frozen and cannot be written")]
    Frozen {
        /// The path.
        path: String,
    },
    /// A tree whose keys are not the expected ones.
    #[error("tree for `{what}` does not fit: missing {missing:?}, unexpected {unexpected:?}")]
    Keys {
        /// Module or operation.
        what: String,
        /// Expected keys that are not there.
        missing: Vec<String>,
        /// Keys nobody asked for.
        unexpected: Vec<String>,
    },
    /// A hook or constructor of the caller failed.
    #[error("loading `{path}` failed: {message}")]
    Load {
        /// Path or prefix.
        path: String,
        /// What the loader said.
        message: String,
    },
    /// A file that cannot be opened, read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// From the system.
        source: std::io::Error,
    },
    /// A file that is not what it should be: truncated, or no safetensors file.
    #[error("{} is damaged or no safetensors file: {message}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A tensor in a file of a type Lucid does not read.
    #[error("tensor `{path}` in {} has type {dtype}, which is not supported here", file.display())]
    FileDtype {
        /// The file.
        file: PathBuf,
        /// Name of the tensor.
        path: String,
        /// Its type.
        dtype: String,
    },
    /// A region that is no snapshot.
    #[error(transparent)]
    Region(#[from] FormatError),
    /// From candle.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
