//! The real binary, driven with real processes.

#![allow(clippy::unwrap_used)]

mod browser;
mod chaos;
mod chromium;
mod control;
mod env_command;
mod evaluation;
mod failures;
mod gymnasium;
mod hosts;
mod memory;
mod network;
mod official;
mod offline;
mod one_copy;
mod processes;
mod pty;
mod python;
mod recipes;
mod recovery;
mod slow_link;
mod support;
mod tamper;
mod tensorboard;
mod trace;
mod train;
mod watch;
