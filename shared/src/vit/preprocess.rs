//! From frames of bytes to what the trunk expects: whole patches, ImageNet's mean and deviation.

use super::resample::{Filter, resize};

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The nearest size that is whole patches, at least one each way.
pub fn trunk_size(size: (usize, usize), patch: usize) -> (usize, usize) {
    let nearest = |side: usize| ((side + patch / 2) / patch).max(1) * patch;
    (nearest(size.0), nearest(size.1))
}

/// RGB frames [N, H, W, 3] of bytes, resized to `to` (bilinear with antialias) and normalised: [N, to.0, to.1, 3].
pub fn normalise(frames: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<f32> {
    let mut out = Vec::with_capacity(frames.len() / (from.0 * from.1).max(1) * to.0 * to.1);
    for frame in frames.chunks_exact(from.0 * from.1 * 3) {
        let scaled: Vec<f32> = frame.iter().map(|&x| x as f32 / 255.0).collect();
        out.extend(resize(&scaled, from, to, 3, Filter::BilinearAntialias));
    }
    for pixel in out.as_chunks_mut::<3>().0 {
        for c in 0..3 {
            pixel[c] = (pixel[c] - MEAN[c]) / STD[c];
        }
    }
    out
}
