//! A small canvas with smooth edges.

use shared::array::Array;

/// Red, green, blue.
pub(super) type Colour = [u8; 3];

/// An RGB image that is painted shape by shape, later shapes over earlier ones.
pub(super) struct Canvas {
    height: usize,
    width: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    /// A canvas of one colour.
    pub fn new(height: usize, width: usize, background: Colour) -> Self {
        Self { height, width, pixels: background.repeat(height * width) }
    }

    /// Paint the shape whose signed distance (in pixels, negative inside) is `distance(x, y)`; pixel centres lie at
    /// halves, y grows downwards. A pixel's cover falls from 1 to 0 over the one pixel around the edge. Only pixels
    /// within `bounds` (left, top, right, bottom), widened by one pixel, are visited.
    pub fn paint(&mut self, colour: Colour, bounds: [f32; 4], distance: impl Fn(f32, f32) -> f32) {
        let clip = |x: f32, end: usize| x.clamp(0.0, end as f32) as usize;
        let [left, right] = [clip(bounds[0] - 1.0, self.width), clip(bounds[2] + 2.0, self.width)];
        let [top, bottom] = [clip(bounds[1] - 1.0, self.height), clip(bounds[3] + 2.0, self.height)];
        for y in top..bottom {
            for x in left..right {
                let cover = (0.5 - distance(x as f32 + 0.5, y as f32 + 0.5)).clamp(0.0, 1.0);
                self.blend(x, y, colour, cover);
            }
        }
    }

    /// An axis-parallel rectangle (left, top, right, bottom).
    pub fn rectangle(&mut self, colour: Colour, bounds: [f32; 4]) {
        let [left, top, right, bottom] = bounds;
        if left.fract() == 0.0 && top.fract() == 0.0 && right.fract() == 0.0 && bottom.fract() == 0.0 {
            return self.fill(colour, bounds);
        }
        self.paint(colour, bounds, |x, y| (left - x).max(x - right).max((top - y).max(y - bottom)));
    }

    /// A rectangle whose edges lie between pixels, which are then covered or not: much faster.
    fn fill(&mut self, colour: Colour, bounds: [f32; 4]) {
        let clip = |x: f32, end: usize| x.clamp(0.0, end as f32) as usize;
        let [left, right] = [bounds[0], bounds[2]].map(|x| clip(x, self.width));
        let [top, bottom] = [bounds[1], bounds[3]].map(|y| clip(y, self.height));
        for row in (top..bottom).map(|y| y * self.width) {
            let pixels = self.pixels.get_mut((row + left) * 3..(row + right) * 3).unwrap_or_default();
            pixels.as_chunks_mut::<3>().0.fill(colour);
        }
    }

    /// An axis-parallel ellipse that fills a rectangle (left, top, right, bottom).
    pub fn ellipse(&mut self, colour: Colour, bounds: [f32; 4]) {
        let [left, top, right, bottom] = bounds;
        let (cx, cy) = ((left + right) / 2.0, (top + bottom) / 2.0);
        let (rx, ry) = ((right - left) / 2.0, (bottom - top) / 2.0);
        self.paint(colour, bounds, |x, y| {
            let (u, v) = ((x - cx) / rx, (y - cy) / ry);
            let slope = (u / rx).hypot(v / ry).max(1e-6); // turns the level set into a distance, to first order
            (u.hypot(v) - 1.0) * u.hypot(v).max(1e-6) / slope
        });
    }

    /// A line with round ends from `a` to `b`, `radius` to each side.
    pub fn capsule(&mut self, colour: Colour, a: [f32; 2], b: [f32; 2], radius: f32) {
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let length = (dx * dx + dy * dy).max(1e-12);
        let bounds =
            [a[0].min(b[0]) - radius, a[1].min(b[1]) - radius, a[0].max(b[0]) + radius, a[1].max(b[1]) + radius];
        self.paint(colour, bounds, |x, y| {
            let along = (((x - a[0]) * dx + (y - a[1]) * dy) / length).clamp(0.0, 1.0);
            (x - a[0] - along * dx).hypot(y - a[1] - along * dy) - radius
        });
    }

    /// A triangle, its corners clockwise as seen (y grows downwards).
    pub fn triangle(&mut self, colour: Colour, corners: [[f32; 2]; 3]) {
        let ends = |axis: usize| {
            let values = corners.map(|corner| corner[axis]);
            (values.into_iter().fold(f32::INFINITY, f32::min), values.into_iter().fold(f32::NEG_INFINITY, f32::max))
        };
        let ((left, right), (top, bottom)) = (ends(0), ends(1));
        let edges = [0, 1, 2].map(|i| {
            let (a, b) = (corners[i], corners[(i + 1) % 3]);
            let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
            let length = dx.hypot(dy).max(1e-6);
            (a, [dy / length, -dx / length]) // a point of the edge, and the direction outwards
        });
        self.paint(colour, [left, top, right, bottom], |x, y| {
            let beyond = edges.map(|(a, out)| (x - a[0]) * out[0] + (y - a[1]) * out[1]);
            beyond.into_iter().fold(f32::NEG_INFINITY, f32::max)
        });
    }

    /// The image, u8 [height, width, 3].
    pub fn finish(self) -> Array {
        Array::u8(&[self.height, self.width, 3], &self.pixels)
    }

    fn blend(&mut self, x: usize, y: usize, colour: Colour, cover: f32) {
        let at = (y * self.width + x) * 3;
        let pixel = &mut self.pixels[at..at + 3];
        if cover >= 1.0 {
            pixel.copy_from_slice(&colour);
        } else if cover > 0.0 {
            for (value, target) in pixel.iter_mut().zip(colour) {
                *value = (*value as f32 + (target as f32 - *value as f32) * cover + 0.5) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: Colour = [255; 3];

    fn area(paint: impl Fn(&mut Canvas)) -> f32 {
        let mut canvas = Canvas::new(40, 50, [0; 3]);
        paint(&mut canvas);
        canvas.finish().to_f32().iter().sum::<f32>() / (3.0 * 255.0)
    }

    #[test]
    fn shapes_cover_their_area() {
        let near = |found: f32, expected: f32| assert!((found / expected - 1.0).abs() < 0.02, "{found} {expected}");
        assert_eq!(area(|c| c.rectangle(WHITE, [3.0, 5.0, 17.0, 12.0])), 14.0 * 7.0);
        assert_eq!(
            area(|c| c.rectangle(WHITE, [17.0, 5.0, 3.0, 12.0])),
            0.0,
            "the left edge lies right of the right one"
        );
        near(area(|c| c.rectangle(WHITE, [3.5, 5.25, 17.5, 12.25])), 14.0 * 7.0);
        near(area(|c| c.ellipse(WHITE, [10.0, 10.0, 38.0, 24.0])), std::f32::consts::PI * 14.0 * 7.0);
        near(area(|c| c.triangle(WHITE, [[25.0, 5.0], [40.0, 30.0], [10.0, 30.0]])), 0.5 * 30.0 * 25.0);
        let capsule = 2.0 * 3.0 * 500f32.sqrt() + std::f32::consts::PI * 9.0;
        near(area(|c| c.capsule(WHITE, [10.0, 10.0], [30.0, 20.0], 3.0)), capsule);
    }

    #[test]
    fn shapes_outside_are_clipped() {
        assert_eq!(area(|c| c.ellipse(WHITE, [-30.0, -30.0, -10.0, -10.0])), 0.0);
        assert_eq!(area(|c| c.rectangle(WHITE, [-100.0, -100.0, 100.0, 100.0])), 2000.0);
    }
}
