//! Snapshots of the policy: a version, its region of shared memory, and the store that hands out the newest one.

pub mod format;
mod published;
mod store;

pub use published::{PolicySnapshot, digest};
pub use store::Store;
