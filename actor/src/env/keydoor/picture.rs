//! Cells from above.

use shared::array::Array;

use super::grid::{Cell, Grid};
use super::view::{SIGHT, View, seen};
use crate::env::draw::{Canvas, Colour};

const HIDDEN: Colour = [8, 8, 12];
const FLOOR: Colour = [34, 36, 50];
/// Floor that the player sees, where people look at the whole grid.
const LIT: Colour = [70, 74, 96];
const WALL: Colour = [126, 130, 142];
const GOLD: Colour = [240, 196, 40];
const GOAL: Colour = [40, 190, 80];
const PLAYER: Colour = [230, 60, 60];

/// What the player observes, at `size` (height, width): u8 [height, width, 3].
pub fn observed(grid: &Grid, view: View, size: [usize; 2]) -> Array {
    let mut sheet = Sheet::new(view.side(grid.side), size);
    for (i, cell) in view.cells(grid).into_iter().enumerate() {
        sheet.cell(i, if cell == Cell::Unseen { HIDDEN } else { FLOOR }, cell);
    }
    match view {
        View::Ahead => sheet.player([SIGHT / 2, SIGHT - 1], 3, grid.carrying),
        View::Full => sheet.player(grid.player, grid.direction, grid.carrying),
    }
    sheet.canvas.finish()
}

/// The whole grid for people, with what the player sees lit, at `size` (height, width): u8 [height, width, 3].
pub fn whole(grid: &Grid, size: [usize; 2]) -> Array {
    let mut sheet = Sheet::new(grid.side, size);
    let seen = seen(grid);
    for (i, cell) in View::Full.cells(grid).into_iter().enumerate() {
        let lit = seen.contains(&[i % grid.side, i / grid.side]);
        sheet.cell(i, if lit { LIT } else { FLOOR }, cell);
    }
    sheet.player(grid.player, grid.direction, grid.carrying);
    sheet.canvas.finish()
}

/// A canvas of `side` x `side` cells.
struct Sheet {
    canvas: Canvas,
    side: usize,
    /// Width and height of a cell, pixels.
    scale: [f32; 2],
}

impl Sheet {
    fn new(side: usize, [height, width]: [usize; 2]) -> Self {
        let scale = [width, height].map(|x| x as f32 / side as f32);
        Self { canvas: Canvas::new(height, width, FLOOR), side, scale }
    }

    /// A point of a cell (column, row), from [0, 0] at its upper left to [1, 1].
    fn point(&self, cell: [usize; 2], [x, y]: [f32; 2]) -> [f32; 2] {
        [(cell[0] as f32 + x) * self.scale[0], (cell[1] as f32 + y) * self.scale[1]]
    }

    /// The rectangle of a cell (column, row), its edges between pixels: cells side by side neither mix their colours nor
    /// leave a seam.
    fn whole(&self, cell: [usize; 2]) -> [f32; 4] {
        self.inner(cell, 0.0).map(f32::round)
    }

    /// A rectangle of a cell, from `inset` to 1 - `inset`.
    fn inner(&self, cell: [usize; 2], inset: f32) -> [f32; 4] {
        let ([left, top], [right, bottom]) = (self.point(cell, [inset; 2]), self.point(cell, [1.0 - inset; 2]));
        [left, top, right, bottom]
    }

    /// The cell of this index, what lies there on a floor of this colour.
    fn cell(&mut self, index: usize, floor: Colour, what: Cell) {
        let cell = [index % self.side, index / self.side];
        let [frame, hole] = [0.18, 0.38].map(|inset| self.inner(cell, inset));
        let ground = match what {
            Cell::Wall => WALL,
            Cell::Goal => GOAL,
            Cell::Locked | Cell::Closed | Cell::Open => GOLD,
            _ => floor,
        };
        if ground != FLOOR {
            self.canvas.rectangle(ground, self.whole(cell));
        }
        match what {
            Cell::Key => self.key(cell),
            Cell::Locked => self.canvas.rectangle(HIDDEN, hole),
            Cell::Closed => {
                self.canvas.rectangle(HIDDEN, frame);
                self.canvas.rectangle(GOLD, hole);
            }
            Cell::Open => self.canvas.rectangle(floor, frame),
            _ => {}
        }
    }

    fn key(&mut self, cell: [usize; 2]) {
        let ([left, top], [right, bottom]) = (self.point(cell, [0.25, 0.1]), self.point(cell, [0.75, 0.55]));
        let [from, to] = [[0.5, 0.5], [0.5, 0.85]].map(|at| self.point(cell, at));
        self.canvas.ellipse(GOLD, [left, top, right, bottom]);
        self.canvas.capsule(GOLD, from, to, 0.08 * self.scale[0].min(self.scale[1]));
    }

    /// A triangle that points where the player looks, smaller over the key that it carries.
    fn player(&mut self, cell: [usize; 2], direction: usize, carrying: bool) {
        if carrying {
            self.canvas.rectangle(GOLD, self.whole(cell));
        }
        let reach = if carrying { 0.3 } else { 0.42 };
        let turned = |x: f32, y: f32| match direction {
            0 => [x, y],
            1 => [-y, x],
            2 => [-x, -y],
            _ => [y, -x],
        };
        let corners = [[reach, 0.0], [-reach, reach], [-reach, -reach]].map(|[x, y]| {
            let [x, y] = turned(x, y);
            self.point(cell, [0.5 + x, 0.5 + y])
        });
        self.canvas.triangle(PLAYER, corners);
    }
}
