//! A pendulum from the front.

use shared::array::Array;

use super::physics::State;
use crate::env::draw::Canvas;

const BACKGROUND: [u8; 3] = [30, 36, 48];
const ROD: [u8; 3] = [204, 92, 84];
const BALL: [u8; 3] = [250, 214, 120];
const HINGE: [u8; 3] = [120, 132, 156];
/// Lengths of the pendulum that the picture shows in either direction.
const VIEW: f32 = 2.7;

/// Draw a state at `size` (height, width): u8 [height, width, 3]. The scale is the same in both directions.
pub fn draw(state: &State, size: [usize; 2]) -> Array {
    let [height, width] = size.map(|x| x as f32);
    let scale = height.min(width) / VIEW;
    let hinge = [width / 2.0, height / 2.0];
    let (sin, cos) = state.angle.sin_cos();
    let tip = [hinge[0] + sin as f32 * scale, hinge[1] - cos as f32 * scale];
    let mut canvas = Canvas::new(size[0], size[1], BACKGROUND);
    canvas.capsule(ROD, hinge, tip, (0.09 * scale).max(0.7));
    canvas.capsule(BALL, tip, tip, (0.2 * scale).max(0.9));
    canvas.capsule(HINGE, hinge, hinge, (0.08 * scale).max(0.6));
    canvas.finish()
}
