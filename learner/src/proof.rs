//! Proof that frozen parameters are what they were: against the records of a checkpoint, and against those taken when they were
//! loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::kernels::Precision;
use shared::params::{FrozenReport, ParamError, Params, ReadOnly};
use shared::snapshot::format::SnapshotView;
use shared::vit::{PREFIX, PRODUCTS, Tree, products};

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
    check_encoder(trunk.params(), frozen, trunk.precision)
}

/// The frozen encoder in a region, whose products are of this precision, must be the recorded one.
pub fn check_region(region: Vec<u8>, frozen: &Frozen, precision: Precision) -> Result<(), RunError> {
    let view = SnapshotView::open_altered(Arc::new(region))?;
    check_encoder(&Params::read_only(&[("", &view)])?, frozen, precision)
}

fn check_encoder(params: &Params<ReadOnly>, frozen: &Frozen, precision: Precision) -> Result<(), RunError> {
    refuse(params.verify_against(&[frozen.record(PREFIX)])?)?;
    check_products(params, precision)
}

/// Kernels that are laid out for products must be what the kernels, which are proven, give again.
fn check_products(params: &Params<ReadOnly>, precision: Precision) -> Result<(), RunError> {
    let (own, below) = (format!("{PREFIX}/"), format!("{PRODUCTS}/"));
    let (mut recorded, mut found) = (blake3::Hasher::new(), blake3::Hasher::new());
    let (mut bytes, mut changed) = (0, Vec::new());
    for path in params.paths().into_iter().filter(|path| path.starts_with(&below)) {
        let name = path.replacen(&below, "", 1);
        let kernel = params.lookup(&format!("{own}{name}"))?;
        let tree = Tree::from([(name, (kernel.shape().to_vec(), kernel.to_vec().map_err(ParamError::from)?))]);
        let expected = products(&tree, precision).into_iter().flat_map(|(_, values)| values);
        let expected: Vec<u32> = expected.map(f32::to_bits).collect();
        let values = params.lookup(&path)?.to_vec().map_err(ParamError::from)?;
        let values: Vec<u32> = values.into_iter().map(f32::to_bits).collect();
        let in_bytes = |bits: &[u32]| bits.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<u8>>();
        recorded.update(&in_bytes(&expected));
        found.update(&in_bytes(&values));
        bytes += 4 * values.len();
        if expected != values {
            changed.push(path);
        }
    }
    let [recorded, found] = [recorded, found].map(|hasher| hasher.finalize().to_hex().to_string());
    let (prefix, source) = (PRODUCTS.to_string(), format!("kernels of {PREFIX}, laid out"));
    refuse(vec![FrozenReport { prefix, recorded, found, source, bytes, changed }])
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
