//! snapshot

pub mod format;
