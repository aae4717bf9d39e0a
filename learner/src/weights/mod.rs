//! Weights files as other libraries write them: safetensors (one file or several with an index), PyTorch, ONNX.
//!
//! Which format a file has is seen from its content. Files are mapped, and what nobody asks for is not read. Everything in them
//! is checked before it is believed: a damaged or hostile file is an error that says what is wrong, found at once and in little
//! memory. Nothing in a file is run.

mod error;
mod index;
mod onnx;
mod protobuf;
mod safetensors;
mod sniff;
mod source;
mod tensor;
mod torch;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use error::Problem;
pub use error::WeightsError;
use index::Index;
use sniff::Kind;
use source::Source;
use tensor::{NAME, Place, Tensor};

/// The format of a weights file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One file, or several with an index.
    Safetensors,
    /// What `torch.save` writes, since PyTorch 1.6 or before.
    Torch,
    /// The initialisers of an ONNX model.
    Onnx,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::Torch => "PyTorch",
            Self::Onnx => "ONNX",
        })
    }
}

/// The tensors of a weights file, by name; values are read when they are asked for.
#[derive(Debug)]
pub struct WeightsFile {
    format: Format,
    /// The first is the file itself.
    sources: Vec<Source>,
    tensors: BTreeMap<String, Tensor>,
}

impl WeightsFile {
    /// Open a file, an index of several (`*.safetensors.index.json`, `pytorch_model.bin.index.json`), or a folder that holds
    /// one: `model.safetensors` or its index, `pytorch_model.bin` or its index, else the only `*.safetensors`, `*.pth` or
    /// `*.onnx`.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        if path.is_dir() {
            return Self::open_file(Source::open(&index::of_folder(path)?)?);
        }
        Self::open_file(Source::open(path)?)
    }

    /// [`Self::open`] for the bytes of one file.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, WeightsError> {
        Self::read(Source::memory(bytes), None)
    }

    /// Names of all tensors, sorted. Those of a PyTorch checkpoint with nested dicts have the keys on the way before them:
    /// `model.norm.weight`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Sides of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| &tensor.shape[..])
    }

    /// Element type of a tensor, as the file calls it.
    pub fn dtype(&self, name: &str) -> Option<&str> {
        self.tensors.get(name).map(|tensor| tensor.dtype.as_str())
    }

    /// Values of a tensor, row by row; those of 64 bits are rounded.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let missing = || WeightsError::Missing { path: self.path().to_path_buf(), tensor: name.into() };
        let tensor = self.tensors.get(name).ok_or_else(missing)?;
        let source = &self.sources[tensor.place.source()];
        let element = tensor.element.ok_or_else(|| WeightsError::Element {
            path: source.path.clone(),
            tensor: name.into(),
            dtype: tensor.dtype.clone(),
        })?;
        match &tensor.place {
            Place::Bytes { range, .. } => Ok(tensor.of_bytes(&source[range.clone()], element)),
            Place::Fields { range, .. } => {
                let numbers = onnx::numbers(&source[range.clone()], element);
                numbers.and_then(|numbers| tensor.of_numbers(numbers)).map_err(|problem| problem.of(&source.path))
            }
        }
    }

    /// The format, which says whose names the tensors may have.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The file; of several, the first.
    pub fn path(&self) -> &Path {
        &self.sources[0].path
    }

    fn open_file(source: Source) -> Result<Self, WeightsError> {
        let folder = source.path.parent().unwrap_or(Path::new("")).to_path_buf();
        let kind = sniff::kind(&source).map_err(|problem| problem.of(&source.path))?;
        match kind {
            Kind::Index => Self::several(&source, &folder),
            _ => Self::read(source, Some(&folder)),
        }
    }

    /// One file; `folder` is where files that it refers to may lie.
    fn read(source: Source, folder: Option<&Path>) -> Result<Self, WeightsError> {
        let path = source.path.clone();
        let mut sources = vec![source.clone()];
        let tensors = sniff::kind(&source).and_then(|kind| match kind {
            Kind::Safetensors => Ok((Format::Safetensors, safetensors::read(&source)?)),
            Kind::TorchZip => Ok((Format::Torch, torch::zip::read(&source)?)),
            Kind::TorchOld => Ok((Format::Torch, torch::old::read(&source)?)),
            Kind::Onnx => Ok((Format::Onnx, onnx::read(&source, folder, &mut sources)?)),
            Kind::Index => Err(Problem::refused("an index of weights files", "name a file of weights here")),
        });
        let (format, tensors) = tensors.map_err(|problem| problem.of(&path))?;
        if tensors.is_empty() {
            let remedy = "name a file with the weights of a model";
            return Err(Problem::refused(format!("a {format} file without named tensors"), remedy).of(&path));
        }
        if let Some(name) = tensors.keys().find(|name| name.len() > NAME) {
            let what = format!("a tensor with a name of {} bytes, where {NAME} are allowed", name.len());
            return Err(Problem::damaged(what).of(&path));
        }
        Ok(Self { format, sources, tensors })
    }

    /// The files of an index.
    fn several(source: &Source, folder: &Path) -> Result<Self, WeightsError> {
        let of_index = |problem: Problem| problem.of(&source.path);
        let index = Index::read(source).map_err(of_index)?;
        let mut whole: Option<Self> = None;
        for (name, path) in index.shards(folder).map_err(of_index)? {
            let shard = Self::read(Source::open(&path)?, Some(folder))?.only(index.tensors_of(name))?;
            match &mut whole {
                None => whole = Some(shard),
                Some(whole) => whole.append(shard),
            }
        }
        whole.ok_or_else(|| of_index(Problem::refused("an index of no tensors", "name a file of weights")))
    }

    /// Without the tensors that are not named; all that are named must be there.
    fn only<'a>(mut self, names: impl Iterator<Item = &'a str>) -> Result<Self, WeightsError> {
        let mut tensors = BTreeMap::new();
        for name in names {
            let tensor = self.tensors.remove_entry(name);
            let (name, tensor) = tensor.ok_or_else(|| {
                Problem::damaged(format!("the index says that tensor `{name}` is in it, but it is not")).of(self.path())
            })?;
            tensors.insert(name, tensor);
        }
        Ok(Self { tensors, ..self })
    }

    fn append(&mut self, other: Self) {
        let first = self.sources.len();
        self.sources.extend(other.sources);
        let moved = other.tensors.into_iter().map(|(name, mut tensor)| {
            *tensor.place.source_mut() += first;
            (name, tensor)
        });
        self.tensors.extend(moved);
    }
}

#[cfg(test)]
mod tests;
