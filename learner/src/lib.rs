//! The learner and launcher of Lucid: replay, training, publishing, checkpoints, command line.

pub mod agent;
pub mod dreamer;
pub mod optim;
pub mod replay;
