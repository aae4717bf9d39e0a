//! The rooms, and what actions do there.

use rand::{Rng, RngExt};

/// What lies in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cell {
    /// Hidden from the player.
    Unseen,
    /// Floor.
    Empty,
    /// A wall.
    Wall,
    /// The key.
    Key,
    /// The door, locked.
    Locked,
    /// The door, closed but not locked.
    Closed,
    /// The door, open.
    Open,
    /// The goal.
    Goal,
    /// The player, whatever it stands on.
    Player,
}

impl Cell {
    /// Whether the player sees what is behind.
    pub fn is_transparent(self) -> bool {
        !matches!(self, Self::Wall | Self::Locked | Self::Closed)
    }

    fn is_free(self) -> bool {
        matches!(self, Self::Empty | Self::Open | Self::Goal)
    }
}

/// What the player can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Turn by 90 degrees against the clock.
    Left,
    /// Turn by 90 degrees with the clock.
    Right,
    /// One cell on, if the cell ahead is free.
    Forward,
    /// Take the key that lies ahead.
    PickUp,
    /// Unlock the door ahead with the key, and open it; open or close one that is unlocked.
    Toggle,
}

impl Move {
    /// By class of the action.
    pub const ALL: [Self; 5] = [Self::Left, Self::Right, Self::Forward, Self::PickUp, Self::Toggle];
}

/// A square of `side` x `side` cells, walls around and one wall across; the player in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Grid {
    /// Cells in a row.
    pub side: usize,
    cells: Vec<Cell>,
    /// Column and row of the player.
    pub player: [usize; 2],
    /// Where the player looks: 0 right, 1 down, 2 left, 3 up.
    pub direction: usize,
    /// Whether the player has the key.
    pub carrying: bool,
}

impl Grid {
    /// Rooms parted by a wall at this column, with a door in it at this row; the goal is in the lower right corner.
    pub fn new(side: usize, [wall, door]: [usize; 2], key: [usize; 2], player: [usize; 2], direction: usize) -> Self {
        let mut grid = Self { side, cells: vec![Cell::Empty; side * side], player, direction, carrying: false };
        for at in 0..side {
            for place in [[at, 0], [at, side - 1], [0, at], [side - 1, at], [wall, at]] {
                grid.put(place, Cell::Wall);
            }
        }
        grid.put([wall, door], Cell::Locked);
        grid.put(key, Cell::Key);
        grid.put([side - 2, side - 2], Cell::Goal);
        grid
    }

    /// The wall, the door in it, and key and player to the left of it are anywhere; either room is at least one cell wide.
    /// `side` is at least 5.
    pub fn random(side: usize, rng: &mut impl Rng) -> Self {
        let wall = rng.random_range(2..side - 2);
        let door = rng.random_range(1..side - 2);
        let player = [rng.random_range(1..wall), rng.random_range(1..side - 1)];
        let key = loop {
            let key = [rng.random_range(1..wall), rng.random_range(1..side - 1)];
            if key != player {
                break key;
            }
        };
        Self::new(side, [wall, door], key, player, rng.random_range(0..4))
    }

    /// What lies at this column and row; beyond the grid there are walls.
    pub fn at(&self, [x, y]: [usize; 2]) -> Cell {
        if x < self.side && y < self.side { self.cells[y * self.side + x] } else { Cell::Wall }
    }

    fn put(&mut self, [x, y]: [usize; 2], cell: Cell) {
        self.cells[y * self.side + x] = cell;
    }

    /// The place so many cells ahead of the player and to its right; places left of or above the grid become so great
    /// that they are beyond it too.
    pub fn relative(&self, ahead: isize, right: isize) -> [usize; 2] {
        const STEPS: [[isize; 2]; 4] = [[1, 0], [0, 1], [-1, 0], [0, -1]];
        let (front, side) = (STEPS[self.direction], STEPS[(self.direction + 1) % 4]);
        [0, 1].map(|i| self.player[i].wrapping_add_signed(ahead * front[i] + right * side[i]))
    }

    /// Act; whether the player has reached the goal.
    pub fn act(&mut self, action: Move) -> bool {
        let place = self.relative(1, 0);
        let ahead = self.at(place);
        match (action, ahead) {
            (Move::Left, _) => self.direction = (self.direction + 3) % 4,
            (Move::Right, _) => self.direction = (self.direction + 1) % 4,
            (Move::Forward, _) if ahead.is_free() => self.player = place,
            (Move::PickUp, Cell::Key) => {
                self.carrying = true;
                self.put(place, Cell::Empty);
            }
            (Move::Toggle, Cell::Locked) if self.carrying => self.put(place, Cell::Open),
            (Move::Toggle, Cell::Closed) => self.put(place, Cell::Open),
            (Move::Toggle, Cell::Open) => self.put(place, Cell::Closed),
            _ => {}
        }
        self.at(self.player) == Cell::Goal
    }
}
