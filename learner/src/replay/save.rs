//! Saving: an instant's cut under the lock, files written outside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::experience::StreamId;

use super::disk::OnDisk;
use super::latents::Frozen;
use super::layout::{Layout, PART_NAMES};
use super::manifest::{BlockRecord, Manifest, PartRecord, Run, StreamRecord};
use super::store::Item;
use super::stream::{Block, Columns, Place, Stream};
use super::{Replay, ReplayError};
use crate::durable::{self, FileError};

/// Replay at one instant, not yet on disk: steps that have no file are held until [`PendingSave::write`].
pub struct PendingSave<'a> {
    replay: &'a Replay,
    manifest: Manifest,
    layout: Option<Layout>,
    jobs: Vec<Job>,
}

/// One file to write.
struct Job {
    /// Stream and block in the manifest, part of the block.
    at: (usize, usize, usize),
    len: usize,
    version: u64,
    source: Source,
}

/// Columns as they are at a cut.
enum Source {
    Memory(Columns),
    Slot(Arc<Frozen>),
}

impl Source {
    fn columns(self) -> Result<Columns, FileError> {
        match self {
            Source::Memory(columns) => Ok(columns),
            Source::Slot(frozen) => frozen.take(),
        }
    }
}

impl Replay {
    /// Freeze this instant. Short; later inserts and write-backs do not change what is saved.
    pub fn cut(&self) -> PendingSave<'_> {
        let mut store = self.store.lock();
        store.saves += 1;
        let mut jobs = Vec::new();
        let saves = store.saves;
        let streams = store.streams.iter_mut().enumerate();
        let streams = streams.map(|(i, (id, stream))| record(saves, i, *id, stream, &mut jobs)).collect();
        let index: BTreeMap<_, _> = store.streams.keys().enumerate().map(|(i, id)| (*id, i)).collect();
        let manifest = Manifest {
            length: store.length,
            context: store.context,
            columns: store.layout.as_ref().map_or(Vec::new(), |l| l.columns.clone()),
            streams,
            items: runs(store.items.iter(), &index),
            online: runs(store.online.iter(), &index),
            priority: store.priority.as_ref().map(|priority| priority.record(&index)),
            rng: store.rng.clone(),
            saves: store.saves,
            inserted: store.inserted,
            evicted: store.evicted,
        };
        PendingSave { replay: self, manifest, layout: store.layout.clone(), jobs }
    }

    /// Bring full blocks to disk, if that is where they belong; for whoever has inserted. What cannot be written stays in memory.
    pub fn unload(&self) -> Result<(), ReplayError> {
        while let Some((id, first)) = self.next_full() {
            let mut store = self.store.lock();
            let Some(layout) = store.layout.clone() else { return Ok(()) };
            let block = store.streams.get_mut(&id).and_then(|stream| stream.block_mut(first));
            let Some((len, columns)) = block.and_then(|b| Some((b.len, b.parts[0].memory()?.clone()))) else {
                continue;
            };
            drop(store);
            fs::create_dir_all(&self.dir).map_err(FileError::io("create", &self.dir))?;
            let file = file_name(id, first, "disk", 0);
            let path = self.dir.join(&file);
            let (digest, bytes) = write_part(&path, &layout, 0, len, &columns)?;
            let on_disk = OnDisk::new(&path, &layout, 0, &bytes)?;
            let mut store = self.store.lock();
            let latents = store.latents(&self.dir, &layout)?;
            store.moved((id, first), (on_disk, PartRecord { file, digest }), &latents)?;
        }
        Ok(())
    }

    fn next_full(&self) -> Option<(StreamId, u64)> {
        self.store.lock().full.pop_front()
    }

    /// [`Replay::cut`] and [`PendingSave::write`] in one.
    pub fn save(&self) -> Result<Manifest, ReplayError> {
        self.cut().write()
    }
}

impl PendingSave<'_> {
    /// Write what has no file yet. Files are synced before this returns; older files stay for older checkpoints.
    pub fn write(mut self) -> Result<Manifest, ReplayError> {
        let dir = &self.replay.dir;
        fs::create_dir_all(dir).map_err(FileError::io("create", dir))?;
        let mut written = vec![];
        for job in self.jobs.drain(..) {
            let Some(layout) = &self.layout else { break };
            let (stream, block, part) = job.at;
            let record = &mut self.manifest.streams[stream].blocks[block].parts[part];
            let columns = job.source.columns()?;
            record.digest = write_part(&dir.join(&record.file), layout, part, job.len, &columns)?.0;
            written.push((job.at, job.version));
        }
        durable::sync_dir(dir)?;
        self.remember(&written);
        Ok(self.manifest)
    }

    /// Tell the blocks which files hold them, so that the next save skips those unchanged since.
    fn remember(&self, written: &[((usize, usize, usize), u64)]) {
        let mut store = self.replay.store.lock();
        for ((stream, block, part), version) in written.iter().copied() {
            let record = &self.manifest.streams[stream];
            let saved = &record.blocks[block];
            let stored = store.streams.get_mut(&record.id).map(|s| s.blocks.iter_mut());
            if let Some(target) = stored.and_then(|mut blocks| blocks.find(|b| b.first == saved.first)) {
                let target = &mut target.parts[part];
                // Steps that went to disk meanwhile have a file of their own.
                if !matches!(target.place, Place::Disk(_)) {
                    target.saved = Some((version, saved.parts[part].clone()));
                }
            }
        }
    }
}

fn record(saves: u64, index: usize, id: StreamId, stream: &mut Stream, jobs: &mut Vec<Job>) -> StreamRecord {
    let blocks = stream.blocks.iter_mut().enumerate().map(|(at, block)| {
        let parts = 0..block.parts.len();
        let parts = parts.map(|part| part_record(saves, id, (index, at, part), block, jobs)).collect();
        BlockRecord { first: block.first, len: block.len, parts }
    });
    let blocks = blocks.collect();
    StreamRecord { id, next: stream.next, next_item: stream.next_item, closed: stream.closed, blocks }
}

fn part_record(
    saves: u64,
    id: StreamId,
    at: (usize, usize, usize),
    block: &mut Block,
    jobs: &mut Vec<Job>,
) -> PartRecord {
    let part = &mut block.parts[at.2];
    if part.memory().is_some_and(|columns| columns.is_empty()) {
        return PartRecord::default();
    }
    if let Place::Disk(file) = &part.place {
        file.name();
    }
    if let Some(record) = part.clean() {
        return record.clone();
    }
    let source = match part.place.clone() {
        Place::Memory(columns) => Source::Memory(columns),
        Place::Slot(slot) => Source::Slot(part.freeze(&slot)),
        // It was written before it came here.
        Place::Disk(_) => return PartRecord::default(),
    };
    jobs.push(Job { at, len: block.len, version: part.version, source });
    PartRecord { file: file_name(id, block.first, &format!("{saves:06}"), at.2), digest: String::new() }
}

fn file_name(StreamId { actor, generation, env }: StreamId, first: u64, save: &str, part: usize) -> String {
    let name = PART_NAMES[part];
    format!("a{actor:04}-g{generation:04}-e{env:04}-{first:010}.{save}.{name}.safetensors")
}

/// Returns the digest of the file, and its bytes.
fn write_part(
    path: &Path,
    layout: &Layout,
    part: usize,
    len: usize,
    columns: &Columns,
) -> Result<(String, Vec<u8>), FileError> {
    let views = layout.part(part).zip(columns.iter()).map(|(column, bytes)| {
        let shape = std::iter::once(len).chain(column.shape.iter().copied()).collect();
        (column.key.as_str(), column.dtype, shape, bytes.as_slice())
    });
    let bytes = durable::encode(path, views)?;
    durable::write(path, &bytes)?;
    Ok((blake3::hash(&bytes).to_hex().to_string(), bytes))
}

/// Items in order, those with consecutive starts as one.
fn runs<'a>(items: impl Iterator<Item = &'a Item>, index: &BTreeMap<StreamId, usize>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for item in items {
        let Some(&stream) = index.get(&item.stream) else { continue };
        match runs.last_mut() {
            Some(run) if run.stream == stream && run.start + run.count == item.start => run.count += 1,
            _ => runs.push(Run { stream, start: item.start, count: 1 }),
        }
    }
    runs
}

/// Delete files of a replay folder that no kept manifest names; returns those deleted.
/// For a start, before anything is saved: the files of a save under way are named by no manifest yet.
pub fn sweep(dir: &Path, keep: &BTreeSet<String>) -> Result<Vec<PathBuf>, FileError> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut deleted = Vec::new();
    for entry in fs::read_dir(dir).map_err(FileError::io("list", dir))? {
        let path = entry.map_err(FileError::io("list", dir))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let ours = name.ends_with(".safetensors") || name.ends_with(".safetensors.tmp");
        if ours && !keep.contains(name) {
            fs::remove_file(&path).map_err(FileError::io("delete", &path))?;
            deleted.push(path);
        }
    }
    Ok(deleted)
}
