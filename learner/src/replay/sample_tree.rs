//! A tree to draw from by weight, with the shape and the rules of `embodied/core/selectors.py` (`SampleTree`) of the official
//! DreamerV3: they decide what is drawn where weights are infinite or all zero.

use std::ops::Range;

use rand::{Rng, RngExt};

/// Children of a node.
const BRANCHING: usize = 16;

/// Leaves under a complete tree that is filled from the left. A draw goes down from the root: among the children whose weight
/// is infinite, if there are any, each alike; among all children alike, if all weights are zero; else in proportion to
/// the weights. So leaves of infinite or zero weight are not quite alike: a child with few leaves counts like one with many.
#[derive(Clone, Debug, Default)]
pub(super) struct SampleTree {
    /// Weights: of the leaves, then of the nodes above them, level by level up to the root.
    levels: Vec<Vec<f64>>,
}

impl SampleTree {
    /// Number of leaves.
    pub fn len(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    /// Leaves under the same lowest node as this one.
    pub fn siblings(&self, leaf: usize) -> Range<usize> {
        children(leaf / BRANCHING, self.len())
    }

    /// Weight of a leaf.
    pub fn weight(&self, leaf: usize) -> f64 {
        self.levels[0][leaf]
    }

    /// Add a leaf at the end.
    pub fn push(&mut self, weight: f64) {
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        self.levels[0].push(weight);
        self.sum_above(self.len() - 1);
    }

    /// Remove the leaf at the end.
    pub fn pop(&mut self) {
        let count = self.len().saturating_sub(1);
        if count == 0 {
            self.levels.clear();
            return;
        }
        let mut size = count;
        for level in &mut self.levels {
            level.truncate(size);
            size = size.div_ceil(BRANCHING);
        }
        self.sum_above(count - 1);
    }

    /// Change the weight of a leaf.
    pub fn set(&mut self, leaf: usize, weight: f64) {
        self.levels[0][leaf] = weight;
        self.sum_above(leaf);
    }

    /// Sums on the way from a leaf to the root, taken afresh so that no rounding error stays; adds a root where there is none.
    fn sum_above(&mut self, leaf: usize) {
        let mut index = leaf;
        for level in 1.. {
            let below = &self.levels[level - 1];
            if level > 1 && level == self.levels.len() && below.len() == 1 {
                return;
            }
            index /= BRANCHING;
            let sum = below[children(index, below.len())].iter().sum();
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            match self.levels[level].get_mut(index) {
                Some(weight) => *weight = sum,
                None => self.levels[level].push(sum),
            }
        }
    }

    /// Draw a leaf; there must be one.
    pub fn draw(&self, rng: &mut impl Rng) -> usize {
        let mut index = 0;
        for level in self.levels.iter().rev().skip(1) {
            let range = children(index, level.len());
            index = range.start + choose(&level[range], rng);
        }
        index
    }
}

fn children(node: usize, count: usize) -> Range<usize> {
    node * BRANCHING..((node + 1) * BRANCHING).min(count)
}

fn choose(weights: &[f64], rng: &mut impl Rng) -> usize {
    if weights.len() == 1 {
        // No random number: a tree that was higher once must draw like one that never was.
        return 0;
    }
    let mut left = rng.random::<f64>() * shares(weights).sum::<f64>();
    let mut last = 0;
    for (index, share) in shares(weights).enumerate().filter(|(_, share)| *share > 0.0) {
        last = index;
        left -= share;
        if left < 0.0 {
            break;
        }
    }
    last
}

/// What the chances of the children of one node are in proportion to.
fn shares(weights: &[f64]) -> impl Iterator<Item = f64> {
    let total: f64 = weights.iter().sum();
    weights.iter().map(move |weight| match total {
        0.0 => 1.0,
        _ if total.is_infinite() => f64::from(weight.is_infinite()),
        _ => *weight,
    })
}

#[cfg(test)]
impl SampleTree {
    /// The chance of each leaf to be drawn.
    pub fn chances(&self) -> Vec<f64> {
        let mut chances = vec![1.0];
        for level in self.levels.iter().rev().skip(1) {
            let split = |(node, chance): (usize, &f64)| {
                let weights = &level[children(node, level.len())];
                let total: f64 = shares(weights).sum();
                shares(weights).map(|share| chance * share / total).collect::<Vec<_>>()
            };
            chances = chances.iter().enumerate().flat_map(split).collect();
        }
        chances
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    fn tree(weights: impl Iterator<Item = f64>) -> SampleTree {
        let mut tree = SampleTree::default();
        weights.for_each(|weight| tree.push(weight));
        tree
    }

    #[test]
    fn draws_come_as_often_as_their_chances_say() {
        let infinite = (0..300).map(|i| if i % 7 == 0 { f64::INFINITY } else { f64::from(i) });
        let finite = (0..300).map(|i| f64::from(i % 5));
        let zero = (0..20).map(|_| 0.0);
        let trees = [tree(infinite), tree(finite), tree(zero)];
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let draws = 100_000;
        for tree in trees {
            let mut counts = vec![0.0; tree.len()];
            (0..draws).for_each(|_| counts[tree.draw(&mut rng)] += 1.0);
            for (leaf, (count, chance)) in counts.iter().zip(tree.chances()).enumerate() {
                let (mean, deviation) =
                    (f64::from(draws) * chance, (f64::from(draws) * chance * (1.0 - chance)).sqrt());
                assert!((count - mean).abs() <= 5.0 * deviation, "leaf {leaf}: {count}, expected {mean}");
            }
        }
    }

    #[test]
    fn a_child_with_few_leaves_counts_like_one_with_many() {
        let chances = tree((0..17).map(|_| 0.0)).chances();
        assert_eq!((chances[0], chances[16]), (0.5 / 16.0, 0.5));
    }
}
