//! Multi-head self-attention of a Vision Transformer, forward only.

use multiversion::{multiversion, target::target_cfg_f};
use rayon::prelude::*;

use super::math::{LANES, exp_with};
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
    // Keys in rows and queries in columns: what is done with all keys of a query is done with as many queries as a vector holds.
    let mut scores = vec![0.0; tokens * stride];
    for h in 0..heads {
        let part = |i: usize| Matrix::new(&qkv[i * width + h * d..], tokens, d, 3 * width);
        matmul(part(1), part(0).t(), &mut scores, stride, false, 1);
        softmax(&mut scores, stride, scale);
        matmul(Matrix::new(&scores, tokens, tokens, stride).t(), part(2), &mut out[h * d..], width, false, 1);
    }
}

/// Softmax of `scale` times each column, in place. Rows have `stride` columns, which are whole vectors.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
fn softmax(scores: &mut [f32], stride: usize, scale: f32) {
    let (rows, _) = scores.as_chunks_mut::<LANES>();
    let vectors = stride / LANES;
    for column in 0..vectors {
        let mut top = [f32::NEG_INFINITY; LANES];
        for x in rows.iter().skip(column).step_by(vectors) {
            top.iter_mut().zip(x).for_each(|(top, x)| *top = if *x > *top { *x } else { *top });
        }
        let mut sums = [0.0; LANES];
        for x in rows.iter_mut().skip(column).step_by(vectors) {
            for i in 0..LANES {
                x[i] = exp_with::<{ target_cfg_f!(target_feature = "fma") }>((x[i] - top[i]) * scale);
                sums[i] += x[i];
            }
        }
        let inverse = sums.map(|sum| 1.0 / sum);
        for x in rows.iter_mut().skip(column).step_by(vectors) {
            x.iter_mut().zip(inverse).for_each(|(x, inverse)| *x *= inverse);
        }
    }
}
