//! The folder of fetched weights, and the records of what lies there.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{FetchError, LoadError, Located};
use crate::durable::{FileError, sync_dir, write};
use serde::{Deserialize, Serialize};

/// What is known of a fetched file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Short name.
    pub name: String,
    /// The repository, or the package with its version.
    pub source: String,
    /// BLAKE3 digest of the file, hexadecimal.
    pub blake3: String,
    /// What a user of these weights must know; often empty.
    pub note: String,
}

/// Where weights come from.
pub(super) struct Source {
    pub place: &'static str,
    pub note: &'static str,
}

pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub fn of_user() -> Result<Self, FetchError> {
        Self::from_variables(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, FetchError> {
        let below = |root: &str, rest: &str| get(root).map(|root| Path::new(&root).join(rest));
        let lucid = get("LUCID_CACHE").map(PathBuf::from);
        let dir = lucid.or_else(|| below("XDG_CACHE_HOME", "lucid")).or_else(|| below("HOME", ".cache/lucid"));
        Ok(Self { dir: dir.ok_or(FetchError::NoCache)? })
    }

    fn weights(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.safetensors"))
    }

    pub fn locate(&self, name: &str) -> Located {
        let path = self.weights(name);
        if path.is_file() && record_of(&path).is_file() { Located::Cached(path) } else { Located::Missing }
    }

    /// Keep weights under a short name, if the written file passes the check.
    pub fn install(
        &self,
        name: &str,
        bytes: &[u8],
        source: &Source,
        check: impl Fn(&Path) -> Result<(), LoadError>,
    ) -> Result<PathBuf, FetchError> {
        fs::create_dir_all(&self.dir).map_err(FileError::io("create", &self.dir))?;
        let path = self.weights(name);
        let mut file =
            tempfile::NamedTempFile::new_in(&self.dir).map_err(FileError::io("create a file in", &self.dir))?;
        file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(FileError::io("write", file.path()))?;
        check(file.path())?;
        file.persist(&path).map_err(|e| FileError::io("rename to", &path)(e.error))?;
        let record = Record {
            name: name.into(),
            source: source.place.into(),
            blake3: blake3::hash(bytes).to_hex().to_string(),
            note: source.note.into(),
        };
        let path_of_record = record_of(&path);
        let text = serde_json::to_vec_pretty(&record).map_err(|e| FileError::damaged(&path_of_record, e))?;
        write(&path_of_record, &text)?;
        sync_dir(&self.dir)?;
        Ok(path)
    }
}

fn record_of(weights: &Path) -> PathBuf {
    weights.with_extension("json")
}

pub(super) fn verify(path: &Path) -> Result<Record, FetchError> {
    let beside = record_of(path);
    let text = fs::read(&beside).map_err(FileError::io("read", &beside))?;
    let record: Record = serde_json::from_slice(&text)
        .map_err(|e| FileError::damaged(&beside, format!("{e}; delete it and fetch the weights again")))?;
    let bytes = fs::read(path).map_err(FileError::io("read", path))?;
    if blake3::hash(&bytes).to_hex().as_str() != record.blake3 {
        return Err(FetchError::Corrupt { path: path.into(), name: record.name });
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vit::{Hints, load};

    const SOURCE: Source = Source { place: "a place", note: "a note" };

    fn fixture() -> Vec<u8> {
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/vit/hf_dinov2.safetensors")).unwrap()
    }

    /// A cache with the small trunk of the parity tests in it.
    fn filled() -> (tempfile::TempDir, Cache, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { dir: dir.path().join("new/lucid") };
        let path = cache
            .install("tiny", &fixture(), &SOURCE, |p| load(p, &Hints { heads: Some(4), ..Hints::default() }).map(drop))
            .unwrap();
        (dir, cache, path)
    }

    #[test]
    fn vit_cache_is_where_the_variables_say() {
        let dir = |set: &[(&str, &str)]| {
            let get = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
            Cache::from_variables(get).map(|c| c.dir)
        };
        let all = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("LUCID_CACHE", "/l")];
        assert_eq!(dir(&all).unwrap(), Path::new("/l"));
        assert_eq!(dir(&all[..2]).unwrap(), Path::new("/x/lucid"));
        assert_eq!(dir(&all[..1]).unwrap(), Path::new("/h/.cache/lucid"));
        assert!(dir(&[]).unwrap_err().to_string().contains("LUCID_CACHE"));
    }

    #[test]
    fn vit_cache_keeps_weights_with_their_source() {
        let (_dir, cache, path) = filled();
        assert_eq!(cache.locate("tiny"), Located::Cached(path.clone()));
        let record = verify(&path).unwrap();
        assert_eq!((record.source.as_str(), record.note.as_str()), ("a place", "a note"));
        let mut names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["tiny.json", "tiny.safetensors"], "nothing else is left behind");
    }

    #[test]
    fn vit_cache_names_the_file_that_changed() {
        let (_dir, _, path) = filled();
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = verify(&path).unwrap_err();
        assert!(matches!(error, FetchError::Corrupt { .. }));
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains("delete it and run `lucid vit fetch tiny`"));
    }

    #[test]
    fn vit_cache_counts_weights_without_a_record_as_missing() {
        let (_dir, cache, path) = filled();
        fs::remove_file(record_of(&path)).unwrap();
        assert_eq!(cache.locate("tiny"), Located::Missing);
    }

    #[test]
    fn vit_cache_refuses_the_weights_of_another_trunk() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { dir: dir.path().into() };
        let check = |path: &Path| crate::vit::KNOWN[0].check(path);
        let error = cache.install("other", &fixture(), &SOURCE, check).unwrap_err();
        assert!(matches!(error, FetchError::Vit(_)), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }
}
