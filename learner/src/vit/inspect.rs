//! What a weights file holds, told rather than refused.

use std::path::Path;

use shared::vit::VitSpec;

use super::load::{Hints, LoadError, Reader, load};
use crate::weights::WeightsFile;

/// A weights file as seen by [`load`].
pub struct Inspection {
    /// Tensors in the file.
    pub tensors: usize,
    /// Whose names they have.
    pub names: &'static str,
    /// What precedes the trunk's names.
    pub prefix: String,
    /// Tensors of the trunk.
    pub used: usize,
    /// Tensors of other parts: heads, decoders, other encoders.
    pub ignored: Vec<String>,
    /// Names that the trunk needs and the file lacks.
    pub missing: Vec<String>,
    /// Names below the prefix that nothing is known of.
    pub unexpected: Vec<String>,
    /// Sizes and number of parameters, or why it cannot be loaded.
    pub trunk: Result<(VitSpec, usize), LoadError>,
}

/// Look into a weights file. An error if it is none, or of no known library.
pub fn inspect(path: &Path, hints: &Hints) -> Result<Inspection, LoadError> {
    let weights = WeightsFile::open(path)?;
    let reader = Reader::new(path.display().to_string(), &weights, hints)?;
    let (missing, unexpected) = (reader.missing(), reader.unexpected());
    let ignored = reader.ignored();
    let tensors = weights.names().count();
    let parameters = |loaded: super::Loaded| {
        let count = loaded.tensors.values().map(|(_, values)| values.len()).sum();
        (loaded.spec, count)
    };
    Ok(Inspection {
        tensors,
        names: reader.table.name,
        prefix: reader.prefix.clone(),
        used: tensors - ignored.len() - unexpected.len(),
        ignored: ignored.into_iter().map(str::to_string).collect(),
        unexpected: unexpected.into_iter().map(str::to_string).collect(),
        missing,
        trunk: load(path, hints).map(parameters),
    })
}
