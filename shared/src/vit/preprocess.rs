//! From frames of bytes to what the trunk expects: whole patches, pixels normalised as in training.

use super::resample::{Filter, resize};
use super::{Pixels, VitError, VitSpec};
use crate::config::VitConfig;

/// The nearest size that is whole patches, at least one each way.
pub fn whole_patches(size: (usize, usize), patch: usize) -> (usize, usize) {
    let nearest = |side: usize| ((side + patch / 2) / patch).max(1) * patch;
    (nearest(size.0), nearest(size.1))
}

/// The size that all frames are resized to, if `vit.size` gives one: whole patches.
pub fn fixed_size(config: &VitConfig, spec: &VitSpec) -> Result<Option<(usize, usize)>, VitError> {
    let [height, width] = config.size;
    if [height, width] == [0, 0] {
        return Ok(None);
    }
    let nearest = whole_patches((height, width), spec.patch);
    if nearest != (height, width) {
        let value = format!("[{height}, {width}]");
        let reason = format!("both must be multiples of the patch {}, as [{}, {}]", spec.patch, nearest.0, nearest.1);
        return Err(VitError::Option { key: "size", value, reason });
    }
    Ok(Some(nearest))
}

/// RGB frames [N, H, W, 3] of bytes, resized to `to` (bilinear with antialias) and normalised: [N, to.0, to.1, 3].
pub fn normalise(frames: &[u8], from: (usize, usize), to: (usize, usize), by: Pixels) -> Vec<f32> {
    let mut out = Vec::with_capacity(frames.len() / (from.0 * from.1).max(1) * to.0 * to.1);
    for frame in frames.chunks_exact(from.0 * from.1 * 3) {
        let scaled: Vec<f32> = frame.iter().map(|&x| x as f32 / 255.0).collect();
        out.extend(resize(&scaled, from, to, 3, Filter::BilinearAntialias));
    }
    for pixel in out.as_chunks_mut::<3>().0 {
        for (x, (mean, std)) in pixel.iter_mut().zip(by.mean.iter().zip(&by.std)) {
            *x = (*x - mean) / std;
        }
    }
    out
}
