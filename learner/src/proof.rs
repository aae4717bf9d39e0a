//! Proof that frozen parameters are what they were: against the records of a checkpoint, and against those taken when they were
//! loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::params::{FrozenReport, Params};
use shared::snapshot::format::SnapshotView;
use shared::vit::PREFIX;

use crate::RunError;
use crate::agent::Agent;
use crate::checkpoint::Frozen;
use crate::frozen::Trunk;

/// Changed tensors that an error names.
const NAMED: usize = 3;

/// Frozen parameters must be those that the run was made with.
pub fn check_frozen(agent: &Agent, trunk: Option<&Trunk>, recorded: &BTreeMap<String, Frozen>) -> Result<(), RunError> {
    let trunk = trunk.filter(|trunk| trunk.record.is_some());
    for (prefix, frozen) in recorded {
        let record = [frozen.record(prefix)];
        match trunk {
            Some(trunk) if prefix == PREFIX => refuse(trunk.params().verify_against(&record)?)?,
            _ => refuse(agent.params().verify_against(&record)?)?,
        }
    }
    Ok(())
}

/// An agent's frozen parameters must be those that it was made or restored with.
pub fn check_agent(agent: &Agent) -> Result<(), RunError> {
    refuse(agent.params().verify()?)
}

/// A trunk's parameters must be those that were loaded.
pub fn check_trunk(trunk: &Trunk) -> Result<(), RunError> {
    trunk.record.as_ref().map_or(Ok(()), |frozen| check_trunk_against(trunk, frozen))
}

/// A trunk's parameters must be the recorded ones.
pub fn check_trunk_against(trunk: &Trunk, frozen: &Frozen) -> Result<(), RunError> {
    refuse(trunk.params().verify_against(&[frozen.record(PREFIX)])?)
}

/// The frozen encoder in a region must be the recorded one.
pub fn check_region(region: Vec<u8>, frozen: &Frozen) -> Result<(), RunError> {
    let view = SnapshotView::open_altered(Arc::new(region))?;
    let params = Params::read_only(&[("", &view)])?;
    refuse(params.verify_against(&[frozen.record(PREFIX)])?)
}

/// The first subtree that is not as recorded is an error.
fn refuse(reports: Vec<FrozenReport>) -> Result<(), RunError> {
    let Some(report) = reports.into_iter().find(|report| !report.holds()) else { return Ok(()) };
    let FrozenReport { prefix, recorded, found, source: origin, changed, .. } = report;
    let more = changed.len().saturating_sub(NAMED);
    let mut tensors = changed.iter().take(NAMED).map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
    if more > 0 {
        tensors += &format!(" and {more} more");
    }
    if tensors.is_empty() {
        tensors = format!("`{prefix}`");
    }
    Err(RunError::Frozen { tensors, prefix, recorded, found, origin })
}
