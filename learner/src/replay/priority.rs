//! Drawing by priority, as `embodied/core/selectors.py` (`Prioritized`) of the official DreamerV3 does. Nothing tells it
//! priorities from training, so a step has only two: the initial one, and zero once an item with it was drawn here. With the
//! official settings the first is infinite: items with a step that was never drawn come before all others.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use rand::Rng;
use serde::{Deserialize, Serialize};
use shared::config::PrioConfig;
use shared::experience::StreamId;

use super::sample_tree::SampleTree;
use super::store::Item;

/// The items of replay by priority; it is told of each that comes or goes.
#[derive(Debug)]
pub(super) struct Priority {
    weights: Weights,
    zero_on_sample: bool,
    /// Steps of one item.
    length: u64,
    /// Number of the oldest item; items are numbered as they come.
    oldest: u64,
    /// Leaf of each item, oldest first.
    leaves: VecDeque<usize>,
    /// Number of the item of each leaf.
    items: Vec<u64>,
    tree: SampleTree,
    streams: BTreeMap<StreamId, Steps>,
}

/// What is saved of it: with the items, everything that decides the next draw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PriorityRecord {
    /// Items in the order of their leaves, counted from the oldest, in runs that count up or down: first and last.
    pub leaves: Vec<(u64, u64)>,
    /// Steps that were drawn: index into [`super::Manifest::streams`], first step, number of steps.
    pub drawn: Vec<(usize, u64, u64)>,
}

impl Priority {
    /// Without items. `length`: steps of one item.
    pub fn new(config: &PrioConfig, length: usize) -> Self {
        Self {
            weights: Weights::new(config, length),
            zero_on_sample: config.zero_on_sample,
            length: length as u64,
            oldest: 0,
            leaves: VecDeque::new(),
            items: Vec::new(),
            tree: SampleTree::default(),
            streams: BTreeMap::new(),
        }
    }

    /// A new item, the newest of its stream.
    pub fn insert(&mut self, item: &Item) {
        let number = self.oldest + self.leaves.len() as u64;
        let steps = self.streams.entry(item.stream).or_default();
        steps.insert(item.start, number, self.length);
        let weight = self.weights.of(steps.count_drawn(item.start, self.length));
        self.leaves.push_back(self.items.len());
        self.items.push(number);
        self.tree.push(weight);
    }

    /// The oldest item leaves. The item of the last leaf comes under the node that it leaves, as the last one there.
    pub fn remove_oldest(&mut self, item: &Item) {
        let Some(leaf) = self.leaves.pop_front() else { return };
        self.oldest += 1;
        let (end, last) = (self.tree.siblings(leaf).end - 1, self.items.len() - 1);
        for at in leaf..end {
            self.copy(at + 1, at);
        }
        if end != last {
            self.copy(last, end);
        }
        self.items.pop();
        self.tree.pop();
        self.forget(item);
    }

    fn copy(&mut self, from: usize, to: usize) {
        let number = self.items[from];
        self.items[to] = number;
        self.leaves[(number - self.oldest) as usize] = to;
        self.tree.set(to, self.tree.weight(from));
    }

    /// Priorities of steps that no item holds any more are forgotten.
    fn forget(&mut self, item: &Item) {
        let Some(steps) = self.streams.get_mut(&item.stream) else { return };
        steps.items.pop_front();
        match steps.items.front() {
            Some((start, _)) => steps.forget_before(*start),
            None => drop(self.streams.remove(&item.stream)),
        }
    }

    /// Draw an item; returns how many are older. There must be one.
    pub fn draw(&self, rng: &mut impl Rng) -> usize {
        (self.items[self.tree.draw(rng)] - self.oldest) as usize
    }

    /// An item was drawn: its steps have priority zero from now on.
    pub fn mark_drawn(&mut self, item: &Item) {
        let Some(steps) = self.streams.get_mut(&item.stream).filter(|_| self.zero_on_sample) else { return };
        steps.mark(item.start..item.start + self.length);
        for (start, number) in steps.overlapping(item.start, self.length) {
            let weight = self.weights.of(steps.count_drawn(*start, self.length));
            let leaf = self.leaves[(number - self.oldest) as usize];
            if self.tree.weight(leaf) != weight {
                self.tree.set(leaf, weight);
            }
        }
    }

    /// What to save. `index`: place of each stream in the manifest.
    pub fn record(&self, index: &BTreeMap<StreamId, usize>) -> PriorityRecord {
        let mut record = PriorityRecord::default();
        for number in self.items.iter().map(|number| number - self.oldest) {
            match record.leaves.last_mut() {
                Some((first, last)) if continues(*first, *last, number) => *last = number,
                _ => record.leaves.push((number, number)),
            }
        }
        for (id, steps) in &self.streams {
            let Some(stream) = index.get(id) else { continue };
            record.drawn.extend(steps.runs().map(|(first, count)| (*stream, first, count)));
        }
        record
    }

    /// As it was when `record` was taken of `kept.len()` items, of which those that are `kept` are left: `items`.
    /// `streams` are those of the manifest. None if the record contradicts the items.
    pub fn restore(
        mut self,
        record: &PriorityRecord,
        streams: &[StreamId],
        kept: &[bool],
        items: &VecDeque<Item>,
    ) -> Option<Self> {
        for (number, item) in items.iter().enumerate() {
            self.streams.entry(item.stream).or_default().insert(item.start, number as u64, self.length);
        }
        for (stream, first, count) in &record.drawn {
            let end = first.checked_add(*count)?;
            // A stream whose items were all dropped has no priorities.
            self.streams.get_mut(streams.get(*stream)?).into_iter().for_each(|steps| steps.mark(*first..end));
        }
        let mut left = 0;
        let numbers: Vec<u64> = kept.iter().map(|kept| (left += u64::from(*kept), left).1).collect();
        let mut leaves = vec![None; items.len()];
        let mut seen = vec![false; kept.len()];
        for old in record.leaves.iter().flat_map(|(first, last)| count(*first, *last, kept.len())) {
            if std::mem::replace(seen.get_mut(old)?, true) {
                return None;
            }
            if kept[old] {
                let number = numbers[old] - 1;
                let item = items.get(number as usize)?;
                leaves[number as usize] = Some(self.items.len());
                self.items.push(number);
                let drawn = self.streams.get(&item.stream)?.count_drawn(item.start, self.length);
                self.tree.push(self.weights.of(drawn));
            }
        }
        self.leaves = leaves.into_iter().collect::<Option<_>>()?;
        Some(self)
    }
}

/// Whether a run from `first` to `last` goes on with `next`, in the direction it has.
fn continues(first: u64, last: u64, next: u64) -> bool {
    (next == last + 1 && first <= last) || (next + 1 == last && first >= last)
}

/// A run's numbers, cut where there cannot be more.
fn count(first: u64, last: u64, most: usize) -> impl Iterator<Item = usize> {
    let step = move |i: u64| if first <= last { first + i } else { first - i };
    (0..=first.abs_diff(last)).take(most + 1).map(move |i| step(i) as usize)
}

/// The steps of one stream that are in an item, and those items.
#[derive(Debug, Default)]
struct Steps {
    /// Index of the first step.
    first: u64,
    /// Whether each step was drawn.
    drawn: VecDeque<bool>,
    /// Start and number of each item, oldest first.
    items: VecDeque<(u64, u64)>,
}

impl Steps {
    fn insert(&mut self, start: u64, number: u64, length: u64) {
        if self.items.is_empty() {
            self.first = start;
        }
        self.items.push_back((start, number));
        self.drawn.resize((start + length - self.first) as usize, false);
    }

    fn forget_before(&mut self, step: u64) {
        self.drawn.drain(..(step - self.first) as usize);
        self.first = step;
    }

    /// How many steps of an item were drawn.
    fn count_drawn(&self, start: u64, length: u64) -> usize {
        let from = (start - self.first) as usize;
        self.drawn.range(from..from + length as usize).filter(|drawn| **drawn).count()
    }

    /// Steps that are in no item are skipped.
    fn mark(&mut self, steps: Range<u64>) {
        let index = |step: u64| (step.saturating_sub(self.first) as usize).min(self.drawn.len());
        let range = index(steps.start)..index(steps.end).max(index(steps.start));
        self.drawn.range_mut(range).for_each(|drawn| *drawn = true);
    }

    /// Items that share steps with the one that begins at `start`.
    fn overlapping(&self, start: u64, length: u64) -> impl Iterator<Item = &(u64, u64)> {
        let from = self.items.partition_point(|item| item.0 + length <= start);
        let to = self.items.partition_point(|item| item.0 < start + length);
        self.items.range(from..to)
    }

    /// Runs of steps that were drawn: first step, number of steps.
    fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (step, _) in (self.first..).zip(&self.drawn).filter(|(_, drawn)| **drawn) {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == step => *count += 1,
                _ => runs.push((step, 1)),
            }
        }
        runs.into_iter()
    }
}

/// From priorities of steps to the weight of an item.
#[derive(Clone, Debug)]
struct Weights {
    /// Of a step that was not drawn, and of one that was, with the exponent.
    priorities: [f64; 2],
    maxfrac: f64,
    length: usize,
}

impl Weights {
    fn new(config: &PrioConfig, length: usize) -> Self {
        let priorities = [config.initial, 0.0].map(|priority| priority.powf(config.exponent));
        Self { priorities, maxfrac: config.maxfrac, length }
    }

    /// Of an item of which this many steps were drawn: mean and maximum of their priorities, mixed.
    fn of(&self, drawn: usize) -> f64 {
        let counts = [self.length - drawn, drawn];
        let present = || self.priorities.iter().zip(counts).filter(|(_, count)| *count > 0);
        let mean = present().map(|(priority, count)| priority * count as f64).sum::<f64>() / self.length as f64;
        let max = present().map(|(priority, _)| *priority).fold(0.0, f64::max);
        if mean.is_infinite() { mean } else { self.maxfrac * max + (1.0 - self.maxfrac) * mean }
    }
}

#[cfg(test)]
mod tests;
