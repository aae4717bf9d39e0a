//! The Vision Transformer: sizes, preprocessing, forward pass, pooling, and the last blocks, which can train.
//!
//! Weights live below `enc/vit/` in the parameter tree and are read in place. Only [`Tail`] computes gradients.

mod features;
mod forward;
mod preprocess;
mod resample;
mod spec;
mod tail;
mod tree;

pub use features::{Features, agent_spaces, features_space, round_features, trainable_blocks};
pub use forward::{Images, Vit, products};
pub use preprocess::{fixed_size, normalise, whole_patches};
pub use resample::{Filter, resize};
pub use spec::{Activation, Pixels, Positions, VitSpec};
pub use tail::{Tail, TailSpec};
pub use tree::{Tree, check, nearest, random, split};

/// Place of the trunk in the parameter tree.
pub const PREFIX: &str = "enc/vit";
/// Place beside it of kernels that are laid out for products in another precision.
pub const PRODUCTS: &str = "products";

/// Below the adapter's numbers of a key: those for what the decoder predicts, where blocks train.
pub const TARGET: &str = "target";

/// Why a Vision Transformer could not be loaded or built.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum VitError {
    /// A tensor that the architecture needs is not there.
    #[error("ViT weights {file}: no tensor `{name}`; nearest: {nearest}")]
    Missing { file: String, name: String, nearest: String },
    /// A tensor that the architecture does not have.
    #[error("ViT weights {file}: unexpected tensor `{name}`; nearest expected: {nearest}")]
    Unexpected { file: String, name: String, nearest: String },
    /// A tensor of another shape.
    #[error("ViT weights {file}: `{name}` has shape {found:?}, but {wanted:?} is expected")]
    Shape { file: String, name: String, found: Vec<usize>, wanted: Vec<usize> },
    /// An architecture that cannot be built, or a file whose architecture cannot be told.
    #[error("ViT architecture: {0}")]
    Spec(String),
    /// An option of `[vit]` that fits no ViT.
    #[error("option vit.{key} = {value}: {reason}")]
    Option { key: &'static str, value: String, reason: String },
    /// A feature that cannot be recorded.
    #[error(
        "the ViT gave {value} (number {index} of a batch's features), but they are recorded in float16, which ends at 65504: its \
         weights are damaged, or it is not the ViT that it is taken for"
    )]
    Range { index: usize, value: f32 },
    /// From the parameter store.
    #[error(transparent)]
    Param(#[from] crate::params::ParamError),
}
