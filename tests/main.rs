//! The real binary, driven with real processes.

#![allow(clippy::unwrap_used)]

mod failures;
mod processes;
mod support;
mod train;
