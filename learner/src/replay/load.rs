//! Restoring replay from a manifest and its files.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::config::ReplayConfig;

use super::disk::OnDisk;
use super::latents::{LatentFile, Slot};
use super::layout::{Layout, PARTS};
use super::manifest::{BlockRecord, Manifest, PartRecord, Run, StreamRecord};
use super::store::{Item, Store};
use super::stream::{Block, Part, Place, Stream};
use super::{Replay, ReplayError};
use crate::durable::{self, FileError};

/// What to do about files that are missing, cut short or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// Refuse to load, naming them.
    Refuse,
    /// Go on without the steps in them.
    Drop,
}

/// Steps of a stream that are gone.
struct Hole {
    first: u64,
    end: u64,
}

impl Replay {
    /// Replay as it was at the cut: the next sample is the same. Reads only the files that the manifest names, and changes none,
    /// so that loading again gives the same. Files of steps that stay on disk are only looked at, unless damage is to be dropped: each is
    /// checked when something of it is drawn first. Returns what was dropped, one entry per file. `length` and `context` as in
    /// [`Replay::new`].
    pub fn load(
        config: &ReplayConfig,
        length: usize,
        context: usize,
        dir: &Path,
        manifest: &Manifest,
        damaged: Damaged,
    ) -> Result<(Self, Vec<FileError>), ReplayError> {
        if (manifest.length, manifest.context) != (length, context) {
            let message = format!(
                "it holds items of {} steps with context {}, the configuration asks for {length} and {context}; \
                 set agent.batch_length and agent.replay_context back, or start a new run",
                manifest.length, manifest.context
            );
            return Err(ReplayError::Manifest { message });
        }
        manifest
            .check(length as u64)
            .map_err(|what| ReplayError::Manifest { message: format!("{what}; use an older checkpoint") })?;
        let mut store = Store::new(config, length, context, 0)?;
        let damage = restore(&mut store, dir, manifest, damaged)?;
        if damaged == Damaged::Refuse && !damage.is_empty() {
            return Err(ReplayError::Damaged { damage });
        }
        store.shrink();
        Ok((Self { store: Mutex::new(store), dir: dir.to_path_buf() }, damage))
    }
}

fn restore(
    store: &mut Store,
    dir: &Path,
    manifest: &Manifest,
    damaged: Damaged,
) -> Result<Vec<FileError>, ReplayError> {
    let layout = Layout::new(manifest.columns.clone());
    let disk = store.config.disk_gib > 0.0 && !layout.columns.is_empty();
    let latents = disk.then(|| store.latents(dir, &layout)).transpose()?;
    let mut damage = Vec::new();
    let mut holes = Vec::new();
    for record in &manifest.streams {
        let (stream, gone) = restore_stream(&layout, dir, record, (store, latents.as_ref(), damaged), &mut damage);
        store.streams.insert(record.id, stream);
        holes.push(gone);
    }
    let mut items = expand(manifest, &manifest.items)?;
    let mut online = expand(manifest, &manifest.online)?;
    let kept: Vec<bool> = items.iter().map(|(stream, item)| intact(&holes[*stream], item, store.length)).collect();
    for queue in [&mut items, &mut online] {
        queue.retain(|(stream, item)| intact(&holes[*stream], item, store.length));
    }
    for (_, item) in &items {
        store.streams.entry(item.stream).and_modify(|s| s.live += 1);
    }
    store.items = items.into_iter().map(|(_, item)| item).collect();
    store.online = online.into_iter().map(|(_, item)| item).collect();
    check_items(store)?;
    restore_priority(store, manifest, &kept)?;
    store.layout = (!layout.columns.is_empty()).then_some(layout);
    store.rng = manifest.rng.clone();
    store.saves = manifest.saves;
    store.inserted = manifest.inserted;
    let lost: u64 = holes.iter().flatten().map(|h| h.end - h.first).sum();
    store.evicted = manifest.evicted + lost;
    let blocks = store.streams.values().flat_map(|stream| &stream.blocks);
    store.on_disk = blocks.filter(|block| block.on_disk()).map(|block| block.len).sum();
    check_whole(store)?;
    Ok(damage)
}

/// What drawing by priority goes by. A run that drew otherwise before starts as if nothing had been drawn.
fn restore_priority(store: &mut Store, manifest: &Manifest, kept: &[bool]) -> Result<(), ReplayError> {
    let (Some(mut priority), items) = (store.priority.take(), &store.items) else { return Ok(()) };
    store.priority = match &manifest.priority {
        None => {
            items.iter().for_each(|item| priority.insert(item));
            Some(priority)
        }
        Some(record) => {
            let streams: Vec<_> = manifest.streams.iter().map(|stream| stream.id).collect();
            let message = || "its items and their priorities contradict each other; use an older checkpoint".into();
            let restored = priority.restore(record, &streams, kept, items);
            Some(restored.ok_or_else(|| ReplayError::Manifest { message: message() })?)
        }
    };
    Ok(())
}

/// A stream with the blocks that could be read, and the holes that the others leave.
fn restore_stream(
    layout: &Layout,
    dir: &Path,
    record: &StreamRecord,
    (store, latents, damaged): (&Store, Option<&Arc<LatentFile>>, Damaged),
    damage: &mut Vec<FileError>,
) -> (Stream, Vec<Hole>) {
    let length = store.length;
    let mut holes = Vec::new();
    let mut blocks = VecDeque::new();
    for block in &record.blocks {
        // A full block never changes.
        let latents = latents.filter(|_| block.len == store.config.chunksize);
        match read_block(layout, dir, block, (latents, damaged)) {
            Ok(block) => blocks.push_back(block),
            Err(error) => {
                damage.push(error);
                holes.push(Hole { first: block.first, end: block.first + block.len as u64 });
            }
        }
    }
    // Items not made yet must not reach back over a hole.
    let beyond = |hole: &Hole| record.next_item + length as u64 > hole.first;
    let past_holes = holes.iter().filter(|h| beyond(h)).map(|h| h.end).max().unwrap_or(0);
    let next_item = record.next_item.max(past_holes);
    (Stream { blocks, next: record.next, next_item, live: 0, closed: record.closed }, holes)
}

/// In memory; or, if there are `latents`, on disk.
fn read_block(
    layout: &Layout,
    dir: &Path,
    record: &BlockRecord,
    (latents, damaged): (Option<&Arc<LatentFile>>, Damaged),
) -> Result<Block, FileError> {
    let mut parts: [Part; PARTS] = Default::default();
    for (index, part) in parts.iter_mut().enumerate().filter(|(index, _)| layout.part(*index).next().is_some()) {
        let missing = || FileError::damaged(dir, format!("no file is listed for steps from {} on", record.first));
        let saved = record.parts.get(index).ok_or_else(missing)?;
        part.place = read_part(layout, index, dir, (record.len, saved), (latents, damaged))?;
        part.saved = Some((part.version, saved.clone()));
    }
    Ok(Block { first: record.first, len: record.len, parts })
}

fn read_part(
    layout: &Layout,
    part: usize,
    dir: &Path,
    (len, saved): (usize, &PartRecord),
    (latents, damaged): (Option<&Arc<LatentFile>>, Damaged),
) -> Result<Place, FileError> {
    let path = dir.join(&saved.file);
    if part == 0 && latents.is_some() && damaged == Damaged::Refuse {
        // What stays on disk is read when it is drawn.
        return Ok(Place::Disk(Arc::new(OnDisk::find(&path, layout, part, len, &saved.digest)?)));
    }
    let bytes = durable::read_checked(&path, &saved.digest)?;
    let mut arrays = durable::decode(&path, &bytes)?;
    let column = |column: &super::Column| {
        let array = arrays.remove(&column.key);
        let fits = |a: &shared::array::Array| {
            a.dtype == column.dtype && a.shape.first() == Some(&len) && a.shape[1..] == column.shape[..]
        };
        let array = array.filter(fits);
        let reason =
            || format!("column {:?} is not {:?} with {len} steps of {:?}", column.key, column.dtype, column.shape);
        array.map(|a| a.bytes).ok_or_else(|| FileError::damaged(&path, reason()))
    };
    let columns = Arc::new(layout.part(part).map(column).collect::<Result<_, _>>()?);
    let Some(latents) = latents else { return Ok(Place::Memory(columns)) };
    if part == 1 {
        return Ok(Place::Slot(Arc::new(Slot::new(latents, &columns)?)));
    }
    let file = OnDisk::new(&path, layout, part, &bytes)?;
    file.name();
    Ok(Place::Disk(Arc::new(file)))
}

fn intact(holes: &[Hole], item: &Item, length: usize) -> bool {
    holes.iter().all(|hole| item.start + length as u64 <= hole.first || item.start >= hole.end)
}

/// Items of runs, each with its stream's index in the manifest.
fn expand(manifest: &Manifest, runs: &[Run]) -> Result<Vec<(usize, Item)>, ReplayError> {
    let mut items = Vec::new();
    for run in runs {
        let record = manifest.streams.get(run.stream);
        let fits = |r: &&StreamRecord| run.start.checked_add(run.count).is_some_and(|end| end <= r.next_item);
        let record = record.filter(fits).ok_or_else(|| ReplayError::Manifest {
            message: format!("its items refer to steps that it does not list ({run:?}); use an older checkpoint"),
        })?;
        items.extend((run.start..run.start + run.count).map(|start| (run.stream, Item { stream: record.id, start })));
    }
    Ok(items)
}

/// Items are steps that are stored, in their order; a manifest that was edited or mixed up must not lead to wrong samples.
fn check_items(store: &Store) -> Result<(), ReplayError> {
    let message = |what: &str| ReplayError::Manifest { message: format!("{what}; use an older checkpoint") };
    let is_stored = |item: &Item| {
        let steps = item.start..item.start + store.length as u64;
        store.streams.get(&item.stream).is_some_and(|stream| stream.holds(steps))
    };
    if !store.items.iter().chain(&store.online).all(is_stored) {
        return Err(message("its items and its stored steps contradict each other"));
    }
    let mut newest = BTreeMap::new();
    for item in &store.items {
        if newest.insert(item.stream, item.start).is_some_and(|before| before >= item.start) {
            return Err(message("its items are not in the order in which they were made"));
        }
    }
    Ok(())
}

/// Counters agree with the blocks.
fn check_whole(store: &Store) -> Result<(), ReplayError> {
    let stored: usize = store.streams.values().map(Stream::steps).sum();
    if store.inserted.checked_sub(store.evicted) != Some(stored as u64) {
        let message =
            format!("its counters and its {stored} stored steps contradict each other; use an older checkpoint");
        return Err(ReplayError::Manifest { message });
    }
    Ok(())
}
