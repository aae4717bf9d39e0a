//! The frozen Vision Transformer: weights under other libraries' names, preprocessing, forward pass, pooling.
//!
//! Weights live below `enc/vit/` in the parameter tree and are read in place; nothing here computes a gradient.

mod features;
mod forward;
mod load;
mod names;
mod preprocess;
mod resample;
mod spec;

pub use features::{Features, agent_spaces, features_space};
pub use forward::{Images, Vit};
pub use load::{Loaded, Tree, check, load, load_with_heads, random};
pub use preprocess::{normalise, trunk_size};
pub use resample::{Filter, resize};
pub use spec::{Convention, VitSpec};

/// Place of the trunk in the parameter tree.
pub const PREFIX: &str = "enc/vit";

/// Why a Vision Transformer could not be loaded or built.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum VitError {
    /// The file is not there or cannot be read.
    #[error("cannot read ViT weights {file}: {error}")]
    Read { file: String, error: std::io::Error },
    /// Not safetensors, or cut short.
    #[error("ViT weights {file} are not a whole safetensors file ({reason}); fetch or copy them again")]
    Format { file: String, reason: String },
    /// The names belong to no known library.
    #[error("ViT weights {file}: names of no known library (first: {first}); known: {known}")]
    Convention { file: String, first: String, known: String },
    /// A tensor that the architecture needs is not there.
    #[error("ViT weights {file}: no tensor `{name}`; nearest: {nearest}")]
    Missing { file: String, name: String, nearest: String },
    /// A tensor that the architecture does not have.
    #[error("ViT weights {file}: unexpected tensor `{name}`; nearest expected: {nearest}")]
    Unexpected { file: String, name: String, nearest: String },
    /// A tensor of another shape.
    #[error("ViT weights {file}: `{name}` has shape {found:?}, but {wanted:?} is expected")]
    Shape { file: String, name: String, found: Vec<usize>, wanted: Vec<usize> },
    /// A tensor of a type that is not read.
    #[error("ViT weights {file}: `{name}` has type {dtype}; F32, F16 and BF16 are read")]
    Type { file: String, name: String, dtype: String },
    /// An architecture that cannot be built, or a file whose architecture cannot be told.
    #[error("ViT architecture: {0}")]
    Spec(String),
    /// An option of `[vit]` that fits no ViT.
    #[error("option vit.{key} = {value}: {reason}")]
    Option { key: &'static str, value: String, reason: String },
    /// From the parameter store.
    #[error(transparent)]
    Param(#[from] crate::params::ParamError),
}
