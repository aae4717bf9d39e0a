//! What an environment looks like from outside: its observation and action spaces.

mod space;

pub use space::{FLAGS, Space, Spaces};
