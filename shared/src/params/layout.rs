//! The layout of a set of parameters, as one number that both sides of a link can compare.

use xxhash_rust::xxh3::Xxh3;

use super::Weight;
use crate::array::DType;

/// Element type of every parameter.
pub(crate) const DTYPE: DType = DType::F32;

/// Name of an element type in messages, layouts and digests.
pub(crate) fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::U8 => "u8",
        DType::U16 => "u16",
        DType::I32 => "i32",
        DType::U64 => "u64",
        DType::F16 => "f16",
        DType::F32 => "f32",
    }
}

/// Layout fingerprint of parameters in any order: equal exactly if paths, types and shapes are (up to a hash collision).
/// Values do not matter.
pub fn fingerprint(params: &[(String, Weight)]) -> u64 {
    layout_hash(params.iter().map(|(path, weight)| (path.as_str(), weight.shape())))
}

/// The same over paths and shapes alone.
pub(crate) fn layout_hash<'a>(layout: impl Iterator<Item = (&'a str, &'a [usize])>) -> u64 {
    let mut sorted: Vec<_> = layout.collect();
    sorted.sort();
    let mut hasher = Xxh3::new();
    for (path, shape) in sorted {
        hasher.update(&identity(path, shape));
    }
    hasher.digest()
}

/// Path, type and shape as bytes; lengths come first, so no two layouts share an encoding.
pub(super) fn identity(path: &str, shape: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len() + 8 * shape.len() + 24);
    for text in [path, dtype_name(DTYPE)] {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.extend_from_slice(&(shape.len() as u64).to_le_bytes());
    shape.iter().for_each(|&d| bytes.extend_from_slice(&(d as u64).to_le_bytes()));
    bytes
}
