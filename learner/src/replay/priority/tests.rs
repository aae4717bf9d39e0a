//! Drawing by priority against a plain model of the official selector, which keeps every node, step and list as it does.

use std::collections::HashMap;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;

const LENGTH: u64 = 4;
const BRANCHING: usize = 16;

type StepKey = (u32, u64);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Child {
    Node(usize),
    Entry(u64),
}

/// The official selector: an explicit tree, priorities by step, items by step.
struct Model {
    config: PrioConfig,
    children: Vec<Vec<Child>>,
    parents: Vec<Option<usize>>,
    root: usize,
    last: Option<u64>,
    /// Parent and weight of each entry.
    entries: HashMap<u64, (usize, f64)>,
    items: BTreeMap<u64, Vec<StepKey>>,
    priorities: HashMap<StepKey, f64>,
}

impl Model {
    fn new(config: PrioConfig) -> Self {
        let (children, parents) = (vec![vec![]], vec![None]);
        let (entries, items, priorities) = Default::default();
        Self { config, children, parents, root: 0, last: None, entries, items, priorities }
    }

    fn node(&mut self) -> usize {
        self.children.push(vec![]);
        self.parents.push(None);
        self.children.len() - 1
    }

    fn insert(&mut self, key: u64, steps: Vec<StepKey>) {
        for step in &steps {
            self.priorities.entry(*step).or_insert(self.config.initial);
        }
        self.items.insert(key, steps);
        let mut node = self.root;
        let mut ups = 0;
        if let Some(last) = self.last {
            let mut at = Some(self.entries[&last].0);
            while let Some(full) = at.filter(|n| self.children[*n].len() >= BRANCHING) {
                at = self.parents[full];
                ups += 1;
            }
            node = at.unwrap_or_else(|| {
                let (above, below) = (self.node(), self.root);
                self.attach(above, below);
                self.root = above;
                above
            });
        }
        for _ in 0..ups {
            let below = self.node();
            self.attach(node, below);
            node = below;
        }
        self.children[node].push(Child::Entry(key));
        self.entries.insert(key, (node, self.weight(key)));
        self.last = Some(key);
    }

    fn attach(&mut self, above: usize, below: usize) {
        self.parents[below] = Some(above);
        self.children[above].push(Child::Node(below));
    }

    fn remove(&mut self, key: u64) {
        let (parent, _) = self.entries.remove(&key).unwrap();
        let last = self.last.unwrap();
        let mut node = if last == key { parent } else { self.entries[&last].0 };
        self.children[parent].retain(|child| *child != Child::Entry(key));
        if last != key {
            self.children[node].retain(|child| *child != Child::Entry(last));
            self.children[parent].push(Child::Entry(last));
            self.entries.get_mut(&last).unwrap().0 = parent;
        }
        while let Some(above) = self.parents[node].filter(|_| self.children[node].is_empty()) {
            self.children[above].retain(|child| *child != Child::Node(node));
            node = above;
        }
        self.last = None;
        while let Some(child) = self.children[node].last() {
            match child {
                Child::Node(below) => node = *below,
                Child::Entry(entry) => {
                    self.last = Some(*entry);
                    break;
                }
            }
        }
        for step in self.items.remove(&key).unwrap() {
            if !self.items.values().any(|steps| steps.contains(&step)) {
                self.priorities.remove(&step);
            }
        }
    }

    fn draw(&mut self, key: u64) {
        let steps = self.items[&key].clone();
        if self.config.zero_on_sample {
            self.priorities.extend(steps.iter().map(|step| (*step, 0.0)));
        }
        let keys: Vec<u64> =
            self.items.iter().filter(|(_, i)| i.iter().any(|s| steps.contains(s))).map(|(k, _)| *k).collect();
        for key in keys {
            let weight = self.weight(key);
            self.entries.get_mut(&key).unwrap().1 = weight;
        }
    }

    fn weight(&self, key: u64) -> f64 {
        let PrioConfig { exponent, maxfrac, .. } = self.config;
        let powers: Vec<f64> = self.items[&key].iter().map(|s| self.priorities[s].powf(exponent)).collect();
        let mean = powers.iter().sum::<f64>() / powers.len() as f64;
        let max = powers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if maxfrac == 0.0 { mean } else { maxfrac * max + (1.0 - maxfrac) * mean }
    }

    fn sum(&self, child: Child) -> f64 {
        match child {
            Child::Entry(key) => self.entries[&key].1,
            Child::Node(node) => self.children[node].iter().map(|c| self.sum(*c)).sum(),
        }
    }

    /// The chance of each item, added up under a node that has this chance.
    fn chances(&self, node: usize, chance: f64, out: &mut BTreeMap<u64, f64>) {
        let weights: Vec<f64> = self.children[node].iter().map(|c| self.sum(*c)).collect();
        let total: f64 = weights.iter().sum();
        let infinite = weights.iter().filter(|w| w.is_infinite()).count() as f64;
        for (child, weight) in self.children[node].iter().zip(&weights) {
            let share = match () {
                () if total.is_infinite() => f64::from(weight.is_infinite()) / infinite,
                () if total == 0.0 => 1.0 / weights.len() as f64,
                () => weight / total,
            };
            match child {
                Child::Node(below) => self.chances(*below, chance * share, out),
                Child::Entry(key) => drop(out.insert(*key, chance * share)),
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert { env: u32, count: u64 },
    Evict { count: usize },
    Draw { count: usize },
    Reload,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0u32..3, 1u64..40).prop_map(|(env, count)| Op::Insert { env, count }),
        2 => (1usize..40).prop_map(|count| Op::Evict { count }),
        4 => (1usize..6).prop_map(|count| Op::Draw { count }),
        1 => Just(Op::Reload),
    ]
}

fn prio() -> impl Strategy<Value = PrioConfig> {
    let initial = prop_oneof![4 => Just(f64::INFINITY), 2 => 0.1f64..5.0, 1 => Just(0.0)];
    let exponent = prop_oneof![3 => 0.1f64..2.0, 1 => Just(0.0)];
    (exponent, 0.0f64..0.99, initial, prop::bool::weighted(0.8)).prop_map(
        |(exponent, maxfrac, initial, zero_on_sample)| PrioConfig { exponent, maxfrac, initial, zero_on_sample },
    )
}

fn stream(env: u32) -> StreamId {
    StreamId { actor: 0, generation: 0, env }
}

/// Saved as text, and back.
fn reload(priority: &Priority, config: &PrioConfig, items: &VecDeque<Item>) -> Priority {
    let streams = [0, 1, 2].map(stream);
    let index = streams.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    let text = serde_json::to_string(&priority.record(&index)).unwrap();
    let record = serde_json::from_str(&text).unwrap();
    let kept = vec![true; items.len()];
    Priority::new(config, LENGTH as usize).restore(&record, &streams, &kept, items).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn every_item_has_the_chance_that_the_official_selector_gives_it(
        config in prio(), ops in prop::collection::vec(op(), 1..40),
    ) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        let (mut priority, mut model) = (Priority::new(&config, LENGTH as usize), Model::new(config.clone()));
        let (mut items, mut next, mut oldest) = (VecDeque::new(), [0; 3], 0);
        for op in ops {
            match op {
                Op::Insert { env, count } => for _ in 0..count {
                    let item = Item { stream: stream(env), start: next[env as usize] };
                    next[env as usize] += 1;
                    let steps = (item.start..item.start + LENGTH).map(|step| (env, step)).collect();
                    model.insert(oldest + items.len() as u64, steps);
                    priority.insert(&item);
                    items.push_back(item);
                },
                Op::Evict { count } => for _ in 0..count {
                    let Some(item) = items.pop_front() else { break };
                    model.remove(oldest);
                    priority.remove_oldest(&item);
                    oldest += 1;
                },
                Op::Draw { count } => for _ in 0..count.min(items.len()) {
                    let index = priority.draw(&mut rng);
                    priority.mark_drawn(&items[index]);
                    model.draw(oldest + index as u64);
                },
                Op::Reload => priority = reload(&priority, &config, &items),
            }
            let mut expected = BTreeMap::new();
            model.chances(model.root, 1.0, &mut expected);
            let chances = if items.is_empty() { vec![] } else { priority.tree.chances() };
            prop_assert_eq!(expected.len(), chances.len());
            for (key, expected) in expected {
                let found = chances[priority.leaves[(key - oldest) as usize]];
                prop_assert!((found - expected).abs() < 1e-12, "item {key}: {found}, expected {expected}");
            }
        }
    }
}

#[test]
fn with_the_official_settings_steps_that_were_not_drawn_come_first() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
    let mut priority = Priority::new(&PrioConfig::default(), LENGTH as usize);
    let items: Vec<Item> = (0..97).map(|start| Item { stream: stream(0), start }).collect();
    items.iter().for_each(|item| priority.insert(item));
    let mut seen = [false; 100];
    while seen.contains(&false) {
        let item = items[priority.draw(&mut rng)];
        let steps = &mut seen[item.start as usize..][..LENGTH as usize];
        assert!(steps.contains(&false), "item {} has nothing new, but others have", item.start);
        steps.fill(true);
        priority.mark_drawn(&item);
    }
    assert!(priority.tree.chances().iter().all(|chance| *chance > 0.0), "then all are drawn");
}

/// The chances were computed with the official code itself: items of one stream come, go and are drawn.
#[test]
fn chances_are_those_of_the_official_code() {
    let scenario = |config: PrioConfig| {
        let mut priority = Priority::new(&config, LENGTH as usize);
        let item = |start| Item { stream: stream(0), start };
        (0..50).for_each(|start| priority.insert(&item(start)));
        (0..20).for_each(|start| priority.remove_oldest(&item(start)));
        [22, 30, 41].into_iter().for_each(|start| priority.mark_drawn(&item(start)));
        (50..60).for_each(|start| priority.insert(&item(start)));
        (20..27).for_each(|start| priority.remove_oldest(&item(start)));
        let chances = priority.tree.chances();
        priority.leaves.iter().map(|leaf| chances[*leaf]).collect::<Vec<f64>>()
    };
    // The item of start 52 is alone under its node.
    let even = |chance: f64| (27..60).map(move |start| if start == 52 { 1.0 / 3.0 } else { chance });
    let infinite = even(0.022222).zip(27..).map(|(chance, start)| if [30, 41].contains(&start) { 0.0 } else { chance });
    let around = [0.037736, 0.03066, 0.023585, 0.016509, 0.0, 0.016509, 0.023585, 0.03066, 0.037736];
    let finite = around[1..].iter().chain(&[0.037736; 2]).chain(&around).chain(&[0.037736; 14]).copied();
    let cases: [(PrioConfig, Vec<f64>); 3] = [
        (PrioConfig::default(), infinite.collect()),
        (PrioConfig { zero_on_sample: false, ..PrioConfig::default() }, even(0.020833).collect()),
        (PrioConfig { initial: 2.0, maxfrac: 0.25, ..PrioConfig::default() }, finite.collect()),
    ];
    for (config, expected) in cases {
        let found = scenario(config.clone());
        let near = found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-6);
        assert!(near && found.len() == expected.len(), "{config:?}: {found:?}, expected {expected:?}");
    }
}

#[test]
fn a_record_that_contradicts_the_items_is_refused() {
    let items: VecDeque<Item> = (0..3).map(|start| Item { stream: stream(0), start }).collect();
    let restore = |leaves: &[(u64, u64)], drawn: &[(usize, u64, u64)]| {
        let record = PriorityRecord { leaves: leaves.to_vec(), drawn: drawn.to_vec() };
        let new = Priority::new(&PrioConfig::default(), LENGTH as usize);
        new.restore(&record, &[stream(0)], &[true; 3], &items).is_some()
    };
    assert!(restore(&[(0, 1), (2, 2)], &[]) && restore(&[(2, 0)], &[(0, 1, 2)]));
    assert!(restore(&[(0, 2)], &[(0, 0, 1_000_000)]), "steps of no item have no priority");
    for leaves in [&[(0, 1)][..], &[(0, 3)], &[(0, 2), (1, 1)], &[(u64::MAX, 0)]] {
        assert!(!restore(leaves, &[]), "{leaves:?}");
    }
    assert!(!restore(&[(0, 2)], &[(1, 0, 1)]) && !restore(&[(0, 2)], &[(0, 1, u64::MAX)]));
}
