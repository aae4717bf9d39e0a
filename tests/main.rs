//! The real binary, driven with real processes.

#![allow(clippy::unwrap_used)]

mod failures;
mod official;
mod processes;
mod support;
mod tamper;
mod train;
