//! What is trained between recorded features and the RSSM, and what predicting features costs.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::Device;
use half::f16;
use learner::agent::{Agent, Batch, Origin};
use learner::dreamer::FEATURES_LOSS;
use shared::array::{Array, DType};
use shared::config::Config;
use shared::dist::{Draws, Seeded};
use shared::env::{Space, Spaces};
use shared::experience::{DETER, STOCH};
use shared::params::{Tree, to_tree};

const KEY: &str = "vit/image";

fn spaces(tokens: [usize; 2]) -> (Spaces, Spaces) {
    let features = Space { dtype: DType::F16, ..Space::vector(&tokens) };
    ([(KEY.to_string(), features)].into(), [("action".to_string(), Space::discrete(&[], 3))].into())
}

/// A batch of features with another mean and deviation in every number, and the statistics that standardise exactly these.
fn batch(config: &Config, tokens: [usize; 2]) -> (Batch, Tree) {
    let (b, t) = (config.agent.batch_size, config.agent.sample_length());
    let rssm = &config.agent.dynamics.rssm;
    let (frames, width) = (b * t, tokens[1]);
    let noise = Seeded::new(1).normal(&[frames * tokens[0], width]);
    let number = |(i, x): (usize, &f32)| f16::from_f32(3.0 * (i % width) as f32 + x * (1 + i % width) as f32);
    let features: Vec<f16> = noise.iter().enumerate().map(number).collect();
    let columns = |i: usize| features.iter().skip(i).step_by(width).map(|x| f64::from(x.to_f32()));
    let rows = (frames * tokens[0]) as f64;
    let means: Vec<f64> = (0..width).map(|i| columns(i).sum::<f64>() / rows).collect();
    let deviation = |i: usize| (columns(i).map(|x| (x - means[i]).powi(2)).sum::<f64>() / rows).sqrt();
    let scales: Vec<f32> = (0..width).map(|i| deviation(i).recip() as f32).collect();
    let means: Vec<f32> = means.iter().map(|x| *x as f32).collect();
    let statistics = [("image/mean", means), ("image/scale", scales)];
    let flags: Vec<u8> = (0..frames).map(|i| (i % t == 0) as u8).collect();
    let columns = BTreeMap::from([
        (KEY, Array::f16(&[b, t, tokens[0], width], &features)),
        ("action", Array::i32(&[b, t], &(0..frames).map(|i| (i % 3) as i32).collect::<Vec<_>>())),
        ("reward", Array::f32(&[b, t], &(0..frames).map(|i| (i % 2) as f32).collect::<Vec<_>>())),
        ("is_first", Array::u8(&[b, t], &flags)),
        ("is_last", Array::zeros(DType::U8, &[b, t])),
        ("is_terminal", Array::zeros(DType::U8, &[b, t])),
        ("consec", Array::zeros(DType::I32, &[b])),
        (DETER, Array::zeros(DType::F32, &[b, t, rssm.deter])),
        (STOCH, Array::zeros(DType::F32, &[b, t, rssm.stoch, rssm.classes])),
    ]);
    (
        columns.into_iter().map(|(key, array)| (key.to_string(), array)).collect(),
        statistics.map(|(key, x)| (key.to_string(), Array::f32(&[width], &x))).into(),
    )
}

fn agent(config: &Config, tokens: [usize; 2], statistics: Tree) -> Agent {
    let (obs, act) = spaces(tokens);
    let pretrained = Tree::new();
    let origin = Origin { obs: &obs, act: &act, seed: 0, statistics, pretrained, freeze: &[], device: Device::Cpu };
    Agent::new(&config.agent(), origin).unwrap()
}

fn config(sets: &[&str]) -> Config {
    Config::load(&["dummy"], &[&["vit.decode=features", "vit.reduce=0"], sets].concat()).unwrap()
}

#[test]
fn predicting_the_mean_of_features_costs_the_same_whatever_their_number() {
    for (tokens, pool) in [([1, 6], "mean"), ([25, 4], "grid"), ([9, 40], "attention")] {
        // Predictions that are zero everywhere: the mean of standardised features.
        let config = config(&["agent.dec.simple.outscale=0", &format!("vit.pool={pool}")]);
        let (batch, statistics) = batch(&config, tokens);
        let trained = agent(&config, tokens, statistics).train(&batch).unwrap();
        let loss = trained.metrics[&format!("loss/{KEY}")];
        // The first step of a sample is context; the statistics are those of all.
        assert!((loss / FEATURES_LOSS - 1.0).abs() < 0.1, "{tokens:?}: {loss}");
    }
}

#[test]
fn features_have_a_scale_of_their_own_in_the_sum() {
    let total = |sets: &[&str]| {
        let config = config(sets);
        let (batch, statistics) = batch(&config, [4, 6]);
        let metrics = agent(&config, [4, 6], statistics).train(&batch).unwrap().metrics;
        (metrics["opt/loss"], metrics[&format!("loss/{KEY}")])
    };
    let (whole, features) = total(&[]);
    assert_eq!(total(&["agent.loss_scales.rec=0.5"]), (whole, features), "rec is the scale of the other predictions");
    let (half, same) = total(&["agent.loss_scales.features=0.5"]);
    assert_eq!(same, features, "losses are reported unscaled");
    assert!((whole - half - 0.5 * features).abs() < 1e-3 * whole, "{whole} {half} {features}");
}

#[test]
fn attention_pooling_trains_and_travels_to_the_actors() {
    let paths = ["enc/attention/image/positions", "enc/attention/image/queries"];
    for precision in ["float32", "bfloat16"] {
        let compute = format!("agent.compute_dtype={precision}");
        let config = config(&["vit.pool=attention", "agent.opt.warmup=0", &compute]);
        let (batch, statistics) = batch(&config, [9, 6]);
        let mut agent = agent(&config, [9, 6], statistics.clone());
        let snapshot = |agent: &Agent| to_tree(&agent.policy_params().unwrap()).unwrap();
        let before = snapshot(&agent);
        agent.train(&batch).unwrap();
        let after = snapshot(&agent);
        for path in paths {
            assert!(agent.trainable_paths().iter().any(|trained| trained == path), "{path}");
            assert_ne!(before[path], after[path], "{precision}: {path} did not train");
        }
        for (key, frozen) in &statistics {
            assert_eq!(&after[&format!("enc/features/{key}")], frozen, "what recorded features are standardised by");
        }
    }
}
