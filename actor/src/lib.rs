//! The actor process: environments, the act loop, features, and the recorder.

pub mod env;
