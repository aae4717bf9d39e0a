//! Halving and doubling of images: pooling, repeating, spreading.

use candle_core::{Result, Tensor};

use super::plain::{self, plain};
use super::record::{read, record};

/// 2x2 max pooling with stride 2 of [N, H, W, C]. Ties share the gradient equally, as XLA's reduction does.
pub fn max_pool2(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    if h % 2 != 0 || w % 2 != 0 {
        candle_core::bail!("max_pool2: sides of {:?} must be even", x.dims());
    }
    if plain(x) {
        return plain::max_pool2(x);
    }
    let mut y = vec![f32::NEG_INFINITY; n * h * w * c / 4];
    read(x, |x| each_cell(n, h, w, c, |i, o| y[o] = y[o].max(x[i])))?;
    let (input, pooled) = (x.clone(), y.clone());
    let backward = move |dy: &[f32]| {
        let mut dx = vec![0.0; input.elem_count()];
        let mut ties = vec![0.0f32; dy.len()];
        read(&input, |x| {
            each_cell(n, h, w, c, |i, o| ties[o] += (x[i] == pooled[o]) as u8 as f32);
            each_cell(n, h, w, c, |i, o| dx[i] = if x[i] == pooled[o] { dy[o] / ties[o] } else { 0.0 });
        })?;
        Ok(vec![Some(dx)])
    };
    record(&[Some(x.clone())], y, (n, h / 2, w / 2, c), Box::new(backward))
}

/// Nearest-neighbour doubling of both sides of [N, H, W, C].
pub fn upsample2(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    if plain(x) {
        return plain::upsample2(x);
    }
    let mut y = vec![0.0; n * h * w * c * 4];
    read(x, |x| each_cell(n, 2 * h, 2 * w, c, |large, small| y[large] = x[small]))?;
    let backward = move |dy: &[f32]| {
        let mut dx = vec![0.0; dy.len() / 4];
        each_cell(n, 2 * h, 2 * w, c, |large, small| dx[small] += dy[large]);
        Ok(vec![Some(dx)])
    };
    record(&[Some(x.clone())], y, (n, 2 * h, 2 * w, c), Box::new(backward))
}

/// Doubling of both sides of [N, H, W, C] where each pixel goes to the lower right of a 2x2 cell of zeros.
pub fn spread2(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    if plain(x) {
        return plain::spread2(x);
    }
    // First element of each pixel in the large image, in the order of the small one.
    let lower_right = move || {
        let pixel = move |i: usize| (2 * (i / w) + 1) * 2 * w + 2 * (i % w) + 1;
        (0..n * h * w).map(move |i| pixel(i) * c)
    };
    let mut y = vec![0.0; n * h * w * c * 4];
    read(x, |x| {
        lower_right().zip(x.chunks_exact(c)).for_each(|(at, pixel)| y[at..at + c].copy_from_slice(pixel));
    })?;
    let backward =
        move |dy: &[f32]| Ok(vec![Some(lower_right().flat_map(|at| dy[at..at + c].iter().copied()).collect())]);
    record(&[Some(x.clone())], y, (n, 2 * h, 2 * w, c), Box::new(backward))
}

/// Calls `f(index in the large image, index in the image of half the size)` for every element of [n, h, w, c].
#[inline(always)]
fn each_cell(n: usize, h: usize, w: usize, c: usize, mut f: impl FnMut(usize, usize)) {
    for row in 0..n * h {
        let small_row = (row / h) * (h / 2) + (row % h) / 2;
        for col in 0..w {
            let (large, small) = ((row * w + col) * c, (small_row * (w / 2) + col / 2) * c);
            (0..c).for_each(|k| f(large + k, small + k));
        }
    }
}
