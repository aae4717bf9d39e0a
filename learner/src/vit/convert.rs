//! From an exported DINOv2 (ONNX) back to the tensors of the Hugging Face checkpoint.
//!
//! The export keeps the names of biases, norms, scales and the patch projection (`backbone.…`). Kernels of linear layers
//! are anonymous and lie as [in, out]; the name of the MatMul node that takes one says whose it is. Position embeddings
//! are in two parts: the class token's and the patches'.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use shared::array::{Array, DType};

use super::protobuf::{Malformed, Value, fields, varint};
use crate::durable::{FileError, encode_arrays};

/// Why a file is not the export that is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConvertError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("ONNX tensor `{name}` of shape {shape:?} has {bytes} bytes")]
    Size { name: String, shape: Vec<u64>, bytes: usize },
    #[error("ONNX node `{0}` with a tensor of its own is not there")]
    Node(&'static str),
    #[error(transparent)]
    File(#[from] FileError),
}

const CLASS_POSITION: &str = "/backbone/embeddings/Concat_6";
const PATCH_POSITIONS: &str = "/backbone/embeddings/Reshape_1";
/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;

/// Tensors of the trunk, as a safetensors file under Hugging Face's names.
pub(super) fn to_safetensors(onnx: &[u8]) -> Result<Vec<u8>, ConvertError> {
    Ok(encode_arrays(Path::new("converted weights"), &convert(onnx)?)?)
}

fn convert(onnx: &[u8]) -> Result<BTreeMap<String, Array>, ConvertError> {
    let graph = Graph::read(onnx)?;
    let named = |(name, array): (&String, &Array)| Some((name.strip_prefix("backbone.")?.to_string(), array.clone()));
    let mut weights: BTreeMap<String, Array> = graph.tensors.iter().filter_map(named).collect();
    for (node, inputs) in &graph.nodes {
        let layer = node.strip_prefix("/backbone/").and_then(|n| n.strip_suffix("/MatMul"));
        if let (Some(layer), Some(kernel)) = (layer, graph.own(inputs)) {
            weights.insert(format!("{}.weight", layer.replace('/', ".")), transposed(kernel));
        }
    }
    weights.insert("embeddings.position_embeddings".into(), graph.positions()?);
    Ok(weights)
}

/// The float tensors of a model, and which of them each node takes.
#[derive(Default)]
struct Graph {
    nodes: HashMap<String, Vec<String>>,
    tensors: BTreeMap<String, Array>,
}

impl Graph {
    fn read(model: &[u8]) -> Result<Self, ConvertError> {
        let mut graph = Self::default();
        for field in fields(model) {
            if let (7, Value::Bytes(message)) = field? {
                graph.read_graph(message)?;
            }
        }
        Ok(graph)
    }

    fn read_graph(&mut self, message: &[u8]) -> Result<(), ConvertError> {
        for field in fields(message) {
            match field? {
                (1, Value::Bytes(node)) => self.nodes.extend([read_node(node)?]),
                (5, Value::Bytes(tensor)) => self.tensors.extend(read_tensor(tensor)?),
                _ => {}
            }
        }
        Ok(())
    }

    /// The first of a node's inputs that the file holds, rather than another node computes.
    fn own(&self, inputs: &[String]) -> Option<&Array> {
        inputs.iter().find_map(|input| self.tensors.get(input))
    }

    fn positions(&self) -> Result<Array, ConvertError> {
        let of = |node| self.nodes.get(node).and_then(|n| self.own(n)).ok_or(ConvertError::Node(node));
        let (class, patches) = (of(CLASS_POSITION)?, of(PATCH_POSITIONS)?);
        let width = class.shape.iter().product::<usize>();
        let bytes = [&class.bytes[..], &patches.bytes].concat();
        let rows = (bytes.len() / size_of::<f32>()).checked_div(width).unwrap_or(0);
        Ok(Array { dtype: DType::F32, shape: vec![1, rows, width], bytes })
    }
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    str::from_utf8(bytes).map(str::to_string).map_err(|_| Malformed("a name that is not UTF-8"))
}

/// Name and inputs.
fn read_node(message: &[u8]) -> Result<(String, Vec<String>), Malformed> {
    let (mut name, mut inputs) = (String::new(), Vec::new());
    for field in fields(message) {
        match field? {
            (1, Value::Bytes(input)) => inputs.push(text(input)?),
            (3, Value::Bytes(bytes)) => name = text(bytes)?,
            _ => {}
        }
    }
    Ok((name, inputs))
}

/// Name and values; none if it is not of floats.
fn read_tensor(message: &[u8]) -> Result<Option<(String, Array)>, ConvertError> {
    let (mut name, mut shape, mut kind, mut raw) = (String::new(), Vec::new(), 0, &[][..]);
    for field in fields(message) {
        match field? {
            (1, Value::Number(side)) => shape.push(side),
            (1, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    shape.push(varint(&mut packed)?);
                }
            }
            (2, Value::Number(number)) => kind = number,
            (8, Value::Bytes(bytes)) => name = text(bytes)?,
            (9, Value::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    if kind != FLOAT {
        return Ok(None);
    }
    let bytes = shape.iter().try_fold(size_of::<f32>() as u64, |n, &side| n.checked_mul(side));
    if bytes != Some(raw.len() as u64) {
        return Err(ConvertError::Size { name, shape, bytes: raw.len() });
    }
    let shape = shape.into_iter().map(|side| side as usize).collect();
    Ok(Some((name, Array { dtype: DType::F32, shape, bytes: raw.to_vec() })))
}

/// [in, out] to [out, in]; anything but a matrix stays.
fn transposed(kernel: &Array) -> Array {
    let [rows, cols] = kernel.shape[..] else { return kernel.clone() };
    let values = kernel.bytes.as_chunks::<4>().0;
    let bytes = (0..cols).flat_map(|c| (0..rows).flat_map(move |r| values[r * cols + c])).collect();
    Array { dtype: kernel.dtype, shape: vec![cols, rows], bytes }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        assert!(content.len() < 128 * 128);
        [&[number << 3 | 2, content.len() as u8 | 0x80, (content.len() >> 7) as u8], content].concat()
    }

    fn tensor(name: &str, shape: &[u8], values: &[f32]) -> Vec<u8> {
        let sides: Vec<u8> = shape.iter().flat_map(|&side| [8, side]).collect();
        let raw = bytemuck::cast_slice(values);
        field(5, &[&sides[..], &[16, 1], &field(8, name.as_bytes()), &field(9, raw)].concat())
    }

    fn node(name: &str, inputs: &[&str]) -> Vec<u8> {
        let inputs: Vec<u8> = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect();
        field(1, &[inputs, field(3, name.as_bytes())].concat())
    }

    /// A model with one linear layer, of width 2.
    fn model() -> Vec<u8> {
        let parts = [
            node("/backbone/encoder/layer.0/mlp/fc1/MatMul", &["computed", "onnx::MatMul_9"]),
            node("/backbone/encoder/layer.0/attention/attention/MatMul", &["computed", "computed too"]),
            node(PATCH_POSITIONS, &["onnx::Reshape_2"]),
            node(CLASS_POSITION, &["onnx::Concat_1", "computed"]),
            tensor("onnx::MatMul_9", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            tensor("backbone.encoder.layer.0.mlp.fc1.bias", &[3], &[7.0, 8.0, 9.0]),
            tensor("decoder.bias", &[1], &[0.0]),
            tensor("onnx::Concat_1", &[1, 1, 2], &[10.0, 11.0]),
            tensor("onnx::Reshape_2", &[1, 2, 2], &[12.0, 13.0, 14.0, 15.0]),
        ];
        field(7, &parts.concat())
    }

    #[test]
    fn vit_convert_gives_kernels_and_positions_their_names() {
        let wanted = [
            ("embeddings.position_embeddings", Array::f32(&[1, 3, 2], &[10.0, 11.0, 12.0, 13.0, 14.0, 15.0])),
            ("encoder.layer.0.mlp.fc1.bias", Array::f32(&[3], &[7.0, 8.0, 9.0])),
            ("encoder.layer.0.mlp.fc1.weight", Array::f32(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])),
        ];
        assert_eq!(convert(&model()).unwrap(), BTreeMap::from(wanted.map(|(n, a)| (n.to_string(), a))));
    }

    #[test]
    fn vit_convert_names_what_does_not_fit() {
        let cut = field(7, &tensor("kernel", &[2, 2], &[1.0]));
        assert_eq!(convert(&cut).unwrap_err().to_string(), "ONNX tensor `kernel` of shape [2, 2] has 4 bytes");
        let error = convert(&field(7, &[])).unwrap_err().to_string();
        assert_eq!(error, format!("ONNX node `{CLASS_POSITION}` with a tensor of its own is not there"));
    }

    proptest! {
        #[test]
        fn vit_convert_survives_damage(cut in 0usize..900, at in 0usize..900, byte in any::<u8>()) {
            let mut bytes = model();
            let len = bytes.len();
            bytes[at % len] = byte;
            bytes.truncate(len - cut % len);
            // Either is right; a panic is not.
            let _ = to_safetensors(&bytes);
        }

        #[test]
        fn vit_convert_survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = to_safetensors(&[field(7, &bytes), bytes].concat());
        }
    }
}
