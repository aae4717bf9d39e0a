//! The parameter store: hierarchical paths, phases, three ways in, freezing.
//!
//! A parameter has one path (`dyn/dyngru/kernel`), the same in initialisation, gradient, optimizer, snapshot and
//! checkpoint. Modules ask a [`Scope`] for their weights once, when they are built; what stands behind the scope decides
//! whether weights are created ([`Create`]), looked up ([`Run`]), or read in place from a snapshot ([`ReadOnly`]).
//!
//! Wherever a method takes a *pattern*, it is a module prefix (`enc` or `enc/`: everything below it) if something exists
//! there, else a regular expression that must match from the start of the path; the empty pattern selects everything.

mod create;
mod error;
mod frozen;
mod init;
mod layout;
mod phases;
mod read_only;
mod run;
mod scope;
mod select;
mod store;
#[cfg(test)]
mod tests;
mod trace;
mod tree;
mod weight;

pub use error::ParamError;
pub use frozen::{FrozenRecord, FrozenReport};
pub use init::{Dist, Init};
pub use layout::fingerprint;
pub(crate) use layout::layout_hash;
pub use phases::{Create, Phase, ReadOnly, Run};
pub use scope::{Scope, Source};
pub use store::{Count, Params};
pub use trace::Trace;
pub use tree::{Metadata, Tree, load, load_f32, save, to_tree};
pub use weight::{Mapped, Region, Weight};
