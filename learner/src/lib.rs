//! The learner and launcher of Lucid: replay, training, publishing, checkpoints, command line.

pub mod agent;
pub mod checkpoint;
pub mod dreamer;
pub mod durable;
pub mod limiter;
pub mod optim;
pub mod replay;
pub mod vit;
