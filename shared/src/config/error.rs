//! What can be wrong with a configuration.

use std::path::PathBuf;

/// Why a configuration was refused. Every message names where the value came from and the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `-c` names neither a built-in preset nor a file.
    #[error("unknown preset `{name}`{}; built in: {known}; or give the path of a .toml file", hint(.nearest))]
    UnknownPreset {
        /// What was asked for.
        name: String,
        /// The built-in preset with the nearest name, if one is near.
        nearest: Option<String>,
        /// Built-in presets, comma separated.
        known: String,
    },
    /// A preset file that cannot be read.
    #[error("cannot read config `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("{origin} is not valid TOML: {message}")]
    Syntax {
        /// File, preset or `--set`.
        origin: String,
        /// The parser's message, with line and column.
        message: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key `{key}`{}", hint(.nearest))]
    UnknownKey {
        /// File, preset or `--set`.
        origin: String,
        /// The key, with dots.
        key: String,
        /// The existing key with the nearest name, if one is near.
        nearest: Option<String>,
    },
    /// A value of another type than the key's.
    #[error("{origin}: `{key}` must be {expected}, not {found}")]
    WrongType {
        /// File, preset or `--set`.
        origin: String,
        /// The key, with dots.
        key: String,
        /// The type, with the default as an example.
        expected: String,
        /// Type and value given.
        found: String,
    },
    /// A value outside its type's range, such as a negative count.
    #[error("{origin}: {message}")]
    Value {
        /// File, preset or `--set`.
        origin: String,
        /// Key and reason.
        message: String,
    },
    /// `--set` without `=`.
    #[error("--set {text}: write it as key=value, as in --set run.train_ratio=256")]
    NoValue {
        /// What was given.
        text: String,
    },
    /// The same key in two `--set`.
    #[error("--set {key} is given twice; the first would have no effect, leave one out")]
    SetTwice {
        /// The key.
        key: String,
    },
    /// Values that cannot work, all of them.
    #[error("config: {}", problems.join("; "))]
    Invalid {
        /// One sentence each, naming the key.
        problems: Vec<String>,
    },
    /// A value that TOML cannot hold.
    #[error("config cannot be written as TOML: {0}")]
    Write(#[from] toml::ser::Error),
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |n| format!(" (did you mean `{n}`?)"))
}

/// The candidate most like `name`, if any is like it at all.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .map(|c| (strsim::jaro_winkler(name, c), c))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c.to_string())
}
