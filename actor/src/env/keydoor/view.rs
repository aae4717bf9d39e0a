//! What the player sees of the grid.

use super::grid::{Cell, Grid};

/// How much of the grid is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The 7 x 7 cells ahead of the player, which is at the bottom in the middle and looks up; walls and closed doors hide
    /// what is behind them.
    Ahead,
    /// The whole grid, from above.
    Full,
}

/// Rows and columns of what is seen ahead.
pub const SIGHT: usize = 7;

impl View {
    /// Cells in a row of what is seen of a grid of this side.
    pub fn side(self, grid: usize) -> usize {
        match self {
            Self::Ahead => SIGHT,
            Self::Full => grid,
        }
    }

    /// The cells, row by row. Ahead, the player's own cell counts as empty; of the whole grid it is the player.
    pub fn cells(self, grid: &Grid) -> Vec<Cell> {
        match self {
            Self::Ahead => ahead(grid).map(|(cell, _)| cell).to_vec(),
            Self::Full => {
                let cell = |at| if at == grid.player { Cell::Player } else { grid.at(at) };
                (0..grid.side).flat_map(|y| (0..grid.side).map(move |x| cell([x, y]))).collect()
            }
        }
    }
}

/// The places of the grid (column, row) that the player sees, its own included.
pub fn seen(grid: &Grid) -> Vec<[usize; 2]> {
    ahead(grid).into_iter().filter(|(cell, _)| *cell != Cell::Unseen).map(|(_, place)| place).collect()
}

/// Cells and their places in the grid, row by row.
fn ahead(grid: &Grid) -> [(Cell, [usize; 2]); SIGHT * SIGHT] {
    const PLAYER: usize = SIGHT * SIGHT - SIGHT / 2 - 1;
    let mut view = std::array::from_fn(|i| {
        let (row, column) = (i / SIGHT, i % SIGHT);
        let place = grid.relative((SIGHT - 1 - row) as isize, column as isize - (SIGHT / 2) as isize);
        (grid.at(place), place)
    });
    view[PLAYER].0 = Cell::Empty;
    let visible = visible(PLAYER, |i| view[i].0.is_transparent());
    view.iter_mut().zip(visible).filter(|(_, visible)| !visible).for_each(|((cell, _), _)| *cell = Cell::Unseen);
    view
}

/// As in MiniGrid: sight goes from cell to cell, sideways and on, straight or aslant, but never back towards the player's
/// row, and leaves only cells that are transparent.
fn visible(start: usize, is_transparent: impl Fn(usize) -> bool) -> [bool; SIGHT * SIGHT] {
    let mut visible = [false; SIGHT * SIGHT];
    visible[start] = true;
    for row in (0..SIGHT).rev() {
        for column in (0..SIGHT).chain((0..SIGHT).rev()) {
            let at = row * SIGHT + column;
            if !visible[at] || !is_transparent(at) {
                continue;
            }
            for near in column.saturating_sub(1)..=(column + 1).min(SIGHT - 1) {
                visible[row * SIGHT + near] = true;
                if row > 0 {
                    visible[(row - 1) * SIGHT + near] = true;
                }
            }
        }
    }
    visible
}
