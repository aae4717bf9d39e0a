//! Truth, prediction and error of a few samples as one picture: above each other, samples side by side, in a green border where the
//! world model saw, a red one where it predicts (official `agent.py`, report).

use shared::array::{Array, DType};

use crate::dreamer::Prediction;
use crate::media::{MediaError, Picture, colour};

/// Width of the border, pixels.
const BORDER: usize = 2;
/// Black frames behind the last one, so that an end is seen.
const PAUSE: usize = 10;
const GREEN: [u8; 3] = [0, 255, 0];
const RED: [u8; 3] = [255, 0, 0];
/// Width of a step of a heat map, pixels.
const STEP: usize = 6;
/// Height of a heat map, pixels, as far as whole pixels per number allow, of which there is at least one.
const MAP: usize = 128;
/// Standardised features of this size, in deviations, have full colour.
const FULL: f32 = 3.0;

/// Frames as an animation, features as heat maps over time.
pub fn picture(prediction: &Prediction) -> Result<Picture, MediaError> {
    match prediction.truth.dtype {
        DType::U8 => Picture::animation(&video(prediction)),
        _ => Picture::still(&heat_maps(prediction)),
    }
}

/// A picture that is drawn on, u8 [H, W, 3].
struct Sheet {
    width: usize,
    bytes: Vec<u8>,
}

impl Sheet {
    fn new(height: usize, width: usize) -> Self {
        Self { width, bytes: vec![0; height * width * 3] }
    }

    fn put(&mut self, y: usize, x: usize, colour: [u8; 3]) {
        self.bytes[(y * self.width + x) * 3..][..3].copy_from_slice(&colour);
    }

    /// A frame of `inner` [H, W] pixels in a border, its upper left corner at the top and `left`.
    fn frame(
        &mut self,
        left: usize,
        [h, w]: [usize; 2],
        border: impl Fn(usize) -> [u8; 3],
        inner: impl Fn(usize, usize) -> [u8; 3],
    ) {
        for y in 0..h + 2 * BORDER {
            for x in 0..w + 2 * BORDER {
                let inside = (BORDER..h + BORDER).contains(&y) && (BORDER..w + BORDER).contains(&x);
                let colour = if inside { inner(y - BORDER, x - BORDER) } else { border(x) };
                self.put(y, left + x, colour);
            }
        }
    }
}

/// Frames [N, T, H, W, C] as a grid u8 [T + min(T, 10), 3 H + 4, N (W + 4), 3], which ends in black frames.
pub fn video(prediction: &Prediction) -> Array {
    let [n, t, h, w, c] = prediction.truth.shape[..] else { return Array::u8(&[0, 0, 0, 3], &[]) };
    let [truth, predicted] = [&prediction.truth.bytes, &prediction.predicted.bytes];
    let (height, width) = (3 * h + 2 * BORDER, w + 2 * BORDER);
    let mut bytes = vec![];
    for step in 0..t {
        let mut sheet = Sheet::new(height, n * width);
        let border = if step < prediction.seen { GREEN } else { RED };
        for sample in 0..n {
            let inner = |y: usize, x: usize| {
                let at = (((sample * t + step) * h + y % h) * w + x) * c;
                let [truth, predicted] = [truth, predicted].map(|frames| colour(&frames[at..at + c]));
                match y / h {
                    0 => truth,
                    1 => predicted,
                    _ => std::array::from_fn(|i| error(truth[i], predicted[i])),
                }
            };
            sheet.frame(sample * width, [3 * h, w], |_| border, inner);
        }
        bytes.extend(sheet.bytes);
    }
    let pause = PAUSE.min(t);
    bytes.resize(bytes.len() + pause * height * n * width * 3, 0);
    Array::u8(&[t + pause, height, n * width, 3], &bytes)
}

/// Grey where they agree.
fn error(truth: u8, predicted: u8) -> u8 {
    ((i32::from(predicted) - i32::from(truth) + 255) / 2) as u8
}

/// Features [N, T, W] as heat maps u8 [H, N (6 T + 4), 3]: a row per number, time from left to right.
fn heat_maps(prediction: &Prediction) -> Array {
    let [n, t, numbers] = prediction.truth.shape[..] else { return Array::u8(&[0, 0, 3], &[]) };
    let [truth, predicted] = [prediction.truth.to_f32(), prediction.predicted.to_f32()];
    let row = (MAP / numbers).max(1);
    let (h, w) = (row * numbers, STEP * t);
    let (height, width) = (3 * h + 2 * BORDER, w + 2 * BORDER);
    let mut sheet = Sheet::new(height, n * width);
    let border = |x: usize| if x < BORDER + STEP * prediction.seen { GREEN } else { RED };
    for sample in 0..n {
        let inner = |y: usize, x: usize| {
            let at = (sample * t + x / STEP) * numbers + y % h / row;
            heat(match y / h {
                0 => truth[at],
                1 => predicted[at],
                _ => predicted[at] - truth[at],
            })
        };
        sheet.frame(sample * width, [3 * h, w], border, inner);
    }
    Array::u8(&[height, n * width, 3], &sheet.bytes)
}

/// White for 0, red above, blue below.
fn heat(value: f32) -> [u8; 3] {
    let share = (value / FULL).clamp(-1.0, 1.0);
    let pale = (255.0 * (1.0 - share.abs())) as u8;
    if share < 0.0 { [pale, pale, 255] } else { [255, pale, pale] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pixel of a frame of a picture [.., H, W, 3].
    fn pixel(picture: &Array, frame: usize, y: usize, x: usize) -> [u8; 3] {
        let [.., h, w, _] = picture.shape[..] else { panic!("{:?}", picture.shape) };
        picture.bytes[((frame * h + y) * w + x) * 3..][..3].try_into().unwrap()
    }

    #[test]
    fn a_video_has_truth_prediction_and_error_of_each_sample_in_a_border() {
        // Two samples, three steps, of which one is seen; frames of 1 x 2 grey pixels.
        let truth = Array::u8(&[2, 3, 1, 2, 1], &[10, 11, 20, 21, 30, 31, 110, 111, 120, 121, 130, 131]);
        let predicted = Array::u8(&[2, 3, 1, 2, 1], &[10, 11, 20, 21, 255, 0, 110, 111, 20, 121, 130, 131]);
        let video = video(&Prediction { truth, predicted, seen: 1 });
        assert_eq!(video.shape, [3 + 3, 3 + 4, 2 * (2 + 4), 3]);
        for (frame, border) in [(0, GREEN), (1, RED), (2, RED), (3, [0; 3]), (5, [0; 3])] {
            for (y, x) in [(0, 0), (1, 3), (6, 11), (3, 1), (4, 6), (5, 2)] {
                assert_eq!(pixel(&video, frame, y, x), border, "frame {frame} at {y}, {x}");
            }
        }
        assert_eq!([2, 3, 4].map(|y| pixel(&video, 0, y, 2)[0]), [10, 10, 127]);
        assert_eq!([2, 3, 4].map(|y| pixel(&video, 2, y, 2)[0]), [30, 255, 240]);
        assert_eq!([2, 3, 4].map(|y| pixel(&video, 2, y, 3)[0]), [31, 0, 112]);
        assert_eq!([2, 3, 4].map(|y| pixel(&video, 1, y, 8)), [[120; 3], [20; 3], [77; 3]]);
    }

    #[test]
    fn heat_maps_have_a_row_for_each_number() {
        let truth = Array::f32(&[1, 2, 2], &[0.0, 3.0, -3.0, 9.0]);
        let predicted = Array::f32(&[1, 2, 2], &[0.0, 0.0, -3.0, 9.0]);
        let map = heat_maps(&Prediction { truth, predicted, seen: 1 });
        assert_eq!(map.shape, [3 * 128 + 4, 2 * 6 + 4, 3]);
        let (white, red, blue) = ([255; 3], [255, 0, 0], [0, 0, 255]);
        let column = |x| [2, 66, 130, 194, 258, 322].map(|y| pixel(&map, 0, y, x));
        assert_eq!(column(2), [white, red, white, white, white, blue]);
        assert_eq!(column(8), [blue, red, blue, red, white, white]);
        assert_eq!([pixel(&map, 0, 0, 7), pixel(&map, 0, 0, 8)], [GREEN, RED]);
    }
}
