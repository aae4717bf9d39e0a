//! Where the pads lie.

/// Columns and rows of the room, with the wall around it.
pub const ROOM: [usize; 2] = [16, 14];

/// Which task, and its pads in the order in which they must be visited.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// Name of the task.
    pub task: &'static str,
    /// Of each pad the first and last column, first and last row.
    pub pads: &'static [[usize; 4]],
}

/// Three pads.
pub const THREE: Layout = Layout { task: "pinpad_three", pads: &[[1, 4, 1, 4], [6, 9, 9, 12], [11, 14, 1, 4]] };
/// Four pads, one in each corner.
pub const FOUR: Layout =
    Layout { task: "pinpad_four", pads: &[[1, 4, 1, 4], [11, 14, 9, 12], [1, 4, 9, 12], [11, 14, 1, 4]] };
/// Five pads.
pub const FIVE: Layout = Layout {
    task: "pinpad_five",
    pads: &[[1, 3, 2, 5], [11, 14, 10, 12], [1, 3, 8, 11], [11, 14, 1, 3], [12, 14, 5, 8]],
};
/// Six pads.
pub const SIX: Layout = Layout {
    task: "pinpad_six",
    pads: &[[1, 3, 1, 3], [12, 14, 10, 12], [1, 2, 5, 8], [1, 3, 10, 12], [12, 14, 1, 3], [13, 14, 5, 8]],
};

impl Layout {
    /// How many pads there are.
    pub fn count(&self) -> usize {
        self.pads.len()
    }

    /// Which pad (from 0) lies at this column and row.
    pub fn pad_at(&self, [x, y]: [usize; 2]) -> Option<usize> {
        self.pads
            .iter()
            .position(|&[left, right, top, bottom]| (left..=right).contains(&x) && (top..=bottom).contains(&y))
    }
}

/// Whether the wall is there.
pub fn is_wall([x, y]: [usize; 2]) -> bool {
    x == 0 || y == 0 || x + 1 >= ROOM[0] || y + 1 >= ROOM[1]
}
