//! What an environment looks like from outside: its observation and action spaces.

mod space;
mod tasks;

pub use space::{FLAGS, Space, Spaces};
pub use tasks::TASKS;
