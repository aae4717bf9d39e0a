//! A frozen encoder of one's own: a linear map of pixels whose weights were made elsewhere. They get in by each of the three ways,
//! are frozen, and are verified. Run it with `cargo run --release -p frozen_encoder`.

use shared::array::Array;
use shared::params::{Create, Init, ParamError, Params, Scope, Tree, Weight};

/// Features = pixels * kernel.
struct Encoder {
    kernel: Weight,
}

impl Encoder {
    /// Takes its weights below a scope, whether they are there already or not.
    fn new(scope: &Scope, pixels: usize, features: usize) -> Result<Self, ParamError> {
        Ok(Self { kernel: scope.weight("kernel", &[pixels, features], Init::Zeros)? })
    }

    fn encode(&self, pixels: &[f32]) -> Result<Vec<f32>, ParamError> {
        let kernel = self.kernel.to_vec()?;
        let features = kernel.len() / pixels.len();
        let one = |f: usize| pixels.iter().enumerate().map(|(i, x)| x * kernel[i * features + f]).sum();
        Ok((0..features).map(one).collect())
    }
}

/// What `shared::params::load` gives for a safetensors file: arrays by path.
fn pretrained() -> Tree {
    Tree::from([("kernel".to_string(), Array::f32(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]))])
}

/// Each way gives the same encoder, which no optimizer touches.
fn three_ways() -> Result<(), ParamError> {
    let params = Params::<Create>::new(0);

    // 1. Injected: a tree goes in below a prefix, and `find` gives it back; the module finds its weights there.
    params.put(pretrained(), "enc/put")?;
    assert_eq!(params.find("enc/put")?, pretrained());
    let put = Encoder::new(&Scope::root(&params).sub("enc").sub("put"), 3, 2)?;

    // 2. By a constructor, which runs once, and never when a checkpoint is restored.
    params.get_with("enc/got/kernel", || Ok(pretrained()["kernel"].clone()))?;
    let got = Encoder::new(&Scope::root(&params).sub("enc").sub("got"), 3, 2)?;

    // 3. By a hook after the module has made its weights; other keys or shapes than the module's are an error.
    let wrapped = params.wrap("enc/wrapped", |scope| Encoder::new(scope, 3, 2), |_| Ok(pretrained()))?;

    // Frozen: the optimizer does not see them, and their digest is kept.
    params.freeze("enc")?;
    params.get("head/kernel", &[2, 1], Init::Zeros)?;
    let params = params.seal()?;
    assert_eq!(params.trainable().iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["head/kernel"]);
    assert!(params.verify()?.iter().all(|report| report.holds()));

    for encoder in [put, got, wrapped] {
        assert_eq!(encoder.encode(&[1.0, 2.0, 3.0])?, [4.0, 5.0]);
    }
    Ok(())
}

fn main() -> Result<(), ParamError> {
    three_ways()?;
    println!("three frozen encoders, each as it was loaded");
    Ok(())
}

#[test]
fn the_example_runs() {
    three_ways().expect("the example");
}
