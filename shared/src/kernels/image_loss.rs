//! Squared error of predicted images.

use multiversion::multiversion;

use super::math::{LANES, sigmoid, total};

/// Sum over pixels of (sigmoid(x) - byte / 255)^2; fills its gradient with respect to x. All slices have one length.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn image_loss(x: &[f32], bytes: &[u8], grad: &mut [f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for ((x, bytes), grad) in x.chunks(LANES).zip(bytes.chunks(LANES)).zip(grad.chunks_mut(LANES)) {
        // What fills up the last chunk is left out of the sum.
        let [mut logits, mut target] = [[0.0; LANES]; 2];
        logits[..x.len()].copy_from_slice(x);
        (0..bytes.len()).for_each(|i| target[i] = bytes[i] as f32 / 255.0);
        let mut slopes = [0.0; LANES];
        for i in 0..LANES {
            let p = sigmoid(logits[i]);
            let error = p - target[i];
            slopes[i] = 2.0 * error * p * (1.0 - p);
            sums[i] += if i < x.len() { error * error } else { 0.0 };
        }
        grad.copy_from_slice(&slopes[..grad.len()]);
    }
    total(sums)
}
