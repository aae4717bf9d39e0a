//! Steps of one environment stream, in blocks.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use shared::experience::Chunk;

use super::layout::{Layout, PARTS};
use super::manifest::PartRecord;

/// Columns of one part, each `len` steps long. Shared with a save while its file is written; a change meanwhile copies them.
pub(super) type Columns = Arc<Vec<Vec<u8>>>;

/// The columns of a block that go in one file.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub columns: Columns,
    /// Raised by every change.
    pub version: u64,
    /// The newest file, and the version it holds.
    pub saved: Option<(u64, PartRecord)>,
}

impl Part {
    fn change(&mut self) -> &mut Vec<Vec<u8>> {
        self.version += 1;
        Arc::make_mut(&mut self.columns)
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

    fn new(first: u64, layout: &Layout, chunksize: usize) -> Self {
        let part = |index| Part {
            columns: Arc::new(layout.part(index).map(|c| Vec::with_capacity(c.width() * chunksize)).collect()),
            ..Part::default()
        };
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
    /// Append the steps of a checked chunk from `skip` on.
    pub fn append(&mut self, layout: &Layout, chunk: &Chunk, skip: usize, steps: usize, chunksize: usize) {
        let mut from = skip;
        while from < steps {
            if self.blocks.back().is_none_or(|b| b.len >= chunksize || b.end() != self.next) {
                self.blocks.push_back(Block::new(self.next, layout, chunksize));
            }
            let Some(block) = self.blocks.back_mut() else { return };
            let count = (chunksize - block.len).min(steps - from);
            append_part(block, layout, chunk, from..from + count);
            block.len += count;
            self.next += count as u64;
            from += count;
        }
    }

    /// Free the blocks that end at or before a step; returns the number of steps freed.
    pub fn free_before(&mut self, step: u64) -> usize {
        let mut freed = 0;
        while let Some(block) = self.blocks.front().filter(|b| b.end() <= step) {
            freed += block.len;
            self.blocks.pop_front();
        }
        freed
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

    /// Copy steps of one column; all of them must be stored.
    pub fn copy(&self, place: (usize, usize), width: usize, steps: Range<u64>, out: &mut Vec<u8>) {
        for (index, inside, _) in self.overlaps(&steps) {
            let column = &self.blocks[index].parts[place.0].columns[place.1];
            out.extend_from_slice(&column[inside.start * width..inside.end * width]);
        }
    }

    /// Overwrite steps of one column with `bytes`; steps that are not stored any more are skipped.
    pub fn overwrite(&mut self, place: (usize, usize), width: usize, steps: Range<u64>, bytes: &[u8]) {
        for (index, inside, within) in self.overlaps(&steps) {
            let column = &mut self.blocks[index].parts[place.0].change()[place.1];
            column[inside.start * width..inside.end * width]
                .copy_from_slice(&bytes[within.start * width..within.end * width]);
        }
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
    let [mut steps, mut latents] = block.parts.each_mut().map(|part| part.change().iter_mut());
    for ((column, place), array) in layout.columns.iter().zip(&layout.places).zip(chunk.columns.values()) {
        let target = if place.0 == 0 { steps.next() } else { latents.next() };
        let width = column.width();
        target.into_iter().for_each(|t| t.extend_from_slice(&array.bytes[rows.start * width..rows.end * width]));
    }
}
