//! Multi-head self-attention of a Vision Transformer, forward only.

use multiversion::multiversion;
use rayon::prelude::*;

use super::math::{exp, max, sum};
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
    let mut scores = vec![0.0; tokens * tokens];
    for h in 0..heads {
        let part = |i: usize| Matrix::new(&qkv[i * width + h * d..], tokens, d, 3 * width);
        matmul(part(0), part(1).t(), &mut scores, tokens, false, 1);
        scores.chunks_exact_mut(tokens).for_each(|row| softmax(row, scale));
        matmul(Matrix::new(&scores, tokens, tokens, tokens), part(2), &mut out[h * d..], width, false, 1);
    }
}

/// Softmax of `scale * row`, in place.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn softmax(row: &mut [f32], scale: f32) {
    let top = max(row);
    let (chunks, rest) = row.as_chunks_mut::<16>();
    let exps = |chunk: &mut [f32; 16]| chunk.iter_mut().for_each(|x| *x = exp((*x - top) * scale));
    chunks.iter_mut().for_each(exps);
    // As wide as the others, so that it vectorises too.
    let mut last = [top; 16];
    last[..rest.len()].copy_from_slice(rest);
    exps(&mut last);
    rest.copy_from_slice(&last[..rest.len()]);
    let inverse = 1.0 / sum(row, |x| x);
    for x in row {
        *x *= inverse;
    }
}
