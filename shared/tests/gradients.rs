//! Every layer and loss against a float64 version of its formula: values, and gradients against that version's central
//! differences.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use shared::dist::categorical::{self, Side};
use shared::dist::normal::Bounded;
use shared::dist::{Draws, Seeded, TwoHot};
use shared::dreamer::AttentionPool;
use shared::kernels::{self, Act, NormKind, Precision};
use shared::params::{Init, ParamError, Scope, Source, Weight};

type Inputs = Vec<Vec<f64>>;

/// Central differences of `f` with respect to every number of `x[k]`.
fn differences(f: &dyn Fn(&Inputs) -> f64, x: &Inputs, k: usize) -> Vec<f64> {
    let step = 1e-5;
    let slope = |i: usize| {
        let moved = |by: f64| {
            let mut x = x.clone();
            x[k][i] += by;
            f(&x)
        };
        (moved(step) - moved(-step)) / (2.0 * step)
    };
    (0..x[k].len()).map(slope).collect()
}

fn close(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1e-3, |a: f64, b| a.max(b.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    assert!(worst <= 2e-5 * size, "{what}: differs by {worst:.2e} of {size:.2e}\n{found:?}\n{expected:?}");
}

/// Numbers that are the same every time, rounded to float32 so that both versions see the same.
fn numbers(seed: u64, shape: &[usize]) -> Vec<f64> {
    Seeded::new(seed).normal(shape).into_iter().map(f64::from).collect()
}

/// A layer: its kernel on variables of these shapes, and its formula.
fn layer(
    what: &str,
    shapes: &[&[usize]],
    kernel: impl Fn(&[Var]) -> candle_core::Result<Tensor>,
    formula: impl Fn(&Inputs) -> Vec<f64>,
) {
    let inputs: Inputs = shapes.iter().enumerate().map(|(i, shape)| numbers(i as u64 + 1, shape)).collect();
    let var = |(values, shape): (&Vec<f64>, &&[usize])| {
        let values: Vec<f32> = values.iter().map(|x| *x as f32).collect();
        Var::from_vec(values, *shape, &Device::Cpu).unwrap()
    };
    let vars: Vec<Var> = inputs.iter().zip(shapes).map(var).collect();
    let out = kernel(&vars).unwrap();
    let expected = formula(&inputs);
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    close(&format!("{what}, value"), &flat(&out), &expected);
    let weights = numbers(99, &[expected.len()]);
    let projection = |x: &Inputs| formula(x).iter().zip(&weights).map(|(y, w)| y * w).sum::<f64>();
    let w: Vec<f32> = weights.iter().map(|x| *x as f32).collect();
    let grads = (&out * Tensor::from_vec(w, out.shape(), &Device::Cpu).unwrap()).unwrap().sum_all().unwrap();
    let grads = grads.backward().unwrap();
    for (k, var) in vars.iter().enumerate() {
        let found = flat(grads.get(var.as_tensor()).unwrap());
        close(&format!("{what}, gradient of input {k}"), &found, &differences(&projection, &inputs, k));
    }
}

/// A loss over one row: value and gradient from the kernel, and the formula.
fn loss(what: &str, row: &[f64], kernel: impl Fn(&[f32], &mut [f32]) -> f32, formula: impl Fn(&[f64]) -> f64) {
    let x: Vec<f32> = row.iter().map(|x| *x as f32).collect();
    let mut gradient = vec![0.0; x.len()];
    let value = kernel(&x, &mut gradient);
    close(&format!("{what}, value"), &[value], &[formula(row)]);
    let expected = differences(&|x: &Inputs| formula(&x[0]), &vec![row.to_vec()], 0);
    close(&format!("{what}, gradient"), &gradient, &expected);
}

fn weight(var: &Var) -> Weight {
    Weight::Var(var.clone())
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// x [n, i] times w [i, o] plus b [o].
fn affine(x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    let (outputs, inputs) = (b.len(), w.len() / b.len());
    let one = |row: &[f64], o: usize| b[o] + row.iter().enumerate().map(|(i, x)| x * w[i * outputs + o]).sum::<f64>();
    x.chunks_exact(inputs).flat_map(|row| (0..outputs).map(move |o| one(row, o)).collect::<Vec<_>>()).collect()
}

#[test]
fn linear_maps() {
    layer(
        "linear",
        &[&[3, 5], &[5, 4], &[4]],
        |v| kernels::linear(v[0].as_tensor(), &weight(&v[1]), &weight(&v[2]), Precision::Float32),
        |x| affine(&x[0], &x[1], &x[2]),
    );
    layer(
        "block linear",
        &[&[3, 6], &[2, 3, 2], &[4]],
        |v| kernels::block_linear(v[0].as_tensor(), &weight(&v[1]), &weight(&v[2]), Precision::Float32),
        |x| {
            let row = |row: &[f64]| {
                let block = |g: usize| affine(&row[g * 3..][..3], &x[1][g * 6..][..6], &x[2][g * 2..][..2]);
                [block(0), block(1)].concat()
            };
            x[0].chunks_exact(6).flat_map(row).collect()
        },
    );
}

fn activate(act: Act, x: f64) -> f64 {
    match act {
        Act::Identity => x,
        Act::Silu => x * sigmoid(x),
        Act::Gelu => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        Act::Relu => x.max(0.0),
        Act::Relu2 => x.max(0.0).powi(2),
        Act::Mish => x * x.exp().ln_1p().tanh(),
        Act::Elu => {
            if x > 0.0 {
                x
            } else {
                x.exp_m1()
            }
        }
        Act::Tanh => x.tanh(),
        Act::Sigmoid => sigmoid(x),
        Act::Softplus => x.exp().ln_1p(),
    }
}

fn normalise(kind: NormKind, row: &[f64]) -> Vec<f64> {
    let count = row.len() as f64;
    let (mean, square) = (row.iter().sum::<f64>() / count, row.iter().map(|x| x * x).sum::<f64>() / count);
    let (centre, scale) = match kind {
        NormKind::None => (0.0, 1.0),
        NormKind::Rms { eps } => (0.0, 1.0 / (square + f64::from(eps)).sqrt()),
        NormKind::Layer { eps } => (mean, 1.0 / (square - mean * mean + f64::from(eps)).sqrt()),
    };
    row.iter().map(|x| (x - centre) * scale).collect()
}

#[test]
fn norms_with_activations() {
    let formula = |kind: NormKind, act: Act, x: &Inputs| -> Vec<f64> {
        let row = |row: &[f64]| {
            let shift = |i: usize| x.get(2).map_or(0.0, |shift| shift[i]);
            let scaled = normalise(kind, row).into_iter().enumerate().map(|(i, h)| h * x[1][i] + shift(i));
            scaled.map(|h| activate(act, h)).collect::<Vec<_>>()
        };
        x[0].chunks_exact(5).flat_map(row).collect()
    };
    let shapes: [&[usize]; 3] = [&[4, 5], &[5], &[5]];
    layer(
        "rms, silu",
        &shapes[..2],
        |v| kernels::rms_silu(v[0].as_tensor(), &weight(&v[1]), 1e-4, Precision::Float32),
        |x| formula(NormKind::Rms { eps: 1e-4 }, Act::Silu, x),
    );
    let acts = [
        Act::Identity,
        Act::Silu,
        Act::Gelu,
        Act::Relu,
        Act::Relu2,
        Act::Mish,
        Act::Elu,
        Act::Tanh,
        Act::Sigmoid,
        Act::Softplus,
    ];
    for act in acts {
        for kind in [NormKind::None, NormKind::Rms { eps: 1e-4 }, NormKind::Layer { eps: 1e-3 }] {
            layer(
                &format!("{kind:?}, {act:?}"),
                &shapes,
                |v| {
                    kernels::norm_act(
                        v[0].as_tensor(),
                        kind,
                        Some(&weight(&v[1])),
                        Some(&weight(&v[2])),
                        act,
                        Precision::Float32,
                    )
                },
                |x| formula(kind, act, x),
            );
        }
    }
}

/// Variables by the last part of their paths.
struct Given(BTreeMap<&'static str, Weight>);

impl Source for Given {
    fn weight(&self, path: &str, shape: &[usize], _: Init) -> Result<Weight, ParamError> {
        let weight = &self.0[path.rsplit('/').next().unwrap()];
        assert_eq!(weight.shape(), shape, "{path}");
        Ok(weight.clone())
    }
}

#[test]
fn attention_pooling() {
    let (patches, width, queries) = (3, 4, 2);
    layer(
        "attention pooling",
        &[&[2, patches * width], &[queries, width], &[patches, width]],
        |v| {
            let given = Given([("queries", weight(&v[1])), ("positions", weight(&v[2]))].into());
            let pool = AttentionPool::new(&Scope::root(&given), [patches, width], queries).unwrap();
            pool.forward(v[0].as_tensor())
        },
        |x| {
            let frame = |frame: &[f64]| {
                let tokens: Vec<f64> = frame.iter().zip(&x[2]).map(|(t, p)| t + p).collect();
                let mean = |query: &[f64]| {
                    let score = |token: &[f64]| token.iter().zip(query).map(|(t, q)| t * q).sum::<f64>();
                    let weights: Vec<f64> =
                        tokens.chunks(width).map(|token| (score(token) / (width as f64).sqrt()).exp()).collect();
                    let all: f64 = weights.iter().sum();
                    let number = |i: usize| (0..patches).map(|p| weights[p] / all * tokens[p * width + i]).sum();
                    (0..width).map(number).collect::<Vec<f64>>()
                };
                x[1].chunks(width).flat_map(mean).collect::<Vec<f64>>()
            };
            x[0].chunks(patches * width).flat_map(frame).collect()
        },
    );
}

#[test]
fn gates() {
    layer(
        "gru",
        &[&[2, 12], &[2, 4]],
        |v| kernels::gru(v[0].as_tensor(), v[1].as_tensor(), 2, Precision::Float32),
        |x| {
            let one = |i: usize| {
                let (row, block, j) = (i / 4, i % 4 / 2, i % 2);
                let gate = |which: usize| x[0][row * 12 + block * 6 + which * 2 + j];
                let update = sigmoid(gate(2) - 1.0);
                update * (sigmoid(gate(0)) * gate(1)).tanh() + (1.0 - update) * x[1][i]
            };
            (0..8).map(one).collect()
        },
    );
}

/// Cross-correlation with SAME padding of one image [h, w, c].
fn convolve(x: &Inputs, [h, w, c]: [usize; 3], k: usize, stride: usize) -> Vec<f64> {
    let outputs = x[2].len();
    let padding = |side: usize| (((side.div_ceil(stride) - 1) * stride + k).saturating_sub(side)) / 2;
    let (above, before) = (padding(h) as isize, padding(w) as isize);
    let mut out = vec![];
    for (row, col) in (0..h).step_by(stride).flat_map(|row| (0..w).step_by(stride).map(move |col| (row, col))) {
        for o in 0..outputs {
            let mut sum = x[2][o];
            for (i, j) in (0..k).flat_map(|i| (0..k).map(move |j| (i, j))) {
                let (y, z) = (row as isize + i as isize - above, col as isize + j as isize - before);
                if (0..h as isize).contains(&y) && (0..w as isize).contains(&z) {
                    let pixel = (y as usize * w + z as usize) * c;
                    sum += (0..c).map(|q| x[0][pixel + q] * x[1][((i * k + j) * c + q) * outputs + o]).sum::<f64>();
                }
            }
            out.push(sum);
        }
    }
    out
}

#[test]
fn images() {
    for (k, stride, sides) in [(3, 1, [4, 5]), (5, 1, [3, 4]), (3, 2, [4, 6]), (5, 2, [6, 5])] {
        layer(
            &format!("convolution of {sides:?} by {k}, stride {stride}"),
            &[&[1, sides[0], sides[1], 2], &[k, k, 2, 3], &[3]],
            |v| kernels::conv2d(v[0].as_tensor(), &weight(&v[1]), &weight(&v[2]), stride, Precision::Float32),
            |x| convolve(x, [sides[0], sides[1], 2], k, stride),
        );
    }
    // Element of an image [1, h, w, 2] at a row, a column and a channel.
    let at = |w: usize, row: usize, col: usize, c: usize| (row * w + col) * 2 + c;
    let each = |h: usize, w: usize| {
        (0..h).flat_map(move |r| (0..w).flat_map(move |c| [(r, c, 0), (r, c, 1)])).collect::<Vec<_>>()
    };
    layer(
        "max pool",
        &[&[1, 4, 6, 2]],
        |v| kernels::max_pool2(v[0].as_tensor()),
        |x| {
            let cell = |r: usize, col: usize, c: usize| {
                let four = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(i, j)| x[0][at(6, 2 * r + i, 2 * col + j, c)]);
                four.into_iter().fold(f64::MIN, f64::max)
            };
            each(2, 3).into_iter().map(|(r, col, c)| cell(r, col, c)).collect()
        },
    );
    layer(
        "repeat",
        &[&[1, 2, 3, 2]],
        |v| kernels::upsample2(v[0].as_tensor()),
        |x| each(4, 6).into_iter().map(|(r, col, c)| x[0][at(3, r / 2, col / 2, c)]).collect(),
    );
    layer(
        "spread",
        &[&[1, 2, 3, 2]],
        |v| kernels::spread2(v[0].as_tensor()),
        |x| {
            let odd = |r: usize, col: usize| r % 2 == 1 && col % 2 == 1;
            let value = |(r, col, c): (usize, usize, usize)| {
                if odd(r, col) { x[0][at(3, r / 2, col / 2, c)] } else { 0.0 }
            };
            each(4, 6).into_iter().map(value).collect()
        },
    );
}

/// Log-probabilities of groups of logits, mixed with the uniform distribution.
fn log_probs(logits: &[f64], classes: usize, mix: f64) -> Vec<f64> {
    let group = |group: &[f64]| {
        let all: f64 = group.iter().map(|x| x.exp()).sum();
        group.iter().map(|x| ((1.0 - mix) * x.exp() / all + mix / classes as f64).ln()).collect::<Vec<_>>()
    };
    logits.chunks_exact(classes).flat_map(group).collect()
}

#[test]
fn categoricals() {
    let (post, prior) = (numbers(5, &[12]), numbers(6, &[12]));
    let single = |x: &[f64]| x.iter().map(|x| *x as f32).collect::<Vec<f32>>();
    for mix in [0.0, 0.01, 0.3] {
        let kl = |p: &[f64], q: &[f64]| {
            let (p, q) = (log_probs(p, 4, mix), log_probs(q, 4, mix));
            p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
        };
        let m = mix as f32;
        let (p, q) = (single(&post), single(&prior));
        loss("rep", &post, |x, g| categorical::kl(x, &q, 4, m, Side::Post, g), |x| kl(x, &prior));
        loss("dyn", &prior, |x, g| categorical::kl(&p, x, 4, m, Side::Prior, g), |x| kl(&post, x));
        layer(
            "straight-through sample",
            &[&[2, 4]],
            |v| {
                kernels::one_hot_sample(v[0].as_tensor(), m, &[9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 0.0]).map(|x| {
                    // The value is one-hot; its gradient is that of the probabilities.
                    let p: Vec<f32> = log_probs(&numbers(1, &[2, 4]), 4, mix).iter().map(|l| l.exp() as f32).collect();
                    let ones = Tensor::from_vec(vec![1f32, 0., 0., 0., 0., 0., 1., 0.], (2, 4), &Device::Cpu).unwrap();
                    let shift = (Tensor::from_vec(p, (2, 4), &Device::Cpu).unwrap() - ones).unwrap();
                    (x + shift).unwrap()
                })
            },
            |x| log_probs(&x[0], 4, mix).into_iter().map(f64::exp).collect(),
        );
    }
    let logits = numbers(7, &[5]);
    let policy = |x: &[f64], to_logp: f64, to_entropy: f64| {
        let l = log_probs(x, 5, 0.0);
        to_logp * l[3] - to_entropy * l.iter().map(|l| l * l.exp()).sum::<f64>()
    };
    loss(
        "categorical policy",
        &logits,
        |x, g| {
            let (logp, entropy) = categorical::logp_entropy(x, 3, -0.7, 0.2, g);
            -0.7 * logp + 0.2 * entropy
        },
        |x| policy(x, -0.7, 0.2),
    );
}

#[test]
fn continuous_policy() {
    let action = [0.3, -1.7];
    let bounds = Bounded { min: 0.1, max: 1.0 };
    loss(
        "bounded normal",
        &numbers(8, &[4]),
        |x, g| {
            let (logp, entropy) = bounds.logp_entropy(x, &action, 0.9, -0.4, g);
            0.9 * logp - 0.4 * entropy
        },
        |x| {
            let one = |i: usize| {
                let (mean, std) = (x[i].tanh(), 0.9 * sigmoid(x[2 + i] + 2.0) + 0.1);
                let z = (f64::from(action[i]) - mean) / std;
                let tau = 2.0 * std::f64::consts::PI;
                let (logp, entropy) = (-0.5 * z * z - std.ln() - 0.5 * tau.ln(), 0.5 * (tau * std * std).ln() + 0.5);
                0.9 * logp - 0.4 * entropy
            };
            one(0) + one(1)
        },
    );
}

#[test]
fn two_hot() {
    for (count, y) in [(9, 0.4), (9, -3.0), (8, 1e9), (255, 12.5)] {
        let bins = TwoHot::new(count);
        let half = (count - 1) / 2;
        let edge = |i: usize| -(20.0 - 20.0 * i as f64 / half as f64).exp_m1();
        let centres: Vec<f64> = (0..count).map(|i| if i <= half { edge(i) } else { -edge(count - 1 - i) }).collect();
        let below = centres.iter().filter(|b| **b <= f64::from(y)).count().saturating_sub(1);
        let above = (below + 1).min(count - 1);
        let share = match below == above {
            true => 0.5,
            false => (centres[above] - f64::from(y)) / (centres[above] - centres[below]),
        };
        loss(
            &format!("two-hot of {y} over {count} bins"),
            &numbers(9, &[count]),
            |x, g| bins.loss(x, [(y, 0.4), (y, 0.2)], g),
            |x| {
                let l = log_probs(x, count, 0.0);
                -0.6 * (share * l[below] + (1.0 - share) * l[above])
            },
        );
    }
}

#[test]
fn squared_error_of_images() {
    let bytes: Vec<u8> = (0..37).map(|i| (i * 7 % 256) as u8).collect();
    loss(
        "squared error of an image",
        &numbers(10, &[37]),
        |x, g| kernels::image_loss(x, &bytes, g),
        |x| {
            let errors = x.iter().zip(&bytes).map(|(x, b)| 1.0 / (1.0 + (-x).exp()) - f64::from(*b) / 255.0);
            errors.map(|e| e * e).sum()
        },
    );
}
