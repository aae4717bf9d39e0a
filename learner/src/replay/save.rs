//! Saving: an instant's cut under the lock, files written outside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use shared::experience::StreamId;

use super::layout::{Layout, PART_NAMES};
use super::manifest::{BlockRecord, Manifest, PartRecord, Run, StreamRecord};
use super::store::{Item, Store};
use super::stream::{Block, Columns, Stream};
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
    columns: Columns,
}

impl Replay {
    /// Freeze this instant. Short; later inserts and write-backs do not change what is saved.
    pub fn cut(&self) -> PendingSave<'_> {
        let mut store = self.store.lock();
        store.saves += 1;
        let mut jobs = Vec::new();
        let streams =
            store.streams.iter().enumerate().map(|(i, (id, s))| record(&store, i, *id, s, &mut jobs)).collect();
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
        if let Some(layout) = &self.layout {
            for job in &self.jobs {
                let (stream, block, part) = job.at;
                let record = &mut self.manifest.streams[stream].blocks[block].parts[part];
                record.digest = write_part(&dir.join(&record.file), layout, job)?;
            }
        }
        durable::sync_dir(dir)?;
        self.remember();
        Ok(self.manifest)
    }

    /// Tell the blocks which files hold them, so that the next save skips those unchanged since.
    fn remember(&self) {
        let mut store = self.replay.store.lock();
        for job in &self.jobs {
            let (stream, block, part) = job.at;
            let record = &self.manifest.streams[stream];
            let saved = &record.blocks[block];
            let stored = store.streams.get_mut(&record.id).map(|s| s.blocks.iter_mut());
            if let Some(target) = stored.and_then(|mut blocks| blocks.find(|b| b.first == saved.first)) {
                target.parts[part].saved = Some((job.version, saved.parts[part].clone()));
            }
        }
    }
}

fn record(store: &Store, index: usize, id: StreamId, stream: &Stream, jobs: &mut Vec<Job>) -> StreamRecord {
    let blocks = stream.blocks.iter().enumerate().map(|(at, block)| {
        let parts = (0..block.parts.len()).map(|part| part_record(store.saves, id, (index, at, part), block, jobs));
        BlockRecord { first: block.first, len: block.len, parts: parts.collect() }
    });
    StreamRecord { id, next: stream.next, next_item: stream.next_item, closed: stream.closed, blocks: blocks.collect() }
}

fn part_record(saves: u64, id: StreamId, at: (usize, usize, usize), block: &Block, jobs: &mut Vec<Job>) -> PartRecord {
    let part = &block.parts[at.2];
    if part.columns.is_empty() {
        return PartRecord::default();
    }
    if let Some(record) = part.clean() {
        return record.clone();
    }
    jobs.push(Job { at, len: block.len, version: part.version, columns: part.columns.clone() });
    let StreamId { actor, generation, env } = id;
    let (first, name) = (block.first, PART_NAMES[at.2]);
    let file = format!("a{actor:04}-g{generation:04}-e{env:04}-{first:010}.{saves:06}.{name}.safetensors");
    PartRecord { file, digest: String::new() }
}

fn write_part(path: &Path, layout: &Layout, job: &Job) -> Result<String, FileError> {
    let columns = layout.part(job.at.2).zip(job.columns.iter());
    let views = columns.map(|(column, bytes)| {
        let shape = std::iter::once(job.len).chain(column.shape.iter().copied()).collect();
        (column.key.as_str(), column.dtype, shape, bytes.as_slice())
    });
    let bytes = durable::encode(path, views)?;
    durable::write(path, &bytes)?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
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
