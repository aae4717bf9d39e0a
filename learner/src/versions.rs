//! Versions of the policy that were published: which memory is still held, and which weights an acknowledgement may mean.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use shared::snapshot::PolicySnapshot;

/// Versions that may be acknowledged by actors to which another one was sent: those of hosts behind a slow network.
const REMEMBERED: usize = 1 << 16;

/// What an acknowledgement is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// Its number.
    pub version: u64,
    /// Updates made when it was taken.
    pub update: u64,
    /// Digest of its weights.
    pub digest: u64,
    /// When it was published.
    pub at: Instant,
}

/// The versions that this learner has published.
#[derive(Default)]
pub struct Versions {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    alive: Vec<Weak<PolicySnapshot>>,
    recent: VecDeque<Published>,
}

impl Published {
    /// What an acknowledgement of this one is compared with.
    pub fn of(snapshot: &PolicySnapshot) -> Self {
        let PolicySnapshot { version, update, digest, at, .. } = *snapshot;
        Self { version, update, digest, at }
    }
}

impl Versions {
    /// One more, newer than all before.
    pub fn push(&self, snapshot: &Arc<PolicySnapshot>) {
        let mut inner = self.inner.lock();
        inner.alive.retain(|earlier| earlier.strong_count() > 0);
        inner.alive.push(Arc::downgrade(snapshot));
        inner.recent.push_back(Published::of(snapshot));
        if inner.recent.len() > REMEMBERED {
            inner.recent.pop_front();
        }
    }

    /// How many are held by somebody.
    pub fn alive(&self) -> usize {
        self.inner.lock().alive.iter().filter(|snapshot| snapshot.strong_count() > 0).count()
    }

    /// The one of this number, if it was published lately.
    pub fn get(&self, version: u64) -> Option<Published> {
        let inner = self.inner.lock();
        // They rise by one.
        let index = version.checked_sub(inner.recent.front()?.version)?;
        inner.recent.get(usize::try_from(index).ok()?).copied()
    }
}
