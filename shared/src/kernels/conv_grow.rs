//! Nearest-neighbour doubling, convolution, RMS norm and SiLU, several times, 16 images from end to end while they are in cache.
//!
//! A convolution of a doubled image sees each small pixel several times. So each of the four pixels that come of one is a smaller
//! convolution of the small image, with sums of weights: 9 instead of 25 products for a kernel of 5 x 5.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::conv_lanes::{
    Images, LANES, Vector, depth_to_space, norm_silu, norm_silu_backward, space_to_depth, suits, turned,
};
use super::conv_products::{Kernel, KernelGradient};
use super::conv_shrink::{PART, Stage};
use super::linear::sum_of;
use super::precision::Precision;
use super::record::{joined, read, record};
use crate::params::Weight;

/// What a stage does, with copied weights: images [height, width, inputs] to twice their sides and `outputs` channels.
struct Layer {
    height: usize,
    width: usize,
    inputs: usize,
    outputs: usize,
    /// Sides of the kernel.
    k: usize,
    /// [s, s, inputs, 4 * outputs], the same turned, and 4 times the bias.
    kernel: Kernel,
    turned: Kernel,
    bias: Vec<f32>,
    /// Scale and epsilon; the last stage has no norm.
    norm: Option<(Vec<f32>, f32)>,
    precision: Precision,
}

/// x [N, h, w, inputs] through the stages and the last convolution, which has no norm: [N, H, W, outputs]; none if another way suits
/// this processor or these images better.
pub fn doubled_stages(
    x: &Tensor,
    stages: &[Stage],
    last: (&Weight, &Weight),
    precision: Precision,
) -> Result<Option<Tensor>> {
    let (n, mut height, mut width, mut inputs) = x.dims4()?;
    if !suits(n) {
        return Ok(None);
    }
    let all = stages.iter().map(|stage| (stage.kernel, stage.bias, Some((stage.scale, stage.eps))));
    let (mut layers, mut sources) = (vec![], vec![]);
    for (kernel, bias, norm) in all.chain([(last.0, last.1, None)]) {
        let (k, outputs) = (kernel.shape()[0], kernel.shape()[3]);
        for weight in [kernel, bias].into_iter().chain(norm.map(|(scale, _)| scale)) {
            sources.push(weight.tensor()?);
        }
        let kernel = grouped(&kernel.to_vec()?, k, inputs, outputs);
        let turned = turned(&kernel, side(k), inputs, 4 * outputs);
        let turned = Kernel::new(turned, [side(k), 4 * outputs, inputs], precision);
        let kernel = Kernel::new(kernel, [side(k), inputs, 4 * outputs], precision);
        let norm = norm.map(|(scale, eps)| Ok::<_, candle_core::Error>((scale.to_vec()?, eps))).transpose()?;
        let bias = bias.to_vec()?.repeat(4);
        layers.push(Layer { height, width, inputs, outputs, k, kernel, turned, bias, norm, precision });
        (height, width, inputs) = (2 * height, 2 * width, outputs);
    }
    let (image, result) = (x.elem_count() / n, height * width * inputs);
    let mut y = vec![0.0; n * result];
    let traces: Vec<Vec<Images>> = read(x, |x| {
        let groups = y.par_chunks_mut(LANES * result).zip(x.par_chunks(LANES * image));
        groups.map(|(y, x)| forward(&layers, x, y)).collect()
    })?;
    let (input, flat) = (x.clone(), joined(&sources)?);
    let backward = move |d: &[f32]| {
        let mut dx = vec![0.0; input.elem_count()];
        let parts = read(&input, |x| {
            let images = dx.par_chunks_mut(PART * LANES * image).zip(x.par_chunks(PART * LANES * image));
            let parts = images.zip(d.par_chunks(PART * LANES * result)).zip(traces.par_chunks(PART));
            let part = parts.map(|(((dx, x), d), traces)| part_gradients(&layers, traces, (x, dx), d, [image, result]));
            part.collect::<Vec<_>>()
        })?;
        Ok(vec![Some(dx), Some(sum_of(parts))])
    };
    record(&[Some(x.clone()), Some(flat)], y, (n, height, width, inputs), Box::new(backward)).map(Some)
}

/// What each stage's convolution gave, [h, w, 4 * outputs], except for the last one's, which is the result.
fn forward(layers: &[Layer], x: &[f32], y: &mut [f32]) -> Vec<Images> {
    let mut traces = vec![];
    let mut images = layers[0].images(x);
    for (i, layer) in layers.iter().enumerate() {
        let mut linear = Images::new(layer.grouped(), 0);
        layer.kernel.convolve(&images, Some(&layer.bias), &mut linear);
        let Some(next) = layers.get(i + 1) else {
            let mut result = Images::new(layer.result(), 0);
            depth_to_space(&linear, &mut result);
            result.store(y);
            break;
        };
        images = layer.seen_by(next, &linear);
        traces.push(linear);
    }
    traces
}

/// Gradients of all weights from some groups, in the order of their sources; fills that of the input.
fn part_gradients(
    layers: &[Layer],
    traces: &[Vec<Images>],
    (x, dx): (&[f32], &mut [f32]),
    d: &[f32],
    [image, result]: [usize; 2],
) -> Vec<f32> {
    let mut sums: Vec<Sums> = layers.iter().map(Layer::sums).collect();
    let groups = x.chunks(LANES * image).zip(dx.chunks_mut(LANES * image)).zip(d.chunks(LANES * result));
    for (((x, dx), d), traces) in groups.zip(traces) {
        let mut given = Images::new(layers[layers.len() - 1].result(), 0);
        given.load(d);
        for (i, (layer, sums)) in layers.iter().zip(&mut sums).enumerate().rev() {
            // Grouped, and with the border that the turned kernel needs.
            let mut grouped = Images::new(layer.grouped(), layer.border());
            match &layer.norm {
                None => {
                    space_to_depth(&given, &mut grouped);
                    grouped.add_pixels(&mut sums.bias);
                }
                Some((scale, eps)) => {
                    let mut inside = Images::new(layer.grouped(), 0);
                    space_to_depth(&given, &mut inside);
                    norm_silu_backward(&traces[i], scale, *eps, &mut inside, &mut sums.scale, &mut sums.bias);
                    inside.copy_to(&mut grouped);
                }
            }
            let input = match i.checked_sub(1) {
                None => layer.images(x),
                Some(before) => layers[before].seen_by(layer, &traces[before]),
            };
            sums.kernel.add(&input, &grouped);
            given = Images::new([layer.height, layer.width, layer.inputs], 0);
            layer.turned.convolve(&grouped, None, &mut given);
        }
        given.store(dx);
    }
    layers.iter().zip(&sums).flat_map(|(layer, sums)| sums.flat(layer)).collect()
}

/// Sums of a stage's gradients.
struct Sums {
    kernel: KernelGradient,
    bias: Vec<Vector>,
    scale: Vec<Vector>,
}

impl Sums {
    /// Kernel, bias, and scale if there is a norm.
    fn flat(&self, layer: &Layer) -> Vec<f32> {
        let mut flat = ungrouped(&self.kernel.finish(), layer.k, layer.inputs, layer.outputs);
        let scale = layer.norm.as_ref().map_or(&[][..], |_| &self.scale);
        flat.extend(self.bias.iter().chain(scale).map(Vector::sum));
        flat
    }
}

impl Layer {
    /// Sides and channels of what comes out.
    fn result(&self) -> [usize; 3] {
        [2 * self.height, 2 * self.width, self.outputs]
    }

    /// The same with the four pixels that come of one as its channels.
    fn grouped(&self) -> [usize; 3] {
        [self.height, self.width, 4 * self.outputs]
    }

    fn border(&self) -> usize {
        side(self.k) / 2
    }

    /// Images that go in, with the border that the kernel needs.
    fn images(&self, x: &[f32]) -> Images {
        let mut images = Images::new([self.height, self.width, self.inputs], self.border());
        images.load(x);
        images
    }

    /// From what this stage's convolution gave to what the next one takes.
    fn seen_by(&self, next: &Layer, linear: &Images) -> Images {
        let mut images = Images::new([next.height, next.width, next.inputs], next.border());
        match &self.norm {
            None => depth_to_space(linear, &mut images),
            Some((scale, eps)) => {
                let mut active = Images::new(self.grouped(), 0);
                norm_silu(linear, scale, *eps, &mut active);
                depth_to_space(&active, &mut images);
            }
        }
        images
    }

    fn sums(&self) -> Sums {
        let zeros = vec![Vector::ZERO; self.outputs];
        let kernel = KernelGradient::new([side(self.k), self.inputs, 4 * self.outputs], self.precision);
        Sums { kernel, bias: zeros.clone(), scale: zeros }
    }
}

/// Side of the smaller kernel: small pixels that a window of `k` pixels of the doubled image touches.
fn side(k: usize) -> usize {
    2 * (k / 2).div_ceil(2) + 1
}

/// For each tap of a kernel of side `k` and each of the two pixels that come of one: which tap of the smaller kernel sees the same.
fn taps(k: usize) -> [Vec<usize>; 2] {
    let (half, border) = (k / 2, side(k) / 2);
    // Small pixel (parity + tap - half) / 2, rounded down, counted from the smaller kernel's first.
    [0, 1].map(|parity| (0..k).map(|tap| (parity + tap + 2 * border - half) / 2).collect())
}

/// Calls `f(index in [k, k, in, out], index in [s, s, in, 4 * out])` for all pairs that belong together.
fn pairs(k: usize, inputs: usize, outputs: usize, mut f: impl FnMut(usize, usize)) {
    let (small, taps) = (side(k), taps(k));
    for cell in 0..4 {
        for tap in 0..k * k {
            let to = taps[cell / 2][tap / k] * small + taps[cell % 2][tap % k];
            for input in 0..inputs {
                for output in 0..outputs {
                    let grouped = ((to * inputs + input) * 4 + cell) * outputs + output;
                    f((tap * inputs + input) * outputs + output, grouped);
                }
            }
        }
    }
}

fn grouped(kernel: &[f32], k: usize, inputs: usize, outputs: usize) -> Vec<f32> {
    let mut out = vec![0.0; 4 * side(k) * side(k) * inputs * outputs];
    pairs(k, inputs, outputs, |whole, grouped| out[grouped] += kernel[whole]);
    out
}

fn ungrouped(gradient: &[f32], k: usize, inputs: usize, outputs: usize) -> Vec<f32> {
    let mut out = vec![0.0; k * k * inputs * outputs];
    pairs(k, inputs, outputs, |whole, grouped| out[whole] += gradient[grouped]);
    out
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::kernels::conv_lanes::available;
    use crate::kernels::testing::{assert_close, noise, weight};
    use crate::kernels::{conv2d, rms_silu, upsample2};

    #[test]
    fn stages_of_sixteen_images_are_the_single_operations() {
        if !available() {
            return;
        }
        // No multiple of 16 images, odd sides.
        let x = Var::from_tensor(&noise(1, &[LANES + 3, 3, 2, 5])).unwrap();
        let weights: Vec<[Weight; 3]> = [(5, 5, 4), (7, 4, 6), (3, 6, 2)]
            .into_iter()
            .zip([10, 20, 30])
            .map(|((k, i, o), seed)| [weight(seed, &[k, k, i, o]), weight(seed + 1, &[o]), weight(seed + 2, &[o])])
            .collect();
        let (last, stages) = weights.split_last().unwrap();
        let known: Vec<Stage> =
            stages.iter().map(|[kernel, bias, scale]| Stage { kernel, bias, scale, eps: 1e-4 }).collect();
        let fast = doubled_stages(&x, &known, (&last[0], &last[1]), Precision::Float32).unwrap().unwrap();
        let grown = |x: &Tensor, [kernel, bias, _]: &[Weight; 3]| {
            conv2d(&upsample2(x).unwrap(), kernel, bias, 1, Precision::Float32).unwrap()
        };
        let inner = stages.iter().fold(x.as_tensor().clone(), |x, weights| {
            rms_silu(&grown(&x, weights), &weights[2], 1e-4, Precision::Float32).unwrap()
        });
        let slow = grown(&inner, last);
        assert_close("values", &fast, &slow);
        let sum = |y: &Tensor| (y * noise(40, y.dims())).unwrap().sum_all().unwrap().backward().unwrap();
        let (fast, slow) = (sum(&fast), sum(&slow));
        assert_close("input", fast.get(&x).unwrap(), slow.get(&x).unwrap());
        for (i, weight) in stages.iter().flatten().chain(&last[..2]).enumerate() {
            let var = weight.tensor().unwrap();
            assert_close(&format!("weight {i}"), fast.get(&var).unwrap(), slow.get(&var).unwrap());
        }
    }
}
