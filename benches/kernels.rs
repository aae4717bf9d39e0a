//! The kernels, on one thread, in the shapes of size1m and of ViT-S/14: `cargo bench -p shared`.
//!
//! Items are multiply-adds counted as two operations, so `Gitem/s` reads as GFLOP/s; compare it with the rate of `product`. Bytes are
//! those that a kernel must read and write. Names that end in `and_back` are forward and backward.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor, Var};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use shared::config::{Config, RssmConfig};
use shared::dist::{Draws, Seeded, TwoHot};
use shared::dreamer::{Observations, PackedRssm, Rssm, State};
use shared::kernels::matmul::{Matrix, matmul};
use shared::kernels::stack::{Dense, Stack};
use shared::kernels::{self, Precision};
use shared::params::{Create, Params, Scope, Weight};

fn main() {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    divan::main();
}

fn noise(count: usize) -> Vec<f32> {
    Seeded::new(count as u64).normal(&[count])
}

fn tensor(shape: &[usize]) -> Tensor {
    Tensor::from_vec(noise(shape.iter().product()), shape, &Device::Cpu).unwrap()
}

fn weight(shape: &[usize]) -> Weight {
    Weight::Var(Var::from_tensor(&tensor(shape)).unwrap())
}

/// Gradients of the sum.
fn back(y: &Tensor) {
    divan::black_box(y.sum_all().unwrap().backward().unwrap());
}

#[divan::bench(args = [[1024, 1024, 1024], [1024, 512, 512], [16, 512, 64]])]
fn product(bencher: Bencher, [m, k, n]: [usize; 3]) {
    let (a, b, mut c) = (noise(m * k), noise(k * n), vec![0.0; m * n]);
    bencher.counter(ItemsCount::new(2 * m * k * n)).bench_local(|| {
        matmul(Matrix::new(&a, m, k, k), Matrix::new(&b, k, n, n), &mut c, n, false, 1);
    });
}

/// A head of size1m: three layers of 64 and 255 outputs, for 1,024 states.
fn head() -> (Stack, usize) {
    let widths = [640, 64, 64, 64];
    let dense = |io: &[usize]| {
        let scale = weight(&[io[1]]);
        Dense::new(&weight(io), &weight(&[io[1]]), Some((&scale, 1e-4)), Precision::Float32).unwrap()
    };
    let last = Dense::new(&weight(&[64, 255]), &weight(&[255]), None, Precision::Float32).unwrap();
    let flops = 2 * 1024 * (640 * 64 + 2 * 64 * 64 + 64 * 255);
    (Stack::new(widths.windows(2).map(dense).collect()).then(last), flops)
}

#[divan::bench]
fn linear_norm_silu(bencher: Bencher) {
    let ((stack, flops), x) = (head(), noise(1024 * 640));
    bencher.counter(ItemsCount::new(flops)).bench_local(|| stack.map_rows(&x, 640, |row| row[0]));
}

#[divan::bench]
fn linear_norm_silu_twohot_and_back(bencher: Bencher) {
    let ((stack, flops), bins) = (head(), TwoHot::new(255));
    let x = Var::from_tensor(&tensor(&[1024, 640])).unwrap();
    bencher.counter(ItemsCount::new(3 * flops)).bench_local(|| {
        let pass = stack.clone().pass(x.as_tensor()).unwrap();
        back(&pass.loss(|_, logits, grad| bins.loss(logits, [(0.7, 1.0)], grad)).unwrap().sum);
    });
}

fn rssm() -> (Rssm, RssmConfig) {
    let config = Config::load::<&str, &str>(&["size1m"], &[]).unwrap().agent().dynamics.rssm;
    let params = Params::<Create>::new(5);
    (Rssm::new(&Scope::root(&params), &config, Precision::Float32, 6, 64).unwrap(), config)
}

#[divan::bench(sample_count = 10)]
fn observe_scan_and_back(bencher: Bencher) {
    let (rssm, config) = rssm();
    let (rows, steps) = (16, 64);
    let state = State {
        deter: Tensor::zeros((rows, config.deter), candle_core::DType::F32, &Device::Cpu).unwrap(),
        stoch: Tensor::zeros((rows, config.stoch, config.classes), candle_core::DType::F32, &Device::Cpu).unwrap(),
    };
    let (tokens, actions) = (tensor(&[rows, steps, 64]), tensor(&[rows, steps, 6]));
    let keep = Tensor::ones((rows, steps, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
    let seen = Observations { state: &state, tokens: &tokens, actions: &actions, keep: &keep };
    bencher.bench_local(|| back(&rssm.observe_all(&seen, &mut Seeded::new(1)).unwrap().posterior.deter));
}

#[divan::bench]
fn imagine_step(bencher: Bencher) {
    let packed = PackedRssm::new(&rssm().0).unwrap().unwrap();
    let rows = 256;
    let (features, actions) = (noise(rows * packed.features()), noise(rows * 6));
    let gumbel = packed.noise(rows, &mut Seeded::new(1));
    let (mut next, mut scratch) = (features.clone(), packed.scratch(rows));
    bencher.bench_local(|| packed.imagine(&features, &actions, &gumbel, &mut next, &mut scratch));
}

/// Images of the first stage of size1m's encoder.
const IMAGES: usize = 64;
const CONVOLUTION: usize = 2 * IMAGES * 64 * 64 * 25 * 3 * 8;

#[divan::bench]
fn convolution(bencher: Bencher) {
    let (x, kernel, bias) = (tensor(&[IMAGES, 64, 64, 3]), weight(&[5, 5, 3, 8]), weight(&[8]));
    let run = || kernels::conv2d(&x, &kernel, &bias, 1, Precision::Float32).unwrap();
    bencher.counter(ItemsCount::new(CONVOLUTION)).bench_local(run);
}

/// The gradient of an image is not wanted.
#[divan::bench]
fn convolution_and_back(bencher: Bencher) {
    let (x, kernel, bias) = (tensor(&[IMAGES, 64, 64, 3]), weight(&[5, 5, 3, 8]), weight(&[8]));
    let run = || back(&kernels::conv2d(&x, &kernel, &bias, 1, Precision::Float32).unwrap());
    bencher.counter(ItemsCount::new(2 * CONVOLUTION)).bench_local(run);
}

#[divan::bench]
fn max_pool_and_back(bencher: Bencher) {
    let x = Var::from_tensor(&tensor(&[IMAGES, 64, 64, 8])).unwrap();
    let bytes = BytesCount::of_many::<f32>(IMAGES * 64 * 64 * 8 * 5 / 2);
    bencher.counter(bytes).bench_local(|| back(&kernels::max_pool2(x.as_tensor()).unwrap()));
}

#[divan::bench]
fn upsample_and_back(bencher: Bencher) {
    let x = Var::from_tensor(&tensor(&[IMAGES, 32, 32, 8])).unwrap();
    let bytes = BytesCount::of_many::<f32>(IMAGES * 32 * 32 * 8 * 10);
    bencher.counter(bytes).bench_local(|| back(&kernels::upsample2(x.as_tensor()).unwrap()));
}

#[divan::bench]
fn image_loss(bencher: Bencher) {
    let (x, bytes) = (noise(1 << 20), vec![77u8; 1 << 20]);
    let mut grad = vec![0.0; 1 << 20];
    bencher.counter(BytesCount::new(9usize << 20)).bench_local(|| kernels::image_loss(&x, &bytes, &mut grad));
}

#[divan::bench]
fn one_hot_sample_and_back(bencher: Bencher) {
    let logits = Var::from_tensor(&tensor(&[1024, 32, 4])).unwrap();
    let gumbel = Seeded::new(1).gumbel(&[1024, 32, 4]);
    let bytes = BytesCount::of_many::<f32>(6 * gumbel.len());
    let run = || back(&kernels::one_hot_sample(logits.as_tensor(), 0.01, &gumbel).unwrap());
    bencher.counter(bytes).bench_local(run);
}

#[divan::bench]
fn twohot_loss(bencher: Bencher) {
    let (bins, logits, mut grad) = (TwoHot::new(255), noise(1024 * 255), vec![0.0; 255]);
    let run = || logits.chunks_exact(255).map(|row| bins.loss(row, [(0.7, 1.0)], &mut grad)).sum::<f32>();
    bencher.counter(BytesCount::of_many::<f32>(2 * 1024 * 255)).bench_local(run);
}

/// Tokens of 16 frames of ViT-S/14.
const TOKENS: usize = 16 * 26;

#[divan::bench]
fn attention(bencher: Bencher) {
    let (qkv, mut out) = (noise(TOKENS * 3 * 384), vec![0.0; TOKENS * 384]);
    let run = || kernels::attention::attention(&qkv, &mut out, 26, 384, 6, 1);
    bencher.counter(ItemsCount::new(4 * TOKENS * 26 * 384)).bench_local(run);
}

#[divan::bench]
fn layer_norm(bencher: Bencher) {
    let (x, mut out) = (noise(TOKENS * 384), vec![0.0; TOKENS * 384]);
    let (scale, bias) = (noise(384), noise(384));
    let run = || kernels::layer_norm::layer_norm(&x, &scale, &bias, 1e-6, &mut out);
    bencher.counter(BytesCount::of_many::<f32>(2 * TOKENS * 384)).bench_local(run);
}

#[divan::bench]
fn gelu(bencher: Bencher) {
    let mut x = noise(TOKENS * 1536);
    bencher.counter(BytesCount::of_many::<f32>(2 * TOKENS * 1536)).bench_local(|| kernels::gelu::gelu(&mut x));
}
