//! The state behind the lock: streams, items, and the draw.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::array::Array;
use shared::config::ReplayConfig;
use shared::experience::{Chunk, DETER, STOCH, StreamId};

use crate::durable::FileError;

use super::disk::{Files, Missing, OnDisk};
use super::latents::{LatentFile, Slot};
use super::layout::{Column, LATENT_UPDATE, Layout};
use super::manifest::PartRecord;
use super::priority::Priority;
use super::sampled::{CONSEC, Sampled, StepId};
use super::stream::{Place, Stream};
use super::{IMPORTED, Inserted, ReplayError, Stats};

/// One thing to sample: `length` steps of a stream from `start` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Item {
    pub stream: StreamId,
    pub start: u64,
}

pub(super) struct Store {
    pub config: ReplayConfig,
    pub length: usize,
    pub context: usize,
    pub layout: Option<Layout>,
    pub streams: BTreeMap<StreamId, Stream>,
    pub items: VecDeque<Item>,
    pub online: VecDeque<Item>,
    /// Where some items are drawn by priority.
    pub priority: Option<Priority>,
    pub rng: Xoshiro256PlusPlus,
    pub saves: u64,
    pub inserted: u64,
    pub evicted: u64,
    /// Steps that are on disk only.
    pub on_disk: usize,
    /// Full blocks that are to go to disk.
    pub full: VecDeque<(StreamId, u64)>,
    latents: Option<Arc<LatentFile>>,
}

impl Store {
    pub fn new(config: &ReplayConfig, length: usize, context: usize, seed: u64) -> Result<Self, ReplayError> {
        let refuse = |message: String| Err(ReplayError::Settings { message });
        if config.size == 0 || config.chunksize == 0 {
            return refuse("replay.size and replay.chunksize must be at least 1".into());
        }
        if !(config.gib > 0.0 && config.gib.is_finite()) {
            return refuse(format!("replay.gib is {}, must be a positive number", config.gib));
        }
        if length <= context {
            return refuse(format!("items of {length} steps leave nothing to train on after a context of {context}"));
        }
        Ok(Self {
            config: config.clone(),
            length,
            context,
            layout: None,
            streams: BTreeMap::new(),
            items: VecDeque::new(),
            online: VecDeque::new(),
            priority: (config.fracs.priority > 0.0).then(|| Priority::new(&config.prio, length)),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            saves: 0,
            inserted: 0,
            evicted: 0,
            on_disk: 0,
            full: VecDeque::new(),
            latents: None,
        })
    }

    pub fn insert(&mut self, chunk: &Chunk) -> Result<Inserted, ReplayError> {
        let fresh = self.layout.is_none().then(|| Layout::of(chunk)).transpose()?;
        let Some(layout) = fresh.as_ref().or(self.layout.as_ref()) else { return Ok(Inserted::default()) };
        let steps = layout.check(chunk)?;
        let skip = self.place(chunk, steps)?;
        if skip == steps {
            return Ok(Inserted::default());
        }
        let step_bytes = layout.step_bytes();
        if let Some(layout) = fresh {
            self.layout = Some(layout);
        }
        self.close_older(chunk.stream);
        self.make_room((steps - skip) * step_bytes, chunk.stream)?;
        if let Some(layout) = &self.layout {
            let stream = self.streams.entry(chunk.stream).or_default();
            let full = stream.append(layout, chunk, skip, steps, self.config.chunksize);
            if self.config.disk_gib > 0.0 {
                self.full.extend(full.into_iter().map(|first| (chunk.stream, first)));
            }
        }
        self.inserted += (steps - skip) as u64;
        Ok(Inserted { steps: steps - skip, items: self.make_items(chunk.stream) })
    }

    /// How many steps of the chunk are stored already; an error if it cannot continue its stream.
    fn place(&self, chunk: &Chunk, steps: usize) -> Result<usize, ReplayError> {
        let id = chunk.stream;
        let next = self.streams.get(&id).map_or(0, |s| s.next);
        let last = chunk.first_step.checked_add(steps as u64);
        if last.is_some_and(|last| last <= next) {
            return Ok(steps);
        }
        if let Some(newest) = self.newest_generation(id.actor).filter(|g| *g > id.generation) {
            return Err(ReplayError::Ended { stream: id, newest });
        }
        if chunk.first_step > next || last.is_none() {
            return Err(ReplayError::Gap { stream: id, expected: next, got: chunk.first_step });
        }
        Ok((next - chunk.first_step) as usize)
    }

    fn newest_generation(&self, actor: u32) -> Option<u32> {
        let lowest = StreamId { actor, generation: 0, env: 0 };
        let highest = StreamId { actor, generation: u32::MAX, env: u32::MAX };
        self.streams.range(lowest..=highest).next_back().map(|(id, _)| id.generation)
    }

    /// A new process of an actor ends the streams of its former ones; those that no item needs are freed.
    fn close_older(&mut self, id: StreamId) {
        if self.streams.contains_key(&id) {
            return;
        }
        let older = |other: &StreamId| other.actor == id.actor && other.generation < id.generation;
        self.streams.iter_mut().filter(|(other, _)| older(other)).for_each(|(_, s)| s.closed = true);
        self.drop_finished();
    }

    pub fn close(&mut self, id: StreamId) {
        self.streams.entry(id).and_modify(|stream| stream.closed = true);
        self.drop_finished();
    }

    fn drop_finished(&mut self) {
        let (evicted, on_disk) = (&mut self.evicted, &mut self.on_disk);
        self.streams.retain(|_, stream| {
            let keep = !stream.closed || stream.live > 0;
            if !keep {
                let [steps, from_disk] = stream.free_before(u64::MAX);
                *evicted += steps as u64;
                *on_disk -= from_disk;
            }
            keep
        });
    }

    /// New items of a stream that has grown. The oldest of all leaves before one comes that would be more than `size`, as in the
    /// official code: the order decides what stands where when items are drawn by priority.
    fn make_items(&mut self, id: StreamId) -> usize {
        let mut made = 0;
        while let Some(item) = self.next_item(id) {
            self.evict_while(|store| store.items.len() >= store.config.size);
            self.add(item);
            made += 1;
        }
        made
    }

    /// The steps of a block are in a file now; its latents go to a slot.
    pub fn moved(
        &mut self,
        (id, first): (StreamId, u64),
        (on_disk, record): (OnDisk, PartRecord),
        latents: &Arc<LatentFile>,
    ) -> Result<(), ReplayError> {
        let block = self.streams.get_mut(&id).and_then(|stream| stream.block_mut(first));
        let Some(block) = block else { return Ok(()) };
        let [steps, own] = &mut block.parts;
        if let Some(columns) = own.memory() {
            own.place = Place::Slot(Arc::new(Slot::new(latents, columns)?));
        }
        steps.saved = Some((steps.version, record));
        steps.place = Place::Disk(Arc::new(on_disk));
        self.on_disk += block.len;
        Ok(())
    }

    /// Where latents of full blocks go.
    pub fn latents(&mut self, dir: &Path, layout: &Layout) -> Result<Arc<LatentFile>, ReplayError> {
        let file = match &self.latents {
            Some(file) => file.clone(),
            None => LatentFile::new(dir, layout, self.config.chunksize)?,
        };
        Ok(self.latents.insert(file).clone())
    }

    /// The next item of a stream, if all its steps are there.
    fn next_item(&self, id: StreamId) -> Option<Item> {
        let stream = self.streams.get(&id)?;
        let whole = stream.next >= stream.next_item + self.length as u64;
        whole.then_some(Item { stream: id, start: stream.next_item })
    }

    fn add(&mut self, item: Item) {
        self.items.push_back(item);
        // Starts a whole item apart, so that the queue passes over the stream once. What was recorded elsewhere is not new.
        if self.config.online && item.stream.actor != IMPORTED && item.start.is_multiple_of(self.length as u64) {
            self.online.push_back(item);
        }
        if let Some(priority) = &mut self.priority {
            priority.insert(&item);
        }
        if let Some(stream) = self.streams.get_mut(&item.stream) {
            stream.next_item += 1;
            stream.live += 1;
        }
    }

    /// Evict until `incoming` bytes fit under the cap.
    fn make_room(&mut self, incoming: usize, newcomer: StreamId) -> Result<(), ReplayError> {
        let cap = self.cap_bytes();
        let block = self.config.chunksize * self.layout.as_ref().map_or(0, Layout::step_bytes);
        self.evict_while(|store| store.bytes() + incoming > cap || !store.disk_holds(block));
        if self.bytes() + incoming <= cap {
            return Ok(());
        }
        Err(ReplayError::CapTooSmall {
            cap: self.config.gib,
            streams: self.streams.len() + usize::from(!self.streams.contains_key(&newcomer)),
            chunksize: self.config.chunksize,
            step_bytes: self.layout.as_ref().map_or(0, Layout::step_bytes),
        })
    }

    /// Bring replay under both caps, for a restore with smaller ones.
    pub fn shrink(&mut self) {
        let cap = self.cap_bytes();
        self.evict_while(|store| store.items.len() > store.config.size || store.bytes() > cap || !store.disk_holds(0));
    }

    fn evict_while(&mut self, mut needed: impl FnMut(&Self) -> bool) {
        while needed(self) {
            let Some(item) = self.items.pop_front() else { return };
            if let Some(priority) = &mut self.priority {
                priority.remove_oldest(&item);
            }
            if self.online.front() == Some(&item) {
                self.online.pop_front();
            }
            let Some(stream) = self.streams.get_mut(&item.stream) else { continue };
            stream.live -= 1;
            let [steps, from_disk] = stream.free_before(item.start + 1);
            self.evicted += steps as u64;
            self.on_disk -= from_disk;
            if stream.closed && stream.live == 0 {
                self.drop_finished();
            }
        }
    }

    pub fn cap_bytes(&self) -> usize {
        (self.config.gib * (1u64 << 30) as f64) as usize
    }

    /// Steps; kept as a difference of counters, since it is asked for on every eviction.
    pub fn steps(&self) -> usize {
        (self.inserted - self.evicted) as usize
    }

    /// Memory of all steps.
    pub fn bytes(&self) -> usize {
        self.steps() * self.layout.as_ref().map_or(0, Layout::step_bytes) - self.disk_bytes()
    }

    /// Bytes that are on disk only.
    pub fn disk_bytes(&self) -> usize {
        self.on_disk * self.layout.as_ref().map_or(0, Layout::step_bytes)
    }

    pub fn disk_cap_bytes(&self) -> usize {
        (self.config.disk_gib * (1u64 << 30) as f64) as usize
    }

    /// Whether so many more bytes may go to disk, or nothing is there that could make room for them.
    fn disk_holds(&self, bytes: usize) -> bool {
        self.on_disk == 0 || self.disk_bytes() + bytes <= self.disk_cap_bytes()
    }

    pub fn stats(&self) -> Stats {
        let (steps, bytes) = (self.steps(), self.bytes());
        let disk_bytes = self.disk_bytes();
        let on_disk = disk_bytes as f64 / self.disk_cap_bytes().max(1) as f64;
        let fill = (self.items.len() as f64 / self.config.size as f64).max(bytes as f64 / self.cap_bytes() as f64);
        let fill = fill.max(on_disk);
        let (items, streams) = (self.items.len(), self.streams.len());
        Stats { items, steps, streams, bytes, disk_bytes, fill, inserted: self.inserted, evicted: self.evicted }
    }

    /// Everything that is in memory is copied; what is on disk is still to be read.
    pub fn sample(&mut self, rows: usize) -> Result<Drawn, ReplayError> {
        if self.items.is_empty() {
            return Err(self.nothing());
        }
        let mut drawn: Vec<Item> = (0..rows).map_while(|_| self.online.pop_front()).collect();
        let from_online = drawn.len();
        drawn.extend((from_online..rows).map(|_| self.draw()));
        self.batch(&drawn, self.length, from_online)
    }

    /// The first `length` steps of items drawn uniformly, with random numbers of their own; at most an item's steps.
    pub fn look(&self, rows: usize, length: usize, seed: u64) -> Result<Drawn, ReplayError> {
        if self.items.is_empty() {
            return Err(self.nothing());
        }
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let drawn: Vec<Item> = (0..rows).map(|_| self.items[rng.random_range(0..self.items.len())]).collect();
        self.batch(&drawn, length.min(self.length), 0)
    }

    fn nothing(&self) -> ReplayError {
        ReplayError::Empty { steps: self.steps(), length: self.length }
    }

    /// The first `length` steps of these items.
    fn batch(&self, drawn: &[Item], length: usize, from_online: usize) -> Result<Drawn, ReplayError> {
        let Some(layout) = &self.layout else { return Err(self.nothing()) };
        let rows = drawn.len();
        let (mut files, mut missing) = (Files::default(), vec![]);
        let mut batch = BTreeMap::new();
        for (index, column) in layout.columns.iter().enumerate() {
            let mut absent = vec![];
            batch.insert(column.key.clone(), self.gather((drawn, length), layout, index, (&mut files, &mut absent))?);
            missing.extend((!absent.is_empty()).then(|| (column.key.clone(), absent)));
        }
        batch.insert(CONSEC.into(), Array::i32(&[rows], &vec![0; rows]));
        let first_trained = |i: &Item| StepId { stream: i.stream, step: i.start + self.context as u64 };
        let sampled = Sampled { batch, ids: drawn.iter().map(first_trained).collect(), from_online };
        Ok(Drawn { sampled, missing, length })
    }

    /// One item; there must be one.
    fn draw(&mut self) -> Item {
        let share = self.config.fracs.priority;
        if let Some(priority) = self.priority.as_mut().filter(|_| self.rng.random::<f64>() < share) {
            let item = self.items[priority.draw(&mut self.rng)];
            priority.mark_drawn(&item);
            return item;
        }
        self.items[draw(&self.config, &mut self.rng, self.items.len())]
    }

    /// One column of a batch, [B, length, …].
    fn gather(
        &self,
        (items, length): (&[Item], usize),
        layout: &Layout,
        index: usize,
        (files, missing): (&mut Files, &mut Vec<Missing>),
    ) -> Result<Array, ReplayError> {
        let Column { dtype, shape, .. } = &layout.columns[index];
        let width = layout.columns[index].width();
        let mut bytes = Vec::with_capacity(items.len() * length * width);
        for item in items {
            if let Some(stream) = self.streams.get(&item.stream) {
                let steps = item.start..item.start + length as u64;
                stream.copy(layout.places[index], width, steps, &mut bytes, (&mut *files, &mut *missing))?;
            }
        }
        let shape = [items.len(), length].into_iter().chain(shape.iter().copied()).collect();
        Ok(Array { dtype: *dtype, shape, bytes })
    }

    pub fn dates_latents(&self) -> bool {
        self.layout.as_ref().is_none_or(|layout| layout.find(LATENT_UPDATE).is_some())
    }

    pub fn write_latents(
        &mut self,
        ids: &[StepId],
        deter: &Array,
        stoch: &Array,
        update: u64,
    ) -> Result<(), ReplayError> {
        let lead = &deter.shape[..deter.shape.len().min(2)];
        let dates = Array::u64(lead, &vec![update; lead.iter().product()]);
        let mut arrays = vec![(DETER, deter), (STOCH, stoch)];
        arrays.extend(self.dates_latents().then_some((LATENT_UPDATE, &dates)));
        let found = arrays.iter().map(|(key, array)| self.latent(key, ids, array)).collect::<Result<Vec<_>, _>>()?;
        for ((place, width, steps), (_, array)) in found.into_iter().zip(arrays) {
            for (id, bytes) in ids.iter().zip(array.bytes.chunks_exact((steps * width).max(1))) {
                if let Some(stream) = self.streams.get_mut(&id.stream) {
                    stream.overwrite(place, width, id.step..id.step + steps as u64, bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Place, bytes per step and number of steps of latents that fit the stored column.
    fn latent(
        &self,
        key: &'static str,
        ids: &[StepId],
        array: &Array,
    ) -> Result<((usize, usize), usize, usize), ReplayError> {
        let refuse = |message: String| ReplayError::Latents { key, message };
        let layout = self.layout.as_ref().ok_or_else(|| refuse("replay is empty".into()))?;
        let index = layout.find(key).ok_or_else(|| refuse("actors recorded no such column".into()))?;
        let column = &layout.columns[index];
        let fits = array.dtype == column.dtype && array.shape.len() >= 2 && array.shape[2..] == column.shape[..];
        if !fits || array.shape[0] != ids.len() || array.bytes.len() != array.elements() * array.dtype.size() {
            return Err(refuse(format!(
                "got {:?} {:?}, expected {:?} [{}, T] + {:?}",
                array.dtype,
                array.shape,
                column.dtype,
                ids.len(),
                column.shape
            )));
        }
        Ok((layout.places[index], column.width(), array.shape[1]))
    }
}

/// A sample, some of it still on disk.
pub(super) struct Drawn {
    sampled: Sampled,
    missing: Vec<(String, Vec<Missing>)>,
    length: usize,
}

impl Drawn {
    /// Read what is on disk.
    pub fn finish(mut self) -> Result<Sampled, ReplayError> {
        for (key, parts) in &self.missing {
            let Some(column) = self.sampled.batch.get_mut(key) else { continue };
            let read = parts.iter().try_for_each(|part| part.read(&mut column.bytes));
            read.map_err(|error| match error {
                damage @ FileError::Damaged { .. } => ReplayError::Damaged { damage: vec![damage] },
                error => error.into(),
            })?;
        }
        mark_borders(&mut self.sampled.batch, self.length);
        Ok(self.sampled)
    }
}

/// Index of one of `count` items, oldest first, which is not drawn by priority.
fn draw(config: &ReplayConfig, rng: &mut Xoshiro256PlusPlus, count: usize) -> usize {
    let recency = config.fracs.recency / (1.0 - config.fracs.priority);
    if recency == 0.0 || rng.random::<f64>() >= recency {
        return rng.random_range(0..count);
    }
    let size = config.size as f64;
    let Ok(zipf) = Zipf::new(size, config.recexp) else { return rng.random_range(0..count) };
    let age = zipf.sample(rng) - 1.0;
    // Weights are over the ages of a full replay; before it is full, they are spread over what there is.
    let age = if count < config.size { (age / size * count as f64) as usize } else { age as usize };
    count - 1 - age.min(count - 1)
}

/// A sample starts like an episode, whatever came before it; and a step whose follower starts an episode is a last one,
/// also where the recording broke off.
fn mark_borders(batch: &mut BTreeMap<String, Array>, length: usize) {
    let Some(is_first) = batch.get_mut("is_first") else { return };
    is_first.bytes.chunks_exact_mut(length).for_each(|row| row[0] = 1);
    let firsts = is_first.bytes.clone();
    let Some(is_last) = batch.get_mut("is_last") else { return };
    for (last, first) in is_last.bytes.chunks_exact_mut(length).zip(firsts.chunks_exact(length)) {
        last.iter_mut().zip(&first[1..]).for_each(|(last, next)| *last |= next);
    }
}

#[cfg(test)]
mod tests {
    use shared::config::Config;

    use super::*;

    fn mean_index(sets: &[&str], count: usize) -> f64 {
        let config = Config::load(&["dummy"], sets).unwrap().replay;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let draws = 4000;
        (0..draws).map(|_| draw(&config, &mut rng, count) as f64).sum::<f64>() / f64::from(draws)
    }

    #[test]
    fn recency_prefers_new_items_as_much_as_its_share_says() {
        let uniform = mean_index(&[], 1000);
        let half = mean_index(&["replay.fracs={uniform=0.5,recency=0.5,priority=0.0}"], 1000);
        let recent = mean_index(&["replay.fracs={uniform=0.0,recency=1.0,priority=0.0}"], 1000);
        let flat = mean_index(&["replay.fracs={uniform=0.0,recency=1.0,priority=0.0}", "replay.recexp=0.0"], 1000);
        assert!((uniform - 500.0).abs() < 20.0 && (flat - 500.0).abs() < 20.0, "{uniform} {flat}");
        // Ages of 10,000 with weights 1/k have a mean of 10,000 / ln(10,000) or so, here scaled to 1,000 items.
        assert!((recent - 898.0).abs() < 15.0, "{recent}");
        assert!((half - (500.0 + recent) / 2.0).abs() < 20.0, "{half}");
    }
}
