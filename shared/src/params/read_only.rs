//! Acting from snapshots: weights are read in place from shared memory.

use std::collections::BTreeMap;

use super::select::{below, check_new, join};
use super::store::{Entry, Origin};
use super::{Init, ParamError, Params, ReadOnly, Source, Weight};
use crate::snapshot::format::SnapshotView;

impl Params<ReadOnly> {
    /// A store over snapshots, each below its prefix: the policy's own paths are whole (prefix ``), a frozen encoder's lie
    /// below `enc/vit`, for example. Nothing is copied; the regions live as long as the store or a weight of it.
    pub fn read_only(snapshots: &[(&str, &SnapshotView)]) -> Result<Self, ParamError> {
        let mut entries = BTreeMap::new();
        for (prefix, view) in snapshots {
            for (path, mapped) in view.iter() {
                let path = join(prefix.trim_end_matches('/'), path);
                check_new(&entries, &path)?;
                let origin = Origin::Given(format!("snapshot {}", view.version()));
                entries.insert(path, Entry { weight: Weight::Mapped(mapped.clone()), frozen: true, origin });
            }
        }
        Ok(Self::with_phase(entries, ReadOnly))
    }

    /// A store of these parameters alone, which it shares: what would be found in a snapshot of them.
    pub fn only(params: &[(String, Weight)]) -> Self {
        let entry = |(path, weight): &(String, Weight)| {
            let entry = Entry { weight: weight.clone(), frozen: true, origin: Origin::Given("subset".to_string()) };
            (path.clone(), entry)
        };
        Self::with_phase(params.iter().map(entry).collect(), ReadOnly)
    }
}

impl Source for Params<ReadOnly> {
    fn weight(&self, path: &str, shape: &[usize], _: Init) -> Result<Weight, ParamError> {
        self.lookup_shaped(path, shape).map_err(|error| match error {
            ParamError::Missing { path, nearest, .. } => {
                let prefix = absent_prefix(&self.entries.read(), &path);
                ParamError::NotInSnapshot { path, prefix, nearest }
            }
            other => other,
        })
    }
}

/// The shortest prefix of a path below which nothing exists.
fn absent_prefix(entries: &BTreeMap<String, Entry>, path: &str) -> String {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let mut prefixes = ends.map(|end| &path[..end]);
    prefixes.find(|prefix| !entries.keys().any(|p| below(p, prefix))).unwrap_or(path).to_string()
}
