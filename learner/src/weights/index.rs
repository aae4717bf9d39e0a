//! Weights in several files, and folders of weights.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::{Problem, WeightsError};
use super::source::beside;

/// Longest index, in bytes; it takes about a hundred for each tensor.
const LONGEST: usize = 4 << 20;

/// Which file has which tensor.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    pub fn read(json: &[u8]) -> Result<Self, Problem> {
        if json.len() > LONGEST {
            return Err(Problem::refused("JSON of many megabytes", "name the index, or a file of weights"));
        }
        serde_json::from_slice(json).map_err(|e| Problem::damaged(format!("as an index of weights files: {e}")))
    }

    /// The files, each once; all beside the index.
    pub fn shards(&self, folder: &Path) -> Result<BTreeMap<&str, PathBuf>, Problem> {
        let names: BTreeSet<&str> = self.weight_map.values().map(String::as_str).collect();
        names.into_iter().map(|name| Ok((name, beside(folder, name)?))).collect()
    }

    /// The tensors that one of the files must have.
    pub fn tensors_of<'a>(&'a self, shard: &'a str) -> impl Iterator<Item = &'a str> {
        self.weight_map.iter().filter(move |(_, file)| *file == shard).map(|(name, _)| name.as_str())
    }
}

/// Names that the usual libraries give, in the order of preference.
const USUAL: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
const EXTENSIONS: [&str; 3] = ["safetensors", "pth", "onnx"];

/// The file of a folder that holds the weights, or the index of several.
pub(super) fn of_folder(folder: &Path) -> Result<PathBuf, WeightsError> {
    if let Some(found) = USUAL.map(|name| folder.join(name)).into_iter().find(|path| path.is_file()) {
        return Ok(found);
    }
    let entries = fs::read_dir(folder).map_err(WeightsError::io("read", folder))?;
    let files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
    for extension in EXTENSIONS {
        let mut found = files.iter().filter(|path| path.extension().is_some_and(|e| e == extension));
        match (found.next(), found.next()) {
            (Some(file), None) => return Ok(file.clone()),
            (Some(_), Some(_)) => {
                let what = format!("a folder with several *.{extension}");
                return Err(Problem::refused(what, "name one of its files").of(folder));
            }
            (None, _) => {}
        }
    }
    Err(Problem::refused("a folder without weights", "name a folder with model.safetensors, or a file").of(folder))
}
