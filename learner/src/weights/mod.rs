//! Placeholder until the readers are merged.
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

/// Tensors by name.
pub struct WeightsFile {
    bytes: Vec<u8>,
    names: Vec<String>,
    shapes: std::collections::BTreeMap<String, Vec<usize>>,
}

/// Error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WeightsError(String);

impl WeightsFile {
    /// Open.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let bytes = std::fs::read(path).map_err(|e| WeightsError(format!("cannot read {}: {e}", path.display())))?;
        let st = SafeTensors::deserialize(&bytes).map_err(|e| WeightsError(format!("{}: {e}", path.display())))?;
        let mut names: Vec<String> = st.names().into_iter().map(str::to_string).collect();
        names.sort();
        let shapes = st.tensors().into_iter().map(|(n, v)| (n, v.shape().to_vec())).collect();
        Ok(Self { bytes, names, shapes })
    }
    /// Names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
    /// Shape.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice)
    }
    /// Values.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let st = SafeTensors::deserialize(&self.bytes).map_err(|e| WeightsError(e.to_string()))?;
        let view = st.tensor(name).map_err(|e| WeightsError(e.to_string()))?;
        match view.dtype() {
            Dtype::F32 => Ok(bytemuck::pod_collect_to_vec(view.data())),
            other => Err(WeightsError(format!("{other:?}"))),
        }
    }
}
