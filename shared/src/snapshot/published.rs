//! A published snapshot as the learner holds it.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh3::Xxh3;

use super::format::{FormatError, SnapshotView};
use crate::array::all_finite;
use crate::wire::{Bulk, SharedMemory};

/// A version of the policy in shared memory, never written again.
pub struct PolicySnapshot {
    /// Raised by exactly one at each publication.
    pub version: u64,
    /// Updates the learner had made when it was taken.
    pub update: u64,
    /// When it was published, on this process's clock.
    pub at: Instant,
    /// [`digest`] of its tensors.
    pub digest: u64,
    /// Fingerprint of its layout.
    pub layout: u64,
    /// Its memory, ready to be handed to actors.
    pub region: SharedMemory,
}

impl PolicySnapshot {
    /// Copy encoded bytes into fresh shared memory and verify them there; all values must be finite.
    pub fn publish(encoded: &[u8]) -> Result<Self, FormatError> {
        let region = SharedMemory::copy(encoded).map_err(|e| FormatError::Memory { message: e.to_string() })?;
        let view = SnapshotView::open(Arc::new(Bulk::Shared(region.clone())))?;
        if let Some((path, _)) = view.iter().find(|(_, tensor)| !all_finite(tensor.values())) {
            return Err(FormatError::NotFinite { path: path.into() });
        }
        Ok(Self {
            version: view.version(),
            update: view.update(),
            at: Instant::now(),
            digest: digest(&view),
            layout: view.fingerprint(),
            region,
        })
    }

    /// Nanoseconds since 1970, for the header of a snapshot.
    pub fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
    }
}

/// Digest of the tensors that a view reads, by path: an actor proves with it which weights it acts with.
pub fn digest(view: &SnapshotView) -> u64 {
    let mut hasher = Xxh3::new();
    for (path, tensor) in view.iter() {
        hasher.update(path.as_bytes());
        hasher.update(bytemuck::cast_slice(tensor.values()));
    }
    hasher.digest()
}
