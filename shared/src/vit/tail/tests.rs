//! Trainable blocks against their formula in float64: values, and gradients against its central differences.

use std::collections::BTreeMap;

use super::*;
use crate::array::Array;
use crate::config::Config;
use crate::dist::{Draws, Seeded};
use crate::params::{Create, Params, Tree};
use crate::vit::tree::trains;
use crate::vit::{Filter, PREFIX, Pixels};

/// Frames of 2 x 3 patches.
const GRID: (usize, usize) = (2, 3);
const KEY: &str = "vit/image";

type Values = BTreeMap<String, Vec<f64>>;

/// A tiny ViT with one of the families' features each.
fn specs() -> Vec<(VitSpec, &'static str)> {
    let learned = Positions::Learned { grid: 3, prefix: 1, filter: Filter::Bicubic };
    let plain = VitSpec {
        patch: 2,
        width: 8,
        depth: 2,
        heads: 2,
        mlp: 6,
        class_token: true,
        registers: 0,
        positions: learned,
        layer_scale: false,
        activation: Activation::Gelu,
        gated: false,
        pre_norm: false,
        normed: true,
        eps: 1e-6,
        pixels: Pixels::IMAGENET,
    };
    let rotary = VitSpec { positions: Positions::Rotary { theta: 100.0 }, registers: 2, ..plain.clone() };
    vec![
        (plain.clone(), "grid"),
        (VitSpec { layer_scale: true, activation: Activation::GeluTanh, ..rotary.clone() }, "mean"),
        (VitSpec { gated: true, activation: Activation::Silu, layer_scale: true, ..rotary }, "grid"),
        (VitSpec { pre_norm: true, activation: Activation::QuickGelu, ..plain.clone() }, "cls"),
        (VitSpec { activation: Activation::Relu, eps: 1e-5, ..plain }, "mean"),
    ]
}

fn tail_spec(spec: &VitSpec, pool: &str, blocks: &str) -> TailSpec {
    let sets = [format!("vit.pool={pool}"), format!("vit.trainable_blocks={blocks}")];
    let config = Config::load(&[] as &[&str], &sets).unwrap();
    let frames = Spaces::from([("image".to_string(), Space::image(2 * GRID.0, 2 * GRID.1, 3))]);
    TailSpec::new(&config.vit, spec, &frames).unwrap().unwrap()
}

/// Every parameter of the trunk, none of them special.
fn values(spec: &VitSpec) -> Values {
    let mut draws = Seeded::new(7);
    let noise = |(path, shape, _): (String, Vec<usize>, _)| {
        let start = if path.ends_with("scale") { 1.0 } else { 0.0 };
        let values = draws.normal(&shape).into_iter().map(|x| f64::from(start + 0.4 * x)).collect();
        (path, values)
    };
    spec.params().into_iter().map(noise).collect()
}

/// A store with what trains, and the tail over it.
fn build(spec: &VitSpec, tail: &TailSpec, values: &Values) -> (Params<Create>, Tail) {
    let params = Params::<Create>::new(0);
    let shapes = spec.params().into_iter().filter(|(path, ..)| trains(path, &tail.blocks));
    let array = |(path, shape, _): (String, Vec<usize>, _)| {
        let numbers: Vec<f32> = values[&path].iter().map(|x| *x as f32).collect();
        (path, Array::f32(&shape, &numbers))
    };
    params.put(shapes.map(array).collect::<Tree>(), PREFIX).unwrap();
    let module = Tail::new(&Scope::root(&params).sub("enc").sub("vit"), tail).unwrap();
    (params, module)
}

/// Hidden states of `n` frames.
fn tokens(spec: &VitSpec, n: usize) -> Vec<f32> {
    Seeded::new(3).normal(&[n, spec.prefix() + GRID.0 * GRID.1, spec.width])
}

fn tensor(spec: &VitSpec, tokens: &[f32], n: usize) -> Tensor {
    Tensor::from_slice(tokens, (n, tokens.len() / n / spec.width, spec.width), &Device::Cpu).unwrap()
}

fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

fn activation(kind: Activation, x: f64) -> f64 {
    let root = (2.0 / std::f64::consts::PI).sqrt();
    match kind {
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::GeluTanh => 0.5 * x * (1.0 + (root * (x + 0.044715 * x * x * x)).tanh()),
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Relu => x.max(0.0),
    }
}

/// One row times a kernel [in, out], plus a bias.
fn affine(x: &[f64], kernel: &[f64], bias: &[f64]) -> Vec<f64> {
    let one = |o: usize| bias[o] + x.iter().enumerate().map(|(i, x)| x * kernel[i * bias.len() + o]).sum::<f64>();
    (0..bias.len()).map(one).collect()
}

/// LayerNorm of one row.
fn normed(x: &[f64], scale: &[f64], bias: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
    (0..x.len()).map(|i| (x[i] - mean) / (var + eps).sqrt() * scale[i] + bias[i]).collect()
}

/// Query or key of one head, turned by the angles of its patch.
fn turn(spec: &VitSpec, token: usize, head: &mut [f64]) {
    let Positions::Rotary { theta } = spec.positions else { return };
    let (d, half) = (head.len(), head.len() / 2);
    let Some(patch) = token.checked_sub(spec.prefix()) else { return };
    let angles = &rotary::angles(GRID, d, theta)[patch * d..][..d];
    let before = head.to_vec();
    for i in 0..half {
        let (cos, sin) = (f64::from(angles[i]), f64::from(angles[half + i]));
        head[i] = before[i] * cos - before[half + i] * sin;
        head[half + i] = before[half + i] * cos + before[i] * sin;
    }
}

/// One block on the tokens of a frame.
fn block(spec: &VitSpec, values: &Values, index: usize, x: &mut [Vec<f64>]) {
    let (w, d, eps) = (spec.width, spec.width / spec.heads, f64::from(spec.eps));
    let of = |name: &str| values[&format!("blocks/{index}/{name}")].as_slice();
    let scale = |name: &str, i: usize| if spec.layer_scale { of(&format!("{name}/scale"))[i] } else { 1.0 };
    let project = |row: &[f64], name: &str| affine(row, of(&format!("{name}/kernel")), of(&format!("{name}/bias")));
    let norm = |row: &[f64], name: &str| normed(row, of(&format!("{name}/scale")), of(&format!("{name}/bias")), eps);
    let mut qkv: Vec<Vec<f64>> = x.iter().map(|row| project(&norm(row, "norm1"), "attn/qkv")).collect();
    for (token, row) in qkv.iter_mut().enumerate() {
        row[..2 * w].chunks_exact_mut(d).for_each(|head| turn(spec, token, head));
    }
    let mut mixed = vec![vec![0.0; w]; x.len()];
    for (head, t) in (0..spec.heads).flat_map(|head| (0..x.len()).map(move |t| (head, t))) {
        let q = &qkv[t][head * d..][..d];
        let score = |row: &Vec<f64>| q.iter().zip(&row[w + head * d..][..d]).map(|(q, k)| q * k).sum::<f64>();
        let shares: Vec<f64> = qkv.iter().map(|row| (score(row) / (d as f64).sqrt()).exp()).collect();
        let total: f64 = shares.iter().sum();
        for (share, row) in shares.iter().zip(&qkv) {
            (0..d).for_each(|i| mixed[t][head * d + i] += share / total * row[2 * w + head * d + i]);
        }
    }
    for (x, mixed) in x.iter_mut().zip(&mixed) {
        let branch = project(mixed, "attn/proj");
        (0..w).for_each(|i| x[i] += scale("ls1", i) * branch[i]);
        let hidden = project(&norm(x, "norm2"), "mlp/fc1");
        let unit = |i: usize| match spec.gated {
            true => activation(spec.activation, hidden[i]) * hidden[spec.mlp + i],
            false => activation(spec.activation, hidden[i]),
        };
        let branch = project(&(0..spec.mlp).map(unit).collect::<Vec<_>>(), "mlp/fc2");
        (0..w).for_each(|i| x[i] += scale("ls2", i) * branch[i]);
    }
}

/// Features of hidden states.
fn formula(spec: &VitSpec, tail: &TailSpec, values: &Values, tokens: &[f32]) -> Vec<f64> {
    let (count, w) = (spec.prefix() + GRID.0 * GRID.1, spec.width);
    let mut out = vec![];
    for frame in tokens.chunks_exact(count * w) {
        let row = |row: &[f32]| row.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let mut x: Vec<Vec<f64>> = frame.chunks_exact(w).map(row).collect();
        tail.blocks().for_each(|index| block(spec, values, index, &mut x));
        let norm = |row: &Vec<f64>| normed(row, &values["norm/scale"], &values["norm/bias"], f64::from(spec.eps));
        let x: Vec<Vec<f64>> = x.iter().map(norm).collect();
        let patches = &x[spec.prefix()..];
        match tail.pool {
            Pool::Cls => out.extend(&x[0]),
            Pool::Mean => out.extend((0..w).map(|i| patches.iter().map(|p| p[i]).sum::<f64>() / patches.len() as f64)),
            Pool::Grid(_) => out.extend(patches.iter().flatten()),
        }
    }
    out
}

fn close(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1e-3, |a: f64, b| a.max(b.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    assert!(worst <= 2e-5 * size, "{what}: differs by {worst:.2e} of {size:.2e}");
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn vit_tail_has_the_values_and_gradients_of_its_formula() {
    for (spec, pool) in specs() {
        let what = format!("{:?}, {pool}", spec.activation);
        let (tail, values, tokens) = (tail_spec(&spec, pool, "all"), values(&spec), tokens(&spec, 2));
        let (params, module) = build(&spec, &tail, &values);
        let out = module.forward(KEY, &tensor(&spec, &tokens, 2)).unwrap();
        close(&what, &flat(&out), &formula(&spec, &tail, &values, &tokens));
        let graph = module.graph(KEY, &tensor(&spec, &tokens, 2)).unwrap();
        close(&format!("{what}, by tensor operations"), &flat(&graph), &formula(&spec, &tail, &values, &tokens));

        let weights = Seeded::new(99).normal(&[out.elem_count()]);
        let slopes = Tensor::from_slice(&weights, out.shape(), &Device::Cpu).unwrap();
        let grads = (&out * slopes).unwrap().sum_all().unwrap().backward().unwrap();
        let sum = |values: &Values| {
            formula(&spec, &tail, values, &tokens).iter().zip(&weights).map(|(y, w)| y * f64::from(*w)).sum::<f64>()
        };
        for path in values.keys().filter(|path| trains(path, &tail.blocks)) {
            let slope = |i: usize| {
                let moved = |by: f64| {
                    let mut values = values.clone();
                    values.get_mut(path).unwrap()[i] += by;
                    sum(&values)
                };
                (moved(1e-5) - moved(-1e-5)) / 2e-5
            };
            let expected: Vec<f64> = (0..values[path].len()).map(slope).collect();
            let weight = params.lookup(&format!("{PREFIX}/{path}")).unwrap().tensor().unwrap();
            close(&format!("{what}, gradient of {path}"), &flat(grads.get(&weight).unwrap()), &expected);
        }
    }
}

#[test]
fn vit_tail_gives_many_frames_the_gradients_of_their_parts() {
    let (spec, pool) = specs().remove(1);
    let tail = tail_spec(&spec, pool, "1");
    assert_eq!(tail.blocks(), 1..2);
    let (params, module) = build(&spec, &tail, &values(&spec));
    let n = 2 * (ROWS / tail.tokens(KEY).unwrap()) + 5;
    let all = tensor(&spec, &tokens(&spec, n), n);
    let path = format!("{PREFIX}/blocks/1/attn/qkv/kernel");
    let weight = params.lookup(&path).unwrap().tensor().unwrap();
    let gradient = |first: usize, count: usize| {
        let out = module.forward(KEY, &all.narrow(0, first, count).unwrap()).unwrap();
        let grads = out.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        (flat(&out), flat(grads.get(&weight).unwrap()))
    };
    let (whole, parts) = (gradient(0, n), [gradient(0, n - 7), gradient(n - 7, 7)]);
    assert_eq!(whole.0, [parts[0].0.clone(), parts[1].0.clone()].concat());
    let sum: Vec<f64> = parts[0].1.iter().zip(&parts[1].1).map(|(a, b)| f64::from(*a) + f64::from(*b)).collect();
    close("sum over parts", &whole.1, &sum);
}
