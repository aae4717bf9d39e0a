//! LayerNorm over the last axis.

use multiversion::multiversion;

const LANES: usize = 16;

/// Sum of `f` over a row, in lanes, so that it vectorises without reordering a single long chain.
#[inline(always)]
fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane += f(x);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|&x| f(x)).sum::<f32>()
}

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
