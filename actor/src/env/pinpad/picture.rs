//! The room from above, and below it the pads that were visited.

use std::collections::VecDeque;

use shared::array::Array;

use super::layout::{Layout, ROOM};
use crate::env::draw::{Canvas, Colour};

const FLOOR: Colour = [244, 244, 240];
/// The floor while the pause after a completed sequence lasts.
const PAUSE: Colour = [206, 246, 206];
const WALL: Colour = [150, 154, 164];
const PLAYER: Colour = [16, 16, 24];
/// By pad, the first first.
pub const PADS: [Colour; 6] =
    [[226, 40, 40], [30, 170, 60], [40, 80, 230], [234, 186, 20], [196, 50, 200], [20, 180, 190]];
/// Rows below the room that show what was visited.
const SHELF: usize = 2;

/// Draw at `size` (height, width): u8 [height, width, 3]. The pad under the player has its full colour, the others are
/// pale.
pub fn draw(layout: &Layout, player: [usize; 2], visited: &VecDeque<usize>, pause: bool, size: [usize; 2]) -> Array {
    let [height, width] = size.map(|x| x as f32);
    let [w, h] = [width / ROOM[0] as f32, height / (ROOM[1] + SHELF) as f32];
    let cells = |[left, right, top, bottom]: [usize; 4]| {
        [left as f32 * w, top as f32 * h, (right + 1) as f32 * w, (bottom + 1) as f32 * h]
    };
    let cell = |x: usize, y: usize| cells([x, x, y, y]);
    let mut canvas = Canvas::new(size[0], size[1], WALL);
    canvas.rectangle(if pause { PAUSE } else { FLOOR }, cells([1, ROOM[0] - 2, 1, ROOM[1] - 2]));
    let current = layout.pad_at(player);
    for (i, place) in layout.pads.iter().enumerate() {
        canvas.rectangle(if current == Some(i) { PADS[i] } else { pale(PADS[i]) }, cells(*place));
    }
    canvas.rectangle(PLAYER, cell(player[0], player[1]));
    for (i, pad) in visited.iter().enumerate() {
        canvas.rectangle(PADS[*pad], cell(2 * i + 1, ROOM[1]));
    }
    canvas.finish()
}

fn pale(colour: Colour) -> Colour {
    colour.map(|x| (0.25 * f32::from(x) + 0.75 * 255.0) as u8)
}
