//! CPU kernels over slices.

pub mod attention;
pub mod gelu;
pub mod layer_norm;
pub mod matmul;
