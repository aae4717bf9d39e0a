//! From an exported DINOv2 (ONNX) back to the tensors of the Hugging Face checkpoint.
//!
//! The export's parameters are below `backbone.`. Position embeddings are in two parts: the class token's and the patches'.

use std::collections::BTreeMap;
use std::path::Path;

use shared::array::Array;

use crate::durable::{FileError, encode_arrays};
use crate::weights::{WeightsError, WeightsFile};

/// Why a file is not the export that is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConvertError {
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    File(#[from] FileError),
}

const PREFIX: &str = "backbone.";
const CLASS_POSITION: &str = "backbone.embeddings.Concat_6";
const PATCH_POSITIONS: &str = "backbone.embeddings.Reshape_1";

/// Tensors of the trunk, as a safetensors file under Hugging Face's names.
pub(super) fn to_safetensors(onnx: Vec<u8>) -> Result<Vec<u8>, ConvertError> {
    Ok(encode_arrays(Path::new("converted weights"), &convert(onnx)?)?)
}

fn convert(onnx: Vec<u8>) -> Result<BTreeMap<String, Array>, ConvertError> {
    let file = WeightsFile::from_bytes(onnx)?;
    let mut weights = BTreeMap::new();
    let is_parameter = |name: &&str| ![CLASS_POSITION, PATCH_POSITIONS].contains(name);
    for name in file.names().filter(is_parameter) {
        if let (Some(own), Some(shape)) = (name.strip_prefix(PREFIX), file.shape(name)) {
            weights.insert(own.to_string(), Array::f32(shape, &file.values(name)?));
        }
    }
    weights.insert("embeddings.position_embeddings".into(), positions(&file)?);
    Ok(weights)
}

fn positions(file: &WeightsFile) -> Result<Array, WeightsError> {
    let class = file.values(CLASS_POSITION)?;
    let both = [&class[..], &file.values(PATCH_POSITIONS)?].concat();
    let rows = both.len().checked_div(class.len()).unwrap_or(0);
    Ok(Array::f32(&[1, rows, class.len()], &both[..rows * class.len()]))
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

    /// A model of this graph.
    fn onnx(graph: &[u8]) -> Vec<u8> {
        [&[8, 8][..], &field(7, graph)].concat()
    }

    /// A model with one linear layer, of width 2.
    fn model() -> Vec<u8> {
        let parts = [
            node("/backbone/encoder/layer.0/mlp/fc1/MatMul", &["computed", "onnx::MatMul_9"]),
            node("/backbone/encoder/layer.0/attention/attention/MatMul", &["computed", "computed too"]),
            node("/backbone/embeddings/Reshape_1", &["onnx::Reshape_2"]),
            node("/backbone/embeddings/Concat_6", &["onnx::Concat_1", "computed"]),
            tensor("onnx::MatMul_9", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            tensor("backbone.encoder.layer.0.mlp.fc1.bias", &[3], &[7.0, 8.0, 9.0]),
            tensor("decoder.bias", &[1], &[0.0]),
            tensor("onnx::Concat_1", &[1, 1, 2], &[10.0, 11.0]),
            tensor("onnx::Reshape_2", &[1, 2, 2], &[12.0, 13.0, 14.0, 15.0]),
        ];
        onnx(&parts.concat())
    }

    #[test]
    fn vit_convert_gives_kernels_and_positions_their_names() {
        let wanted = [
            ("embeddings.position_embeddings", Array::f32(&[1, 3, 2], &[10.0, 11.0, 12.0, 13.0, 14.0, 15.0])),
            ("encoder.layer.0.mlp.fc1.bias", Array::f32(&[3], &[7.0, 8.0, 9.0])),
            ("encoder.layer.0.mlp.fc1.weight", Array::f32(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])),
        ];
        assert_eq!(convert(model()).unwrap(), BTreeMap::from(wanted.map(|(n, a)| (n.to_string(), a))));
    }

    #[test]
    fn vit_convert_names_what_does_not_fit() {
        let cut = onnx(&tensor("kernel", &[2, 2], &[1.0]));
        let error = convert(cut).unwrap_err().to_string();
        assert!(error.contains("tensor `kernel` of shape [2, 2] has 4 bytes"), "{error}");
        let error = convert(onnx(&tensor("kernel", &[1], &[1.0]))).unwrap_err().to_string();
        assert!(error.ends_with(&format!("has no tensor `{CLASS_POSITION}`")), "{error}");
    }

    proptest! {
        #[test]
        fn vit_convert_survives_damage(cut in 0usize..900, at in 0usize..900, byte in any::<u8>()) {
            let mut bytes = model();
            let len = bytes.len();
            bytes[at % len] = byte;
            bytes.truncate(len - cut % len);
            // Either is right; a panic is not.
            let _ = to_safetensors(bytes);
        }

        #[test]
        fn vit_convert_survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = to_safetensors([onnx(&bytes), bytes].concat());
        }
    }
}
