//! Convolution, max pooling, RMS norm and SiLU, several times, 16 images from end to end while they are in cache. Only what pooling
//! leaves is kept for the way back.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::conv_lanes::{Images, LANES, Largest, Vector, norm_silu, norm_silu_backward, suits, turned, unpool};
use super::conv_products::{Kernel, KernelGradient};
use super::linear::sum_of;
use super::precision::Precision;
use super::record::{joined, leaf, read, record};
use crate::params::Weight;

/// Groups of images whose weight gradients are summed by one thread.
pub(super) const PART: usize = 4;

/// Weights of one stage.
pub struct Stage<'a> {
    /// [k, k, in, out].
    pub kernel: &'a Weight,
    /// [out].
    pub bias: &'a Weight,
    /// Of the norm, [out].
    pub scale: &'a Weight,
    /// Of the norm.
    pub eps: f32,
}

/// What a stage does, with copied weights: images [height, width, inputs] to half their sides and `outputs` channels.
struct Layer {
    height: usize,
    width: usize,
    inputs: usize,
    outputs: usize,
    k: usize,
    kernel: Kernel,
    turned: Kernel,
    bias: Vec<f32>,
    scale: Vec<f32>,
    eps: f32,
    precision: Precision,
}

/// What a group leaves behind in a stage.
struct Trace {
    pooled: Images,
    largest: Vec<Largest>,
}

/// Sums of a stage's gradients.
struct Sums {
    kernel: KernelGradient,
    bias: Vec<Vector>,
    scale: Vec<Vector>,
}

/// x [N, H, W, C] through the stages, [N, h, w, outputs]; none if another way suits this processor or these images better.
pub fn pooled_stages(x: &Tensor, stages: &[Stage], precision: Precision) -> Result<Option<Tensor>> {
    let (n, mut height, mut width, mut inputs) = x.dims4()?;
    let factor = 1 << stages.len();
    // Mapped weights are read in place by the single operations; here they would be copied at every step of an actor.
    let mapped = stages.iter().any(|stage| leaf(stage.kernel).is_none());
    if !suits(n) || mapped || height % factor != 0 || width % factor != 0 || x.track_op() {
        return Ok(None);
    }
    let mut layers = vec![];
    let mut sources = vec![];
    for stage in stages {
        let (k, outputs) = (stage.kernel.shape()[0], stage.kernel.shape()[3]);
        let kernel = stage.kernel.to_vec()?;
        let turned = Kernel::new(turned(&kernel, k, inputs, outputs), [k, outputs, inputs], precision);
        let kernel = Kernel::new(kernel, [k, inputs, outputs], precision);
        let (bias, scale, eps) = (stage.bias.to_vec()?, stage.scale.to_vec()?, stage.eps);
        layers.push(Layer { height, width, inputs, outputs, k, kernel, turned, bias, scale, eps, precision });
        for weight in [stage.kernel, stage.bias, stage.scale] {
            sources.push(weight.tensor()?);
        }
        (height, width, inputs) = (height / 2, width / 2, outputs);
    }
    let (image, result) = (x.elem_count() / n, height * width * inputs);
    let mut y = vec![0.0; n * result];
    let traces: Vec<Vec<Trace>> = read(x, |x| {
        let groups = y.par_chunks_mut(LANES * result).zip(x.par_chunks(LANES * image));
        groups.map(|(y, x)| forward(&layers, x, y)).collect()
    })?;
    let (input, flat) = (x.clone(), joined(&sources)?);
    let backward = move |d: &[f32]| {
        let parts = read(&input, |x| {
            let parts = x.par_chunks(PART * LANES * image).zip(d.par_chunks(PART * LANES * result));
            let parts = parts.zip(traces.par_chunks(PART));
            parts.map(|((x, d), traces)| part_gradients(&layers, traces, x, d, [image, result])).collect::<Vec<_>>()
        })?;
        Ok(vec![Some(sum_of(parts))])
    };
    record(&[Some(flat)], y, (n, height, width, inputs), Box::new(backward)).map(Some)
}

fn forward(layers: &[Layer], x: &[f32], y: &mut [f32]) -> Vec<Trace> {
    let mut traces = vec![];
    let mut images = layers[0].images(x);
    for (i, layer) in layers.iter().enumerate() {
        let sides = layer.result();
        let mut pooled = Images::new(sides, 0);
        let mut largest = vec![Largest::default(); sides.iter().product()];
        layer.kernel.convolve_pooled(&images, &layer.bias, &mut pooled, &mut largest);
        images = Images::new(sides, layers.get(i + 1).map_or(0, |next| next.k / 2));
        norm_silu(&pooled, &layer.scale, layer.eps, &mut images);
        traces.push(Trace { pooled, largest });
    }
    images.store(y);
    traces
}

/// Gradients of all weights from some groups, in the order of their sources.
fn part_gradients(
    layers: &[Layer],
    traces: &[Vec<Trace>],
    x: &[f32],
    d: &[f32],
    [image, result]: [usize; 2],
) -> Vec<f32> {
    let mut sums: Vec<Sums> = layers.iter().map(Layer::sums).collect();
    for ((traces, x), d) in traces.iter().zip(x.chunks(LANES * image)).zip(d.chunks(LANES * result)) {
        let mut given = Images::new(layers[layers.len() - 1].result(), 0);
        given.load(d);
        for i in (0..layers.len()).rev() {
            let (layer, sums) = (&layers[i], &mut sums[i]);
            let Trace { pooled, largest } = &traces[i];
            norm_silu_backward(pooled, &layer.scale, layer.eps, &mut given, &mut sums.scale, &mut sums.bias);
            let mut d = Images::new([layer.height, layer.width, layer.outputs], layer.k / 2);
            unpool(&given, largest, &mut d);
            let input = match i.checked_sub(1) {
                None => layer.images(x),
                Some(before) => {
                    let mut images = Images::new(layers[before].result(), layer.k / 2);
                    norm_silu(&traces[before].pooled, &layers[before].scale, layers[before].eps, &mut images);
                    images
                }
            };
            sums.kernel.add(&input, &d);
            if i > 0 {
                given = Images::new([layer.height, layer.width, layer.inputs], 0);
                layer.turned.convolve(&d, None, &mut given);
            }
        }
    }
    sums.iter().flat_map(Sums::flat).collect()
}

impl Layer {
    /// Sides and channels of what comes out.
    fn result(&self) -> [usize; 3] {
        [self.height / 2, self.width / 2, self.outputs]
    }

    /// Images that go in, with the border that the kernel needs.
    fn images(&self, x: &[f32]) -> Images {
        let mut images = Images::new([self.height, self.width, self.inputs], self.k / 2);
        images.load(x);
        images
    }

    fn sums(&self) -> Sums {
        let zeros = vec![Vector::ZERO; self.outputs];
        Sums {
            kernel: KernelGradient::new([self.k, self.inputs, self.outputs], self.precision),
            bias: zeros.clone(),
            scale: zeros,
        }
    }
}

impl Sums {
    /// Kernel, bias, scale.
    fn flat(&self) -> Vec<f32> {
        let mut flat = self.kernel.finish();
        flat.extend(self.bias.iter().chain(&self.scale).map(Vector::sum));
        flat
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::conv_lanes::available;
    use crate::kernels::testing::{assert_close, noise, weight};
    use crate::kernels::{conv2d, max_pool2, rms_silu};

    #[test]
    fn stages_of_sixteen_images_are_the_single_operations() {
        if !available() {
            return;
        }
        // No multiple of 16 images; flat areas, where pixels tie for the largest.
        let shape = [LANES + 3, 8, 12, 3];
        let x = noise(1, &shape).relu().unwrap();
        let weights: Vec<[Weight; 3]> = [(3, 3, 5), (5, 5, 6)]
            .into_iter()
            .zip([10, 20])
            .map(|((k, i, o), seed)| [weight(seed, &[k, k, i, o]), weight(seed + 1, &[o]), weight(seed + 2, &[o])])
            .collect();
        let stages: Vec<Stage> =
            weights.iter().map(|[kernel, bias, scale]| Stage { kernel, bias, scale, eps: 1e-4 }).collect();
        let fast = pooled_stages(&x, &stages, Precision::Float32).unwrap().unwrap();
        let slow = weights.iter().fold(x.clone(), |x, [kernel, bias, scale]| {
            let x = conv2d(&x, kernel, bias, 1, Precision::Float32).unwrap();
            rms_silu(&max_pool2(&x).unwrap(), scale, 1e-4, Precision::Float32).unwrap()
        });
        assert_close("values", &fast, &slow);
        let sum = |y: &Tensor| (y * noise(30, y.dims())).unwrap().sum_all().unwrap().backward().unwrap();
        let (fast, slow) = (sum(&fast), sum(&slow));
        for (i, weight) in weights.iter().flatten().enumerate() {
            let var = weight.tensor().unwrap();
            assert_close(&format!("weight {i}"), fast.get(&var).unwrap(), slow.get(&var).unwrap());
        }
    }
}
