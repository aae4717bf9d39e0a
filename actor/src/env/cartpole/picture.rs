//! Cart and pole from the side.

use shared::array::Array;

use super::physics::{RAIL, State};
use crate::env::draw::Canvas;

const BACKGROUND: [u8; 3] = [24, 34, 52];
const RAIL_COLOUR: [u8; 3] = [84, 132, 190];
const CART: [u8; 3] = [214, 160, 96];
const POLE: [u8; 3] = [250, 226, 150];
const HINGE: [u8; 3] = [150, 60, 50];
/// Metres that the picture shows at least: the whole rail and the pole up and down. A pole that lies outward at an end
/// of the rail leaves the picture with its tip; to show it too would cost a quarter of the scale.
const VIEW: [f32; 2] = [2.5, 4.3];

/// Draw a state at `size` (height, width): u8 [height, width, 3]. The scale is the same in both directions.
pub fn draw(state: &State, size: [usize; 2]) -> Array {
    let [height, width] = size.map(|x| x as f32);
    let scale = (height / VIEW[0]).min(width / VIEW[1]);
    let point = |x: f64, up: f64| [width / 2.0 + x as f32 * scale, height / 2.0 - up as f32 * scale];
    let boxed = |x: f64, half: [f64; 2]| {
        let ([left, top], [right, bottom]) = (point(x - half[0], half[1]), point(x + half[0], -half[1]));
        [left, top, right, bottom]
    };
    let [cart, angle] = state.position;
    let thick = |metres: f32, pixels: f32| (metres * scale).max(pixels);
    let mut canvas = Canvas::new(size[0], size[1], BACKGROUND);
    canvas.capsule(RAIL_COLOUR, point(-RAIL - 0.2, 0.0), point(RAIL + 0.2, 0.0), thick(0.02, 0.5));
    for end in [-RAIL - 0.22, RAIL + 0.22] {
        canvas.capsule(RAIL_COLOUR, point(end, -0.1), point(end, 0.1), thick(0.02, 0.5));
    }
    canvas.rectangle(CART, boxed(cart, [0.2, 0.12]));
    let tip = point(cart + angle.sin(), angle.cos());
    canvas.capsule(POLE, point(cart, 0.0), tip, thick(0.06, 0.9));
    canvas.capsule(HINGE, point(cart, 0.0), point(cart, 0.0), thick(0.05, 0.8));
    canvas.finish()
}
