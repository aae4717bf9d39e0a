//! Pin pad: a player walks a room with coloured pads and must step on all of them in the right order, which nothing tells.
//! It is the Visual Pin Pad benchmark of Hafner et al., Deep Hierarchical Planning from Pixels (2022); rules and layouts
//! are those of the file `embodied/envs/pinpad.py` that the authors of DreamerV3 publish.

mod layout;
mod picture;

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::array::Array;
use shared::env::{Space, Spaces};

pub use layout::{FIVE, FOUR, Layout, SIX, THREE};
use layout::{ROOM, is_wall};

use super::{Action, Env, EnvError, Observe, Outcome, Step, action};

/// Steps after which an episode is cut.
const STEPS: usize = 10_000;
/// Steps from a completed sequence until the player starts anew.
const PAUSE: usize = 10;
const REWARD: f32 = 10.0;
/// Column and row steps of the actions: stay, down, up, right, left.
const MOVES: [[isize; 2]; 5] = [[0, 0], [0, 1], [0, -1], [1, 0], [-1, 0]];

/// A player walks a room of 14 x 12 cells (`action`: 0 stay, 1 down, 2 up, 3 right, 4 left); walls stop it. Pads that it
/// steps on are remembered, the last as many as there are pads, a pad only once in a row. When those are all pads in
/// their order, the reward is 10 (else 0), and 10 steps later the player is somewhere else and nothing is remembered.
/// Episodes are cut after 10,000 steps and never terminal.
///
/// Observations: `image` (u8 [height, width, 3]: the room, below it the visited pads; green while the pause lasts),
/// `position` (f32 [2]: column and row, in [0, 1]), `pad` (class: 0 none, else the pad under the player, from 1),
/// `visited` (class [pads]: the remembered pads, the oldest first, 0 where there is none yet) and `pause` (class 1 during the pause).
pub struct PinPad {
    layout: &'static Layout,
    observe: Observe,
    size: [usize; 2],
    rng: Xoshiro256PlusPlus,
    /// Column and row.
    player: [usize; 2],
    visited: VecDeque<usize>,
    /// Steps left of the pause.
    pause: usize,
    steps: usize,
}

impl PinPad {
    /// A room drawn at `size` (height, width).
    pub fn new(layout: &'static Layout, observe: Observe, size: [usize; 2], seed: u64) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self { layout, observe, size, rng, player: [1, 1], visited: VecDeque::new(), pause: 0, steps: STEPS }
    }

    fn start(&mut self) -> Outcome {
        (self.steps, self.pause) = (0, 0);
        self.appear();
        Outcome::first()
    }

    /// Anywhere in the room, pads included, with nothing remembered.
    fn appear(&mut self) {
        self.player = ROOM.map(|side| self.rng.random_range(1..side - 1));
        self.visited.clear();
    }

    fn advance(&mut self, class: usize) -> Outcome {
        if self.pause > 0 {
            self.pause -= 1;
            if self.pause == 0 {
                self.appear();
            }
        }
        let next = std::array::from_fn(|i| self.player[i].saturating_add_signed(MOVES[class][i]));
        if !is_wall(next) {
            self.player = next;
            self.visit();
        }
        let complete = self.pause == 0 && self.visited.iter().copied().eq(0..self.layout.count());
        if complete {
            self.pause = PAUSE;
        }
        self.steps += 1;
        let reward = if complete { REWARD } else { 0.0 };
        Outcome { is_last: self.steps == STEPS, reward, ..Outcome::default() }
    }

    fn visit(&mut self) {
        let Some(pad) = self.layout.pad_at(self.player) else { return };
        if self.visited.back() != Some(&pad) {
            self.visited.push_back(pad);
        }
        if self.visited.len() > self.layout.count() {
            self.visited.pop_front();
        }
    }

    fn image(&self) -> Array {
        picture::draw(self.layout, self.player, &self.visited, self.pause > 0, self.size)
    }

    fn numbers(&self) -> [(&'static str, Array); 4] {
        let position: [f32; 2] = std::array::from_fn(|i| (self.player[i] - 1) as f32 / (ROOM[i] - 3) as f32);
        let pad = self.layout.pad_at(self.player).map_or(0, |pad| pad as i32 + 1);
        let mut visited = vec![0; self.layout.count()];
        visited.iter_mut().zip(&self.visited).for_each(|(class, &pad)| *class = pad as i32 + 1);
        [
            ("position", Array::f32(&[2], &position)),
            ("pad", Array::i32(&[], &[pad])),
            ("visited", Array::i32(&[visited.len()], &visited)),
            ("pause", Array::i32(&[], &[(self.pause > 0) as i32])),
        ]
    }
}

impl Env for PinPad {
    fn obs_space(&self) -> Spaces {
        let pads = self.layout.count();
        let numbers = [
            ("position", Space::bounded(&[2], 0.0, 1.0)),
            ("pad", Space::discrete(&[], pads + 1)),
            ("visited", Space::discrete(&[pads], pads + 1)),
            ("pause", Space::discrete(&[], 2)),
        ];
        self.observe.spaces(self.size, numbers)
    }

    fn act_space(&self) -> Spaces {
        [("action".into(), Space::discrete(&[], MOVES.len()))].into()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        let task = self.layout.task;
        let outcome = if action.reset {
            self.start()
        } else if self.steps >= STEPS {
            return Err(EnvError::ended(task));
        } else {
            self.advance(action::class(task, "action", &Space::discrete(&[], MOVES.len()), action)?)
        };
        Ok(self.observe.step(outcome, || self.image(), || self.numbers()))
    }

    fn picture(&self) -> Option<Array> {
        Some(self.image())
    }
}

#[cfg(test)]
mod tests;
