//! The phases of a store, as types: what a phase cannot do does not compile.

use candle_core::Device;
use parking_lot::Mutex;

use super::{FrozenRecord, Tree};

/// A phase of the store; sealed.
pub trait Phase: private::Sealed {
    /// Name in messages.
    const NAME: &'static str;
}

mod private {
    pub trait Sealed {}
    impl Sealed for super::Create {}
    impl Sealed for super::Run {}
    impl Sealed for super::ReadOnly {}
}

/// Parameters are created on first use.
pub struct Create {
    pub(super) seed: u64,
    pub(super) device: Device,
    /// Values of a checkpoint that no module has asked for yet; none in a fresh run.
    pub(super) saved: Option<Mutex<Tree>>,
    /// Patterns given to `freeze`, in order.
    pub(super) frozen: Mutex<Vec<String>>,
}

/// The set of parameters is fixed; trainable ones can be written.
pub struct Run {
    /// Digests taken when the store was sealed.
    pub(super) frozen: Vec<FrozenRecord>,
}

/// Weights are read in place from snapshots.
pub struct ReadOnly;

impl Phase for Create {
    const NAME: &'static str = "create";
}

impl Phase for Run {
    const NAME: &'static str = "run";
}

impl Phase for ReadOnly {
    const NAME: &'static str = "read-only";
}
