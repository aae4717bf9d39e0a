//! What a file is, from its first bytes.

use super::error::Problem;
use super::{onnx, torch};

/// What reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Safetensors,
    /// JSON that says which file has which tensor.
    Index,
    TorchZip,
    TorchOld,
    Onnx,
}

/// Beginnings of files that people take for weights, what they are, and what to do.
const OTHERS: [(&[u8], &str, &str); 7] = [
    (b"version https://git-lfs", "a Git LFS pointer instead of the file", "run `git lfs pull` where it was cloned"),
    (b"<!DOCTYPE", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
    (b"\x89HDF", "an HDF5 file of Keras or h5py", CONVERT),
    (b"GGUF", "a GGUF file", CONVERT),
    (b"\x93NUMPY", "a NumPy array", CONVERT),
    (b"\x1f\x8b", "a file packed with gzip", "unpack it first"),
];
const CONVERT: &str = "convert it to safetensors";
const KNOWN: &str = "safetensors, PyTorch and ONNX files are read";

/// What the file is.
pub(super) fn kind(bytes: &[u8]) -> Result<Kind, Problem> {
    if bytes.is_empty() {
        return Err(Problem::refused("an empty file", "fetch or save it again"));
    }
    if let Some((_, what, remedy)) = OTHERS.iter().find(|(start, ..)| bytes.starts_with(start)) {
        return Err(Problem::refused(*what, remedy));
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Ok(Kind::TorchZip);
    }
    if torch::old::is(bytes) {
        return Ok(Kind::TorchOld);
    }
    // The length before a header of safetensors has a zero among its bytes; text has none.
    let text = bytes[0] == b'{' && !bytes.iter().take(8).any(|byte| *byte == 0);
    match bytes.get(8) {
        _ if text => Ok(Kind::Index),
        Some(b'{') => Ok(Kind::Safetensors),
        _ if onnx::is(bytes) => Ok(Kind::Onnx),
        _ if bytes.starts_with(b"\x80") => Err(Problem::refused("a pickle that torch.save did not write", KNOWN)),
        _ => Err(Problem::refused("this is no weights file", KNOWN)),
    }
}
