//! Rotary position embeddings in two dimensions, as DINOv3 has them.

use multiversion::multiversion;

/// Cosines, then sines, of the angles by which a patch's queries and keys are turned: [rows, columns, 2, d / 2] for heads of `d`
/// numbers. The first half of the angles belongs to the row, the second to the column; positions run from -1 to 1.
pub fn angles(grid: (usize, usize), d: usize, theta: f32) -> Vec<f32> {
    let place = |i: usize, of: usize| 2.0 * (i as f64 + 0.5) / of as f64 - 1.0;
    let frequency = |j: usize| f64::from(theta).powf(-((4 * j) as f64) / d as f64);
    let mut out = Vec::with_capacity(grid.0 * grid.1 * d);
    for (row, col) in (0..grid.0).flat_map(|row| (0..grid.1).map(move |col| (row, col))) {
        let places = [place(row, grid.0), place(col, grid.1)];
        let of = |at: f64| (0..d / 4).map(move |j| std::f64::consts::TAU * at * frequency(j));
        let angles: Vec<f64> = places.into_iter().flat_map(of).collect();
        out.extend(angles.iter().map(|a| a.cos() as f32));
        out.extend(angles.iter().map(|a| a.sin() as f32));
    }
    out
}

/// Turn the queries and keys of patches. `qkv` is [N, tokens, 3, heads, d] as the fused projection gives it; `angles` are those of
/// the last patches of each frame, prefix tokens before them stay.
pub fn rotate(qkv: &mut [f32], angles: &[f32], tokens: usize, width: usize, heads: usize) {
    let d = width / heads;
    let prefix = tokens - angles.len() / d;
    for frame in qkv.chunks_exact_mut(tokens * 3 * width) {
        for (token, angles) in frame.chunks_exact_mut(3 * width).skip(prefix).zip(angles.chunks_exact(d)) {
            let (cos, sin) = angles.split_at(d / 2);
            token[..2 * width].chunks_exact_mut(d).for_each(|head| turn(head, cos, sin));
        }
    }
}

/// Number i of the first half and number i of the second are the two coordinates that are turned.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn turn(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = head.split_at_mut(cos.len());
    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}
