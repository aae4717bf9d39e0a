//! Steps of one environment stream, in blocks.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use shared::experience::Chunk;

use super::disk::{Files, Missing, OnDisk};
use super::latents::{Frozen, Slot};
use super::layout::{Layout, PARTS};
use super::manifest::PartRecord;
use crate::durable::FileError;

/// Columns of one part, each `len` steps long. Shared with a save while its file is written; a change meanwhile copies them.
pub(super) type Columns = Arc<Vec<Vec<u8>>>;

/// Where the columns of a part are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Memory(Columns),
    /// Steps, which do not change any more.
    Disk(Arc<OnDisk>),
    /// Latents, which do.
    Slot(Arc<Slot>),
}

impl Default for Place {
    fn default() -> Self {
        Self::Memory(Columns::default())
    }
}

/// The columns of a block that go in one file.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub place: Place,
    /// Raised by every change.
    pub version: u64,
    /// The newest file, and the version it holds.
    pub saved: Option<(u64, PartRecord)>,
    /// For cuts that need the columns as they are, where they are in a slot.
    frozen: Vec<Arc<Frozen>>,
}

impl Part {
    /// Columns to be changed, where they are in memory.
    fn change(&mut self) -> Option<&mut Vec<Vec<u8>>> {
        let Place::Memory(columns) = &mut self.place else { return None };
        self.version += 1;
        Some(Arc::make_mut(columns))
    }

    /// The columns, where they are in memory.
    pub fn memory(&self) -> Option<&Columns> {
        match &self.place {
            Place::Memory(columns) => Some(columns),
            Place::Disk(_) | Place::Slot(_) => None,
        }
    }

    /// The latents of a slot as they are now, for a cut.
    pub fn freeze(&mut self, slot: &Arc<Slot>) -> Arc<Frozen> {
        self.frozen.retain(|frozen| !frozen.is_taken());
        let frozen = Arc::new(Frozen::new(slot));
        self.frozen.push(frozen.clone());
        frozen
    }

    /// Overwrite a column from byte `start` on.
    fn overwrite(&mut self, column: usize, start: usize, bytes: &[u8]) -> Result<(), FileError> {
        if let Some(columns) = self.change() {
            columns[column][start..start + bytes.len()].copy_from_slice(bytes);
        } else if let Place::Slot(slot) = &self.place {
            self.frozen.drain(..).try_for_each(|frozen| frozen.keep())?;
            self.version += 1;
            slot.write(column, start, bytes)?;
        }
        Ok(())
    }

    /// The file that holds exactly this part.
    pub fn clean(&self) -> Option<&PartRecord> {
        self.saved.as_ref().filter(|(version, _)| *version == self.version).map(|(_, record)| record)
    }
}

/// Consecutive steps of a stream; what is freed and saved as a whole.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub first: u64,
    pub len: usize,
    pub parts: [Part; PARTS],
}

impl Block {
    pub fn end(&self) -> u64 {
        self.first + self.len as u64
    }

    /// Whether its steps are on disk only.
    pub fn on_disk(&self) -> bool {
        self.parts[0].memory().is_none()
    }

    fn new(first: u64, layout: &Layout, chunksize: usize) -> Self {
        let columns = |index| layout.part(index).map(|c| Vec::with_capacity(c.width() * chunksize)).collect();
        let part = |index| Part { place: Place::Memory(Arc::new(columns(index))), ..Part::default() };
        Self { first, len: 0, parts: std::array::from_fn(part) }
    }
}

/// One stream: its blocks, and which items start in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    pub blocks: VecDeque<Block>,
    /// Step that the next chunk starts with.
    pub next: u64,
    /// Start of the next item.
    pub next_item: u64,
    /// Items in replay.
    pub live: usize,
    /// Whether its process was replaced.
    pub closed: bool,
}

impl Stream {
    /// Append the steps of a checked chunk from `skip` on; returns the first steps of the blocks that are full now.
    pub fn append(&mut self, layout: &Layout, chunk: &Chunk, skip: usize, steps: usize, chunksize: usize) -> Vec<u64> {
        let (mut from, mut full) = (skip, vec![]);
        while from < steps {
            if self.blocks.back().is_none_or(|b| b.len >= chunksize || b.end() != self.next) {
                self.blocks.push_back(Block::new(self.next, layout, chunksize));
            }
            let Some(block) = self.blocks.back_mut() else { break };
            let count = (chunksize - block.len).min(steps - from);
            append_part(block, layout, chunk, from..from + count);
            block.len += count;
            self.next += count as u64;
            from += count;
            full.extend((block.len >= chunksize).then_some(block.first));
        }
        full
    }

    /// Free the blocks that end at or before a step; returns the number of steps freed, and of those that were on disk.
    pub fn free_before(&mut self, step: u64) -> [usize; 2] {
        let mut freed = [0; 2];
        while let Some(block) = self.blocks.front().filter(|b| b.end() <= step) {
            freed[0] += block.len;
            freed[1] += if block.on_disk() { block.len } else { 0 };
            self.blocks.pop_front();
        }
        freed
    }

    /// The block that starts with a step.
    pub fn block_mut(&mut self, first: u64) -> Option<&mut Block> {
        let index = self.blocks.binary_search_by_key(&first, |block| block.first).ok()?;
        self.blocks.get_mut(index)
    }

    /// Number of steps stored.
    pub fn steps(&self) -> usize {
        self.blocks.iter().map(|b| b.len).sum()
    }

    /// Whether all these steps are stored.
    pub fn holds(&self, steps: Range<u64>) -> bool {
        let stored: usize = self.overlaps(&steps).into_iter().map(|(_, inside, _)| inside.len()).sum();
        stored as u64 == steps.end - steps.start
    }

    /// Copy steps of one column to the end of `out`; all of them must be stored. What is on disk becomes zeros and is added to
    /// `missing`.
    pub fn copy(
        &self,
        (part, column): (usize, usize),
        width: usize,
        steps: Range<u64>,
        out: &mut Vec<u8>,
        (files, missing): (&mut Files, &mut Vec<Missing>),
    ) -> Result<(), FileError> {
        for (index, inside, _) in self.overlaps(&steps) {
            let bytes = inside.start * width..inside.end * width;
            let end = out.len() + bytes.len();
            match &self.blocks[index].parts[part].place {
                Place::Memory(columns) => out.extend_from_slice(&columns[column][bytes.clone()]),
                Place::Disk(from) => {
                    missing.push(files.missing(from, column, [bytes.start, out.len(), bytes.len()])?)
                }
                Place::Slot(slot) => {
                    missing.push(Missing::latents(slot, column, [bytes.start, out.len(), bytes.len()]));
                }
            }
            out.resize(end, 0);
        }
        Ok(())
    }

    /// Overwrite steps of one column with `bytes`; steps that are not stored any more are skipped.
    pub fn overwrite(
        &mut self,
        (part, column): (usize, usize),
        width: usize,
        steps: Range<u64>,
        bytes: &[u8],
    ) -> Result<(), FileError> {
        for (index, inside, within) in self.overlaps(&steps) {
            let bytes = &bytes[within.start * width..within.end * width];
            self.blocks[index].parts[part].overwrite(column, inside.start * width, bytes)?;
        }
        Ok(())
    }

    /// Blocks that hold some of these steps: index, range within the block, range within `steps`.
    fn overlaps(&self, steps: &Range<u64>) -> Vec<(usize, Range<usize>, Range<usize>)> {
        let start = self.blocks.partition_point(|b| b.end() <= steps.start);
        let overlap = |(index, block): (usize, &Block)| {
            let (from, to) = (steps.start.max(block.first), steps.end.min(block.end()));
            let relative = |base: u64| (from - base) as usize..(to - base) as usize;
            (index, relative(block.first), relative(steps.start))
        };
        self.blocks.iter().enumerate().skip(start).take_while(|(_, b)| b.first < steps.end).map(overlap).collect()
    }
}

fn append_part(block: &mut Block, layout: &Layout, chunk: &Chunk, rows: Range<usize>) {
    let [mut steps, mut latents] = block.parts.each_mut().map(|part| part.change().into_iter().flatten());
    for ((column, place), array) in layout.columns.iter().zip(&layout.places).zip(chunk.columns.values()) {
        let target = if place.0 == 0 { steps.next() } else { latents.next() };
        let width = column.width();
        target.into_iter().for_each(|t| t.extend_from_slice(&array.bytes[rows.start * width..rows.end * width]));
    }
}
