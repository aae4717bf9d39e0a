//! Key and door: a locked door parts two rooms, the key lies on the player's side and the goal on the other. The rules are
//! those of DoorKey in MiniGrid (Chevalier-Boisvert et al., 2023), less its actions `drop` and `done`.

mod grid;
mod picture;
mod view;

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::array::Array;
use shared::env::{Space, Spaces};

pub use grid::{Cell, Grid, Move};
pub use view::View;

use super::{Action, Env, EnvError, Observe, Outcome, Step, action};

/// The player must take the key, open the door and walk to the goal. Actions (`action`): 0 turn left, 1 turn right, 2
/// forward, 3 pick up, 4 toggle. At the goal the episode ends (terminal) with reward 1 - 0.9 * steps / limit; it is cut
/// after the limit of 10 * side² steps. All other rewards are 0. Walls, door, key and player are placed anew each episode.
///
/// Observations: `image` (u8 [height, width, 3]), `cells` (class [cells]: what lies in each cell of the view, row by row,
/// as [`Cell`] counts), `direction` (class: 0 right, 1 down, 2 left, 3 up) and `carrying` (class 1 with the key).
pub struct KeyDoor {
    task: String,
    view: View,
    observe: Observe,
    size: [usize; 2],
    rng: Xoshiro256PlusPlus,
    grid: Grid,
    steps: usize,
    running: bool,
}

impl KeyDoor {
    /// Grids of `side` x `side` cells, at least 5 x 5, drawn at `size` (height, width). `task` is the name errors carry.
    pub fn new(task: &str, side: usize, view: View, observe: Observe, size: [usize; 2], seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let grid = Grid::random(side, &mut rng);
        Self { task: task.into(), view, observe, size, rng, grid, steps: 0, running: false }
    }

    /// Start an episode in a given grid, to compare with another simulator.
    pub fn start_from(&mut self, grid: Grid) -> Step {
        (self.grid, self.steps, self.running) = (grid, 0, true);
        self.observation(Outcome::first())
    }

    fn limit(&self) -> usize {
        10 * self.grid.side * self.grid.side
    }

    fn advance(&mut self, class: usize) -> Outcome {
        self.steps += 1;
        let is_terminal = self.grid.act(Move::ALL[class]);
        let is_last = is_terminal || self.steps == self.limit();
        self.running = !is_last;
        let reward = if is_terminal { 1.0 - 0.9 * self.steps as f32 / self.limit() as f32 } else { 0.0 };
        Outcome { is_last, is_terminal, reward, ..Outcome::default() }
    }

    fn observation(&self, outcome: Outcome) -> Step {
        let numbers = || {
            let cells: Vec<_> = self.view.cells(&self.grid).into_iter().map(|cell| cell as i32).collect();
            [
                ("cells", Array::i32(&[cells.len()], &cells)),
                ("direction", Array::i32(&[], &[self.grid.direction as i32])),
                ("carrying", Array::i32(&[], &[self.grid.carrying as i32])),
            ]
        };
        self.observe.step(outcome, || picture::observed(&self.grid, self.view, self.size), numbers)
    }
}

impl Env for KeyDoor {
    fn obs_space(&self) -> Spaces {
        let cells = self.view.side(self.grid.side).pow(2);
        let numbers = [
            ("cells", Space::discrete(&[cells], Cell::Player as usize + 1)),
            ("direction", Space::discrete(&[], 4)),
            ("carrying", Space::discrete(&[], 2)),
        ];
        self.observe.spaces(self.size, numbers)
    }

    fn act_space(&self) -> Spaces {
        [("action".into(), Space::discrete(&[], Move::ALL.len()))].into()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        if action.reset {
            let grid = Grid::random(self.grid.side, &mut self.rng);
            return Ok(self.start_from(grid));
        }
        if !self.running {
            return Err(EnvError::ended(&self.task));
        }
        let class = action::class(&self.task, "action", &Space::discrete(&[], Move::ALL.len()), action)?;
        let outcome = self.advance(class);
        Ok(self.observation(outcome))
    }

    fn picture(&self) -> Option<Array> {
        Some(picture::whole(&self.grid, self.size))
    }
}

#[cfg(test)]
mod tests;
