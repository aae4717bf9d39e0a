//! What two Lucid processes run or speak.
//!
//! Nothing in this crate starts a process. Shapes in doc comments use fixed letters: B batch, T time, H imagination
//! horizon, N environments.

pub mod array;
pub mod config;
pub mod device;
pub mod dist;
pub mod dreamer;
pub mod env;
pub mod experience;
pub mod files;
pub mod kernels;
pub mod metrics;
pub mod nn;
pub mod params;
pub mod snapshot;
pub mod trace;
pub mod vit;
pub mod wire;
