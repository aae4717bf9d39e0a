//! Multi-head self-attention of a Vision Transformer, forward only.

use multiversion::{multiversion, target::target_cfg_f};
use rayon::prelude::*;

use super::math::{LANES, exp_with, max, total};
use super::matmul::{Matrix, matmul};

/// `out = softmax(q k' / sqrt(d)) v` for each frame and head.
///
/// `qkv` is [N, tokens, 3, heads, d] as the fused projection gives it, `out` is [N, tokens, heads, d]; `width` is
/// heads * d. Frames are spread over rayon's pool if `threads` is above 1.
pub fn attention(qkv: &[f32], out: &mut [f32], tokens: usize, width: usize, heads: usize, threads: usize) {
    let frame = |(qkv, out): (&[f32], &mut [f32])| attend(qkv, out, tokens, width, heads);
    let (inputs, outputs) = (3 * tokens * width, tokens * width);
    if threads > 1 {
        qkv.par_chunks_exact(inputs).zip(out.par_chunks_exact_mut(outputs)).for_each(frame);
    } else {
        qkv.chunks_exact(inputs).zip(out.chunks_exact_mut(outputs)).for_each(frame);
    }
}

fn attend(qkv: &[f32], out: &mut [f32], tokens: usize, width: usize, heads: usize) {
    let d = width / heads;
    let scale = 1.0 / (d as f32).sqrt();
    let stride = tokens.next_multiple_of(LANES);
    let mut scores = vec![0.0; tokens * stride];
    for h in 0..heads {
        let part = |i: usize| Matrix::new(&qkv[i * width + h * d..], tokens, d, 3 * width);
        matmul(part(0), part(1).t(), &mut scores, stride, false, 1);
        softmax(&mut scores, tokens, scale);
        matmul(Matrix::new(&scores, tokens, tokens, stride), part(2), &mut out[h * d..], width, false, 1);
    }
}

/// Softmax of `scale` times each row's first `tokens` numbers, in place. Rows lie so far apart that they are whole vectors.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
fn softmax(scores: &mut [f32], tokens: usize, scale: f32) {
    for row in scores.chunks_exact_mut(tokens.next_multiple_of(LANES)) {
        // So low that its exponential counts for nothing.
        row[tokens..].fill(f32::MIN);
        let top = max(row);
        let (row, _) = row.as_chunks_mut::<LANES>();
        let mut sums = [0.0; LANES];
        for chunk in &mut *row {
            chunk.iter_mut().zip(&mut sums).for_each(|(x, sum)| {
                *x = exp_with::<{ target_cfg_f!(target_feature = "fma") }>((*x - top) * scale);
                *sum += *x;
            });
        }
        let inverse = 1.0 / total(sums);
        let row = row.as_flattened_mut();
        // Products with numbers so small would be slow.
        row[tokens..].fill(0.0);
        row.iter_mut().for_each(|x| *x *= inverse);
    }
}
