//! What is long, as it arrives at a host: snapshots, and the frozen encoder, which is kept in a file for the next run.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;

use shared::wire::{MemoryDraft, SharedMemory};
use xxhash_rust::xxh3::xxh3_64;

use super::HostError;
use super::packet::split;
use super::words::{Blob, Piece};
use crate::vit::cache_folder;

/// Largest thing that is taken, bytes.
const LIMIT: u64 = 16 << 30;
/// Snapshots that are held: one that was told of lately, and the one after it.
const HELD: usize = 2;

/// What has arrived.
pub struct Store {
    /// Where encoders are kept, by their digests.
    cache: PathBuf,
    /// The snapshot that is arriving: its version, its bytes so far.
    arriving: Option<(u64, MemoryDraft)>,
    snapshots: VecDeque<(u64, SharedMemory)>,
    encoder: Option<([u8; 32], SharedMemory)>,
}

/// What a piece completed.
#[derive(Debug, PartialEq, Eq)]
pub enum Whole {
    /// A snapshot of this version.
    Snapshot(u64),
    /// The encoder of this digest.
    Encoder([u8; 32]),
}

impl Store {
    /// With what the cache holds.
    pub fn new(cache: PathBuf) -> Self {
        Self { cache, arriving: None, snapshots: VecDeque::new(), encoder: None }
    }

    /// A snapshot that has arrived lately.
    pub fn snapshot(&self, version: u64) -> Option<&SharedMemory> {
        self.snapshots.iter().find(|(held, _)| *held == version).map(|(_, region)| region)
    }

    /// The encoder of this digest and length, or how much of it is here.
    pub fn encoder(&mut self, digest: [u8; 32], length: u64) -> Result<&SharedMemory, u64> {
        if self.encoder.as_ref().is_none_or(|(held, _)| *held != digest) {
            let here = self.read_encoder(digest).map_err(|_| 0u64)?;
            if (here.len() as u64) < length {
                return Err(here.len() as u64);
            }
            if *blake3::hash(&here).as_bytes() != digest {
                // Damaged, or of another version: from the beginning.
                let _ = fs::remove_file(self.path(digest));
                return Err(0);
            }
            self.encoder = Some((digest, SharedMemory::copy(&here).map_err(|_| length)?));
        }
        self.encoder.as_ref().map(|(_, region)| region).ok_or(0)
    }

    /// A connection has begun: what was arriving does not go on.
    pub fn reset(&mut self) {
        self.arriving = None;
        self.snapshots.clear();
    }

    /// A message with a piece has come; what it completed, if it was the last. Pieces of one thing come in order.
    pub fn take(&mut self, message: &[u8]) -> Result<Option<Whole>, HostError> {
        let (piece, bytes) = split(message).map_err(HostError::way)?;
        self.piece(&piece, bytes)
    }

    fn piece(&mut self, piece: &Piece, bytes: &[u8]) -> Result<Option<Whole>, HostError> {
        let refuse = |message: &str| HostError::way(message);
        let end = piece.offset.checked_add(bytes.len() as u64).filter(|end| *end <= piece.length && *end <= LIMIT);
        let end = end.ok_or_else(|| refuse("a piece is longer than what it is part of"))?;
        if xxh3_64(bytes) != piece.checksum {
            return Err(refuse("a piece was changed on its way"));
        }
        match piece.blob {
            Blob::Snapshot { version } => self.snapshot_piece(version, piece, bytes, end == piece.length),
            Blob::Encoder { digest } => {
                self.encoder_piece(digest, piece, bytes)?;
                Ok((end == piece.length).then_some(Whole::Encoder(digest)))
            }
        }
    }

    fn snapshot_piece(
        &mut self,
        version: u64,
        piece: &Piece,
        bytes: &[u8],
        last: bool,
    ) -> Result<Option<Whole>, HostError> {
        let mut draft = match self.arriving.take() {
            Some((arriving, draft)) if arriving == version => draft,
            _ => MemoryDraft::new().map_err(HostError::way)?,
        };
        if draft.length() != piece.offset {
            return Err(HostError::way("a piece of a snapshot is missing"));
        }
        draft.append(bytes).map_err(HostError::way)?;
        if !last {
            self.arriving = Some((version, draft));
            return Ok(None);
        }
        let whole = draft.finish().map_err(HostError::way)?;
        self.snapshots.push_back((version, whole));
        if self.snapshots.len() > HELD {
            self.snapshots.pop_front();
        }
        Ok(Some(Whole::Snapshot(version)))
    }

    fn encoder_piece(&self, digest: [u8; 32], piece: &Piece, bytes: &[u8]) -> Result<(), HostError> {
        let path = self.path(digest);
        let failed = |source| HostError::File { path: path.clone(), source };
        fs::create_dir_all(&self.cache).map_err(failed)?;
        let mut file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() != piece.offset {
            return Err(HostError::way("a piece of the encoder is missing"));
        }
        file.write_all(bytes).map_err(failed)
    }

    fn read_encoder(&self, digest: [u8; 32]) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(digest))?.take(LIMIT).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn path(&self, digest: [u8; 32]) -> PathBuf {
        self.cache.join(blake3::Hash::from_bytes(digest).to_hex().as_str())
    }
}

/// Where a host keeps encoders: beside fetched weights.
pub fn cache() -> PathBuf {
    // A container may have no home.
    cache_folder().unwrap_or_else(|_| std::env::temp_dir().join("lucid")).join("encoders")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(blob: Blob, bytes: &[u8], from: usize) -> Vec<(Piece, Vec<u8>)> {
        let parts = bytes[from..].chunks(10).enumerate();
        let piece = |(index, part): (usize, &[u8])| {
            let (offset, length) = ((from + 10 * index) as u64, bytes.len() as u64);
            (Piece { blob, offset, length, checksum: xxh3_64(part) }, part.to_vec())
        };
        parts.map(piece).collect()
    }

    #[test]
    fn a_snapshot_is_whole_or_not_there() {
        let mut store = Store::new("/nowhere".into());
        let bytes: Vec<u8> = (0..95).collect();
        for version in 1..5 {
            let blob = Blob::Snapshot { version };
            let whole: Vec<_> =
                pieces(blob, &bytes, 0).iter().filter_map(|(piece, part)| store.piece(piece, part).unwrap()).collect();
            assert_eq!(whole, [Whole::Snapshot(version)]);
            assert_eq!(**store.snapshot(version).unwrap(), bytes);
        }
        assert!(store.snapshot(2).is_none() && store.snapshot(3).is_some(), "older ones are not held");
        let mut parts = pieces(Blob::Snapshot { version: 9 }, &bytes, 0);
        parts.remove(3);
        let result: Result<Vec<_>, _> = parts.iter().map(|(piece, part)| store.piece(piece, part)).collect();
        assert!(result.is_err() && store.snapshot(9).is_none());
        let (piece, mut part) = pieces(Blob::Snapshot { version: 10 }, &bytes, 0).remove(0);
        part[4] ^= 1;
        assert!(store.piece(&piece, &part).unwrap_err().to_string().contains("changed"));
    }

    #[test]
    fn an_encoder_is_fetched_on_from_where_it_broke_off_and_kept_for_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..250).map(|i| i as u8).collect();
        let digest = *blake3::hash(&bytes).as_bytes();
        let blob = Blob::Encoder { digest };
        let mut store = Store::new(folder.path().join("cache"));
        assert_eq!(store.encoder(digest, 250).err(), Some(0));
        for (piece, part) in &pieces(blob, &bytes, 0)[..7] {
            assert_eq!(store.piece(piece, part).unwrap(), None);
        }
        let mut store = Store::new(folder.path().join("cache"));
        assert_eq!(store.encoder(digest, 250).err(), Some(70));
        let whole: Vec<_> =
            pieces(blob, &bytes, 70).iter().filter_map(|(piece, part)| store.piece(piece, part).unwrap()).collect();
        assert_eq!(whole, [Whole::Encoder(digest)]);
        assert_eq!(**store.encoder(digest, 250).unwrap(), bytes);
        let file = folder.path().join("cache").join(blake3::Hash::from_bytes(digest).to_hex().as_str());
        let mut damaged = bytes.clone();
        damaged[9] ^= 1;
        fs::write(&file, damaged).unwrap();
        let mut store = Store::new(folder.path().join("cache"));
        assert_eq!(store.encoder(digest, 250).err(), Some(0), "damaged: fetched again");
        assert!(!file.exists());
    }
}
