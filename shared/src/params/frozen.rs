//! Digests of frozen subtrees: proof that pretrained weights stayed as they were loaded.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::layout::identity;
use super::select::select;
use super::store::Entry;
use super::{ParamError, Params, Phase, Run};

/// What is recorded of a frozen subtree when the store is sealed, and kept in a checkpoint in place of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenRecord {
    /// Module prefix or regex.
    pub prefix: String,
    /// BLAKE3 over sorted paths, types, shapes and bytes, in hex.
    pub digest: String,
    /// Where the weights came from.
    pub source: String,
    /// Size of the values in bytes.
    pub bytes: usize,
    /// Digest of each tensor by path, so that a changed one can be named; empty in records of before they were kept.
    #[serde(default)]
    pub tensors: BTreeMap<String, String>,
}

/// A frozen subtree, as recorded and as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenReport {
    /// Module prefix or regex.
    pub prefix: String,
    /// Digest taken when the weights were loaded.
    pub recorded: String,
    /// Digest of the weights as they are now.
    pub found: String,
    /// Where the weights came from.
    pub source: String,
    /// Size of the values in bytes.
    pub bytes: usize,
    /// Paths of the tensors that are not the recorded ones, sorted; empty if all are, or if their digests were not recorded.
    pub changed: Vec<String>,
}

impl FrozenReport {
    /// Whether the weights are still the recorded ones.
    pub fn holds(&self) -> bool {
        self.recorded == self.found
    }
}

impl<P: Phase> Params<P> {
    /// BLAKE3 digest of what a pattern selects, in hex: over sorted paths, types, shapes and bytes.
    pub fn digest(&self, pattern: &str) -> Result<String, ParamError> {
        Ok(self.record(pattern)?.digest)
    }

    /// What there is to record of what a pattern selects, as it is now.
    pub fn record(&self, pattern: &str) -> Result<FrozenRecord, ParamError> {
        record(&self.entries.read(), pattern, P::NAME)
    }

    /// Compare frozen subtrees with records, those of a checkpoint for example.
    pub fn verify_against(&self, records: &[FrozenRecord]) -> Result<Vec<FrozenReport>, ParamError> {
        let entries = self.entries.read();
        let report = |recorded: &FrozenRecord| {
            let found = record(&entries, &recorded.prefix, P::NAME)?;
            Ok(FrozenReport {
                prefix: recorded.prefix.clone(),
                recorded: recorded.digest.clone(),
                found: found.digest,
                source: recorded.source.clone(),
                bytes: found.bytes,
                changed: changed(&recorded.tensors, &found.tensors),
            })
        };
        records.iter().map(report).collect()
    }
}

impl Params<Run> {
    /// The frozen subtrees as they were when the store was sealed.
    pub fn frozen(&self) -> &[FrozenRecord] {
        &self.phase.frozen
    }

    /// Recompute every frozen digest.
    pub fn verify(&self) -> Result<Vec<FrozenReport>, ParamError> {
        self.verify_against(&self.phase.frozen)
    }
}

/// Paths that have another digest, or are only on one side.
fn changed(recorded: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> Vec<String> {
    let paths: BTreeSet<&String> = recorded.keys().chain(found.keys()).filter(|_| !recorded.is_empty()).collect();
    paths.into_iter().filter(|path| recorded.get(*path) != found.get(*path)).cloned().collect()
}

/// Digests, source and size of what a pattern selects.
pub(super) fn record(
    entries: &BTreeMap<String, Entry>,
    pattern: &str,
    phase: &'static str,
) -> Result<FrozenRecord, ParamError> {
    let mut hasher = blake3::Hasher::new();
    let (mut sources, mut tensors, mut bytes) = (BTreeSet::new(), BTreeMap::new(), 0);
    for path in select(entries, pattern, phase)?.paths {
        let entry = &entries[&path];
        let (identity, mut own) = (identity(&path, entry.weight.shape()), blake3::Hasher::new());
        bytes += entry.weight.with_values(|values| {
            for hasher in [&mut hasher, &mut own] {
                hasher.update(&identity).update(bytemuck::cast_slice(values));
            }
            size_of_val(values)
        })?;
        sources.insert(entry.origin.to_string());
        tensors.insert(path, own.finalize().to_hex().to_string());
    }
    let digest = hasher.finalize().to_hex().to_string();
    let source = sources.into_iter().collect::<Vec<_>>().join(", ");
    Ok(FrozenRecord { prefix: pattern.to_string(), digest, source, bytes, tensors })
}
