//! Gradients of the recurrent core through many steps, against central differences.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Result, Tensor, Var};
use shared::config::{Config, RssmConfig};
use shared::dist::{Draws, Seeded};
use shared::dreamer::{Rssm, State};
use shared::kernels::Precision;
use shared::params::{Create, Params, Scope};

const ROWS: usize = 2;
/// Steps from the first one to the loss.
const STEPS: usize = 10;
const TOKENS: usize = 3;
const ACTIONS: usize = 2;

/// A small core. With `unimix` 1 latents are drawn from noise alone, so that nothing jumps under a small change and the
/// straight-through gradient is zero; what is left is smooth.
fn rssm(unimix: f64) -> (Rssm, RssmConfig) {
    let mut config = Config::load::<&str, &str>(&[], &[]).unwrap().agent().dynamics.rssm;
    (config.deter, config.hidden, config.stoch, config.classes, config.blocks) = (8, 6, 3, 4, 2);
    config.unimix = unimix;
    let params = Params::<Create>::new(5);
    (Rssm::new(&Scope::root(&params), &config, Precision::Float32, ACTIONS, TOKENS).unwrap(), config)
}

fn numbers(seed: u64, shape: &[usize]) -> Vec<f32> {
    Seeded::new(seed).normal(shape)
}

fn tensor(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::from_vec(numbers(seed, shape), shape, &Device::Cpu).unwrap()
}

/// A weighted sum of deter `STEPS` steps after the first one. `inputs`: deter and stoch before the first step, its action, its
/// token. An episode begins at step `first`.
fn loss(rssm: &Rssm, inputs: &[Tensor], first: usize) -> Result<Tensor> {
    let mut state = State { deter: inputs[0].clone(), stoch: inputs[1].clone() };
    let mut draws = Seeded::new(6);
    for t in 0..=STEPS {
        let later = |seed: usize, width: usize| tensor((100 * seed + t) as u64, &[ROWS, width]);
        let (action, token) =
            if t == 0 { (inputs[2].clone(), inputs[3].clone()) } else { (later(1, ACTIONS), later(2, TOKENS)) };
        let keep = Tensor::full(if t == first { 0f32 } else { 1.0 }, (ROWS, 1), &Device::Cpu)?;
        state = rssm.observe(&state, &action, &token, &keep, &mut draws)?.0;
    }
    (&state.deter * tensor(7, state.deter.dims()))?.sum_all()
}

/// The loss's inputs and its gradients with respect to them.
fn gradients(rssm: &Rssm, config: &RssmConfig, first: usize) -> (Vec<Tensor>, Vec<Vec<f32>>) {
    let shapes: [&[usize]; 4] =
        [&[ROWS, config.deter], &[ROWS, config.stoch, config.classes], &[ROWS, ACTIONS], &[ROWS, TOKENS]];
    let vars: Vec<Var> = shapes.iter().zip(10..).map(|(s, seed)| Var::from_tensor(&tensor(seed, s)).unwrap()).collect();
    let inputs: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let grads = loss(rssm, &inputs, first).unwrap().backward().unwrap();
    let flat = |x: &Tensor| {
        let grad = grads.get(x).cloned().unwrap_or_else(|| x.zeros_like().unwrap());
        grad.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let found = inputs.iter().map(flat).collect();
    (inputs.iter().map(Tensor::detach).collect(), found)
}

#[test]
fn a_loss_ten_steps_on_reaches_the_first_step() {
    let (rssm, config) = rssm(1.0);
    let (inputs, found) = gradients(&rssm, &config, STEPS + 1);
    for (k, found) in found.iter().enumerate().take(3) {
        let slope = |i: usize| {
            let moved = |by: f32| {
                let mut inputs = inputs.clone();
                let mut values = inputs[k].flatten_all().unwrap().to_vec1::<f32>().unwrap();
                values[i] += by;
                inputs[k] = Tensor::from_vec(values, inputs[k].dims(), &Device::Cpu).unwrap();
                f64::from(loss(&rssm, &inputs, STEPS + 1).unwrap().to_scalar::<f32>().unwrap())
            };
            (moved(0.01) - moved(-0.01)) / 0.02
        };
        let expected: Vec<f64> = (0..found.len()).map(slope).collect();
        let size = expected.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        let worst = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(size > 1e-4 && worst <= 0.01 * size, "input {k}: {worst:.2e} of {size:.2e}\n{found:?}\n{expected:?}");
    }
}

/// What is seen reaches a later state only through the sample drawn from it, straight through.
#[test]
fn a_loss_ten_steps_on_reaches_the_first_token() {
    let (rssm, config) = rssm(0.01);
    let (_, found) = gradients(&rssm, &config, STEPS + 1);
    assert!(found[3].iter().all(|g| g.abs() > 1e-6), "{:?}", found[3]);
}

#[test]
fn nothing_reaches_back_into_the_episode_before() {
    let (rssm, config) = rssm(0.01);
    let (_, found) = gradients(&rssm, &config, 4);
    assert!(found.iter().flatten().all(|g| *g == 0.0), "{found:?}");
}
