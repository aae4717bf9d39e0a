//! Trees of plain arrays by key, and their files (safetensors).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{ParamError, Weight};
use crate::array::{Array, DType};

/// Values by key; keys are paths, relative to wherever the tree was taken from.
pub type Tree = BTreeMap<String, Array>;

/// Free text that a file carries beside its tensors.
pub type Metadata = BTreeMap<String, String>;

/// A copy of a parameter's values.
pub(super) fn to_array(weight: &Weight) -> candle_core::Result<Array> {
    weight.with_values(|values| Array::f32(weight.shape(), values))
}

/// Copies of parameters by path, from `subset` or anything else that lists them.
pub fn to_tree(params: &[(String, Weight)]) -> Result<Tree, ParamError> {
    params.iter().map(|(path, weight)| Ok((path.clone(), to_array(weight)?))).collect()
}

/// Keys must be the same; else an error that lists the difference.
pub(super) fn check_same_keys<A, B>(
    what: &str,
    expected: &BTreeMap<String, A>,
    found: &BTreeMap<String, B>,
) -> Result<(), ParamError> {
    let missing: Vec<String> = expected.keys().filter(|k| !found.contains_key(*k)).cloned().collect();
    let unexpected: Vec<String> = found.keys().filter(|k| !expected.contains_key(*k)).cloned().collect();
    match missing.is_empty() && unexpected.is_empty() {
        true => Ok(()),
        false => Err(ParamError::Keys { what: what.to_string(), missing, unexpected }),
    }
}

/// Write a tree and its metadata to a file, in place; atomic replacement is the caller's matter.
pub fn save(file: &Path, tree: &Tree, metadata: &Metadata) -> Result<(), ParamError> {
    let bytes = serialize(tree, metadata).map_err(|e| damaged(file, e))?;
    std::fs::write(file, bytes).map_err(|source| ParamError::File { file: file.to_path_buf(), source })
}

fn serialize(tree: &Tree, metadata: &Metadata) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let mut views = Vec::with_capacity(tree.len());
    for (key, array) in tree {
        views.push((key, TensorView::new(to_file(array.dtype), array.shape.clone(), &array.bytes)?));
    }
    let metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
    safetensors::serialize(views, Some(metadata))
}

/// Read a tree and its metadata, types as they are in the file.
pub fn load(file: &Path) -> Result<(Tree, Metadata), ParamError> {
    read(file, |key, view| {
        let dtype = from_file(view.dtype()).ok_or_else(|| unsupported(file, key, view.dtype()))?;
        Ok(Array { dtype, shape: view.shape().to_vec(), bytes: view.data().to_vec() })
    })
}

/// Read a tree of pretrained weights, every floating type cast to float32; other types are an error.
pub fn load_f32(file: &Path) -> Result<(Tree, Metadata), ParamError> {
    read(file, |key, view| {
        let values = floats(view.dtype(), view.data()).ok_or_else(|| unsupported(file, key, view.dtype()))?;
        Ok(Array::f32(view.shape(), &values))
    })
}

fn read(
    file: &Path,
    convert: impl Fn(&str, &TensorView) -> Result<Array, ParamError>,
) -> Result<(Tree, Metadata), ParamError> {
    let bytes = std::fs::read(file).map_err(|source| ParamError::File { file: file.to_path_buf(), source })?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(file, e))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(file, e))?;
    let one = |(key, view): (&str, TensorView)| Ok((key.to_string(), convert(key, &view)?));
    let tree = tensors.iter().map(one).collect::<Result<Tree, ParamError>>()?;
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok((tree, metadata))
}

fn damaged(file: &Path, error: safetensors::SafeTensorError) -> ParamError {
    ParamError::Damaged { file: file.to_path_buf(), message: error.to_string() }
}

fn unsupported(file: &Path, key: &str, dtype: Dtype) -> ParamError {
    ParamError::FileDtype { file: file.to_path_buf(), path: key.to_string(), dtype: format!("{dtype:?}") }
}

fn to_file(dtype: DType) -> Dtype {
    match dtype {
        DType::U8 => Dtype::U8,
        DType::U16 => Dtype::U16,
        DType::I32 => Dtype::I32,
        DType::U64 => Dtype::U64,
        DType::F16 => Dtype::F16,
        DType::F32 => Dtype::F32,
    }
}

fn from_file(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::U8 => Some(DType::U8),
        Dtype::U16 => Some(DType::U16),
        Dtype::I32 => Some(DType::I32),
        Dtype::U64 => Some(DType::U64),
        Dtype::F16 => Some(DType::F16),
        Dtype::F32 => Some(DType::F32),
        _ => None,
    }
}

fn floats(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    use bytemuck::allocation::pod_collect_to_vec;
    Some(match dtype {
        Dtype::F32 => pod_collect_to_vec(bytes),
        Dtype::F16 => pod_collect_to_vec::<u8, f16>(bytes).into_iter().map(f16::to_f32).collect(),
        Dtype::BF16 => {
            let bits = pod_collect_to_vec::<u8, u16>(bytes).into_iter();
            bits.map(|b| bf16::from_bits(b).to_f32()).collect()
        }
        Dtype::F64 => pod_collect_to_vec::<u8, f64>(bytes).into_iter().map(|x| x as f32).collect(),
        _ => return None,
    })
}
