//! Layers: weights from a scope, arithmetic from the kernels. Names and layouts are those of the official DreamerV3.

mod conv;
mod head;
mod linear;
mod mlp;
mod norm;
mod style;

pub use conv::{Conv2d, Step};
pub use head::Outputs;
pub use linear::{BlockLinear, Linear};
pub use mlp::Mlp;
pub use norm::Norm;
pub use style::{Style, StyleError};
