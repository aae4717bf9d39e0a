//! What is long on its way to one host: the newest snapshot, once for all its actors, and the frozen encoder, once.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use shared::wire::{Bulk, ToActor};
use xxhash_rust::xxh3::xxh3_64;

use super::HostError;
use super::packet::head;
use super::session::Way;
use super::words::{Beside, Blob, Down, Piece};
use crate::launch::Who;

/// Bytes of a piece: words wait for one at most.
pub(super) const PIECE: usize = 256 << 10;

/// A snapshot's memory, with what an actor is told of it.
#[derive(Clone)]
struct Cargo {
    version: u64,
    update: u64,
    region: Arc<Bulk>,
}

/// What one actor has of snapshots.
#[derive(Clone, Copy, Default)]
struct Held {
    /// The first version that its learner sent it; an older one that is there is of another learner.
    first: Option<u64>,
    /// Told to act with this, and has not said that it does.
    told: Option<u64>,
    /// Acts with this.
    taken: u64,
}

impl Held {
    /// Whether it may be told of this version.
    fn lacks(&self, version: u64) -> bool {
        self.told.is_none() && self.taken < version && self.first.is_some_and(|first| first <= version)
    }
}

#[derive(Default)]
struct State {
    actors: BTreeMap<Who, Held>,
    newest: Option<Cargo>,
    /// Has arrived there whole: version and update.
    there: Option<(u64, u64)>,
    /// Was sent and has not been said to be there.
    under_way: Option<(u64, u64)>,
    encoder: Option<([u8; 32], Arc<Bulk>)>,
    /// The host lacks the encoder from this byte on.
    wanted: Option<u64>,
    /// How many have arrived.
    snapshots: u64,
    closed: bool,
}

/// A region, pieces of which may be under way after this process has gone on.
struct Whole(Arc<Bulk>);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// What is to be sent next.
enum Load {
    Snapshot(Cargo),
    Encoder([u8; 32], Arc<Bulk>, u64),
}

/// The way to one host for what is long.
#[derive(Default)]
pub struct Freight {
    state: Mutex<State>,
    changed: Condvar,
}

impl Freight {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock());
        self.changed.notify_all();
        result
    }

    /// An actor has been let in, and has no snapshot of this learner yet.
    pub fn joined(&self, who: Who) {
        self.with(|state| state.actors.insert(who, Held::default()));
    }

    /// An actor's link is closed. Without any, nobody needs what is held.
    pub fn left(&self, who: Who) {
        self.with(|state| {
            state.actors.remove(&who);
            if state.actors.is_empty() {
                (state.newest, state.there, state.under_way) = (None, None, None);
            }
        });
    }

    /// The learner sent this to an actor. Returns what is to be said now.
    pub fn offered(&self, who: Who, version: u64, update: u64, region: Arc<Bulk>) -> Vec<Down> {
        self.with(|state| {
            if let Some(held) = state.actors.get_mut(&who) {
                held.first.get_or_insert(version);
            }
            if state.newest.as_ref().is_none_or(|newest| newest.version < version) {
                state.newest = Some(Cargo { version, update, region });
            }
            state.tell()
        })
    }

    /// An actor acts with this version. Returns what is to be said now.
    pub fn taken(&self, who: Who, version: u64) -> Vec<Down> {
        self.with(|state| {
            if let Some(held) = state.actors.get_mut(&who) {
                (held.told, held.taken) = (None, version);
            }
            state.tell()
        })
    }

    /// A snapshot has arrived whole. Returns what is to be said now.
    pub fn arrived(&self, version: u64) -> Vec<Down> {
        self.with(|state| {
            if let Some(there) = state.under_way.take_if(|(sent, _)| *sent == version) {
                state.there = Some(there);
                state.snapshots += 1;
            }
            state.tell()
        })
    }

    /// How many snapshots have arrived whole.
    pub fn snapshots(&self) -> u64 {
        self.state.lock().snapshots
    }

    /// The frozen encoder's region, by its digest.
    pub fn encoder(&self, digest: [u8; 32], region: Arc<Bulk>) {
        self.with(|state| state.encoder = Some((digest, region)));
    }

    /// The host lacks the encoder from this byte on.
    pub fn wanted(&self, digest: [u8; 32], offset: u64) {
        self.with(|state| {
            if state.encoder.as_ref().is_some_and(|(held, _)| *held == digest) {
                state.wanted = Some(offset);
            }
        });
    }

    /// Nothing is sent any more.
    pub fn close(&self) {
        self.with(|state| state.closed = true);
    }

    /// Send what is long, piece by piece, until the way is closed.
    pub fn send_all(&self, way: &Way) -> Result<(), HostError> {
        if !way.wait_until_heard(|| self.state.lock().closed) {
            return Ok(());
        }
        while let Some(load) = self.next() {
            let (blob, region, from) = match load {
                Load::Snapshot(cargo) => (Blob::Snapshot { version: cargo.version }, cargo.region, 0),
                Load::Encoder(digest, region, from) => (Blob::Encoder { digest }, region, from),
            };
            let bytes = Bytes::from_owner(Whole(region));
            for offset in (usize::try_from(from).unwrap_or(usize::MAX)..bytes.len()).step_by(PIECE) {
                let part = bytes.slice(offset..bytes.len().min(offset + PIECE));
                let (offset, length) = (offset as u64, bytes.len() as u64);
                let piece = Piece { blob, offset, length, checksum: xxh3_64(&part) };
                // Weights hardly become smaller by compression.
                way.send_with(head(&piece).map_err(HostError::way)?, part)?;
                if self.state.lock().closed {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Wait for what is to be sent next: a snapshot that somebody lacks before the encoder, so that a slow way does not stop acting.
    fn next(&self) -> Option<Load> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            let there = state.there.map_or(0, |(version, _)| version);
            let lacking =
                |cargo: &&Cargo| cargo.version > there && state.actors.values().any(|held| held.lacks(cargo.version));
            let due = state.newest.as_ref().filter(|_| state.under_way.is_none()).filter(lacking).cloned();
            if let Some(cargo) = due {
                state.under_way = Some((cargo.version, cargo.update));
                return Some(Load::Snapshot(cargo));
            }
            if let Some(from) = state.wanted.take()
                && let Some((digest, region)) = state.encoder.clone()
            {
                return Some(Load::Encoder(digest, region, from));
            }
            self.changed.wait(&mut state);
        }
    }
}

impl State {
    /// Have actors that may be told act with what is there.
    fn tell(&mut self) -> Vec<Down> {
        let Some((version, update)) = self.there else { return vec![] };
        let lacking = self.actors.iter_mut().filter(|(_, held)| held.lacks(version));
        let told = lacking.map(|(who, held)| {
            held.told = Some(version);
            Down::Said(*who, ToActor::Snapshot { version, update }, Beside::Snapshot(version))
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Who; 3] = [who(0), who(1), who(2)];

    const fn who(actor: u32) -> Who {
        Who { actor, generation: 0 }
    }

    fn freight() -> Freight {
        let freight = Freight::default();
        ALL.iter().for_each(|who| freight.joined(*who));
        freight
    }

    fn region() -> Arc<Bulk> {
        Arc::new(Bulk::Bytes(vec![1; 9]))
    }

    fn sent(freight: &Freight) -> u64 {
        match freight.next() {
            Some(Load::Snapshot(cargo)) => cargo.version,
            _ => panic!("no snapshot is due"),
        }
    }

    fn told(words: Vec<Down>) -> Vec<(u32, u64)> {
        let told = words.into_iter().map(|word| match word {
            Down::Said(who, ToActor::Snapshot { version, .. }, Beside::Snapshot(beside)) if version == beside => {
                (who.actor, version)
            }
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    #[test]
    fn one_copy_goes_to_all_actors_of_a_host_whatever_each_was_sent() {
        let freight = freight();
        // The learner serves each actor on its own: they are sent different versions.
        for (who, version) in ALL.into_iter().zip([5, 6, 7]) {
            assert!(freight.offered(who, version, version, region()).is_empty());
        }
        assert_eq!(sent(&freight), 7);
        assert_eq!(told(freight.arrived(7)), [(0, 7), (1, 7), (2, 7)]);
        assert!(freight.taken(ALL[0], 7).is_empty(), "it has the newest");
    }

    #[test]
    fn an_actor_that_is_behind_gets_one_at_a_time_and_then_the_newest() {
        let freight = freight();
        ALL.iter().for_each(|who| drop(freight.offered(*who, 1, 1, region())));
        sent(&freight);
        freight.arrived(1);
        // Two of them go on, the third is stopped.
        for version in 2..9 {
            freight.taken(ALL[0], version - 1);
            freight.taken(ALL[1], version - 1);
            freight.offered(ALL[0], version, version, region());
            assert_eq!(sent(&freight), version);
            assert_eq!(told(freight.arrived(version)), [(0, version), (1, version)]);
        }
        assert_eq!(told(freight.taken(ALL[2], 1)), [(2, 8)]);
    }

    #[test]
    fn nothing_of_a_learner_that_died_is_told_to_those_that_join_the_next() {
        let freight = freight();
        ALL.iter().for_each(|who| drop(freight.offered(*who, 9, 9, region())));
        sent(&freight);
        freight.arrived(9);
        // The link of the third is noticed to be closed later than the first one's new link.
        ALL[..2].iter().for_each(|who| freight.left(*who));
        freight.joined(ALL[0]);
        assert!(told(freight.offered(ALL[0], 12, 3, region())).is_empty());
        assert_eq!(sent(&freight), 12);
        assert!(freight.arrived(9).is_empty(), "said of another learner's");
        assert_eq!(told(freight.arrived(12)), [(0, 12)]);
    }

    #[test]
    fn the_encoder_is_sent_from_where_it_is_lacking() {
        let freight = freight();
        freight.wanted([1; 32], 5);
        freight.encoder([2; 32], region());
        freight.wanted([1; 32], 5);
        assert!(freight.state.lock().wanted.is_none(), "nobody has such an encoder");
        freight.wanted([2; 32], 5);
        assert!(matches!(freight.next(), Some(Load::Encoder(digest, _, 5)) if digest == [2; 32]));
        freight.close();
        assert!(freight.next().is_none());
    }
}
