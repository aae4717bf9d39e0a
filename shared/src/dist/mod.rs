//! Distributions: sampling, log-probability, entropy, KL, each with its gradient where a loss needs one.

pub mod categorical;
mod draws;
pub mod normal;
mod twohot;

pub use draws::{Draws, Seeded};
pub use twohot::TwoHot;
