//! LayerNorm over the last axis.

use multiversion::multiversion;

use super::math::sum;

/// `out = (x - mean) / sqrt(var + eps) * scale + bias` for each row of x; scale and bias [W], x and out [rows, W].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn layer_norm(x: &[f32], scale: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let width = scale.len();
    for (row, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let mean = sum(row, |v| v) / width as f32;
        let var = sum(row, |v| (v - mean) * (v - mean)) / width as f32;
        let rstd = 1.0 / (var + eps).sqrt();
        for (((o, &v), &s), &b) in out.iter_mut().zip(row).zip(scale).zip(bias) {
            *o = (v - mean) * rstd * s + b;
        }
    }
}
