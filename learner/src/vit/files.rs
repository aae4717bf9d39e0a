//! Which files of a model are wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Whole weights and the index of such as are in parts, in order of preference.
const WEIGHTS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// What the loader reads beside them.
const BESIDE: [&str; 2] = ["config.json", "preprocessor_config.json"];

/// The first of the files with weights that is there.
pub(super) fn weights(there: impl Fn(&str) -> bool) -> Option<&'static str> {
    WEIGHTS.into_iter().find(|name| there(name))
}

/// The configurations that are there.
pub(super) fn beside(there: impl Fn(&str) -> bool) -> impl Iterator<Item = &'static str> {
    BESIDE.into_iter().filter(move |name| there(name))
}

pub(super) fn is_index(name: &str) -> bool {
    name.ends_with(".index.json")
}

/// What the loader opens of a folder: a file with all weights, else the folder itself.
pub(super) fn opened(folder: &Path) -> PathBuf {
    let whole = weights(|name| folder.join(name).is_file()).filter(|name| !is_index(name));
    whole.map_or_else(|| folder.into(), |name| folder.join(name))
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files that an index names, or what is wrong with it.
pub(super) fn parts(index: &[u8]) -> Result<BTreeSet<String>, String> {
    let index: Index = serde_json::from_slice(index).map_err(|e| e.to_string())?;
    let parts: BTreeSet<String> = index.weight_map.into_values().collect();
    // The name becomes that of a file in a folder: it must not lead out of it.
    let plain = |name: &str| !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    match parts.iter().find(|name| !plain(name)) {
        Some(odd) => Err(format!("`{odd}` is no plain file name")),
        None => Ok(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vit_files_prefers_safetensors() {
        let first = |there: &[&str]| weights(|name| there.contains(&name));
        assert_eq!(first(&["pytorch_model.bin", "model.safetensors"]), Some("model.safetensors"));
        assert_eq!(first(&["pytorch_model.bin", "model.safetensors.index.json"]), Some("model.safetensors.index.json"));
        assert_eq!(first(&["tf_model.h5"]), None);
    }

    #[test]
    fn vit_files_takes_no_part_outside_the_folder() {
        let index = |file: &str| format!(r#"{{"metadata": {{}}, "weight_map": {{"a": "{file}", "b": "{file}"}}}}"#);
        assert_eq!(parts(index("a-1.safetensors").as_bytes()).unwrap(), ["a-1.safetensors".to_string()].into());
        assert!(parts(index("../a").as_bytes()).unwrap_err().contains("`../a`"));
        assert!(parts(index("/a").as_bytes()).is_err());
        assert!(parts(b"{}").unwrap_err().contains("weight_map"));
    }
}
