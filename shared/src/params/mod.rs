//! The parameter store: hierarchical paths, phases, three ways in, freezing.
//!
//! A parameter has one path (`dyn/dyngru/kernel`), the same in initialisation, gradient, optimizer, snapshot and
//! checkpoint. Modules ask a [`Scope`] for their weights once, when they are built; what stands behind the scope decides
//! whether weights are created ([`Create`]), looked up ([`Run`]), or read in place from a snapshot ([`ReadOnly`]).

mod init;
mod scope;
mod weight;

pub use init::Init;
pub use scope::{Scope, Source};
pub use weight::{Mapped, Region, Weight};

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
pub enum ParamError {
    /// No such parameter.
    #[error("no parameter `{path}` in the {phase} phase; nearest: {nearest}")]
    Missing {
        /// Path asked for.
        path: String,
        /// Phase of the store.
        phase: &'static str,
        /// Nearest existing paths, comma separated.
        nearest: String,
    },
    /// A parameter of another shape.
    #[error("parameter `{path}` has shape {found:?}, but {wanted:?} was asked for")]
    Shape {
        /// Path asked for.
        path: String,
        /// Shape in the store.
        found: Vec<usize>,
        /// Shape asked for.
        wanted: Vec<usize>,
    },
    /// From candle.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
