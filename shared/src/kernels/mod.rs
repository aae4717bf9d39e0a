//! The hot operations, each with a hand-written backward pass, over plain slices.
//!
//! A kernel computes its value at once and, where gradients are wanted, leaves a backward closure in candle's graph
//! (`record`). Tensors on another device than the CPU take plain tensor operations instead (`plain`). Weights are read in place, whether they are variables or mapped from a snapshot.

pub mod attention;
mod bfloat16;
mod block_linear;
mod conv;
#[cfg(target_arch = "x86_64")]
pub mod conv_grow;
#[cfg(target_arch = "x86_64")]
mod conv_lanes;
pub(crate) mod conv_planes;
#[cfg(target_arch = "x86_64")]
mod conv_products;
#[cfg(target_arch = "x86_64")]
pub mod conv_shrink;
pub(crate) mod factor;
pub mod gelu;
mod gru;
mod image_loss;
pub mod layer_norm;
mod linear;
pub mod math;
pub mod matmul;
mod norm_act;
mod one_hot;
mod packed;
pub mod plain;
mod pool;
mod precision;
mod processor;
pub(crate) mod product;
mod record;
mod rms_silu;
pub mod rotary;
mod row_loss;
pub mod stack;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(target_arch = "x86_64")]
mod tile;

pub use block_linear::block_linear;
pub use conv::conv2d;
pub use gru::gru;
pub(crate) use gru::{gru_backward, gru_step};
pub use image_loss::image_loss;
pub use linear::linear;
pub(crate) use linear::{add_columns, sum_of};
pub use norm_act::{Act, NormKind, norm_act};
pub(crate) use one_hot::{argmax, one_hot_backward, one_hot_rows};
pub use one_hot::{log_unimix, one_hot_sample};
pub use plain::plain;
pub(crate) use plain::{parameter, plain_weight};
pub use pool::{max_pool2, spread2, upsample2};
pub use precision::Precision;
pub(crate) use record::{joined, record};
pub use record::{no_grad, read, with_weight};
pub use rms_silu::rms_silu;
pub(crate) use rms_silu::{rms_silu_rows_backward, rms_silu_to};
pub use row_loss::{RowLoss, row_loss};
