//! Linear maps with norms and activations, one after another.

use candle_core::{Result, Tensor};

use super::{Linear, Norm, Style};
use crate::kernels::stack::{Dense, Stack};
use crate::params::{ParamError, Scope};

/// Linear, norm and activation, several times.
#[derive(Clone, Debug)]
pub struct Mlp {
    layers: Vec<(Linear, Norm)>,
    width: usize,
}

impl Mlp {
    /// Layers named `{linear}{i}` and `norm(i)`.
    fn new(
        scope: &Scope,
        style: &Style,
        (linear, norm): (&str, impl Fn(usize) -> String),
        [inputs, units, layers]: [usize; 3],
    ) -> std::result::Result<Self, ParamError> {
        let layer = |i: usize| {
            let inputs = if i == 0 { inputs } else { units };
            let map = Linear::new(&scope.sub(&format!("{linear}{i}")), style, inputs, units, 1.0)?;
            Ok((map, Norm::new(&scope.sub(&norm(i)), style, units)?))
        };
        let width = if layers == 0 { inputs } else { units };
        Ok(Self { layers: (0..layers).map(layer).collect::<std::result::Result<_, ParamError>>()?, width })
    }

    /// An MLP with the names of heads: `linear0`, `norm0`, …
    pub fn head(
        scope: &Scope,
        style: &Style,
        inputs: usize,
        units: usize,
        layers: usize,
    ) -> std::result::Result<Self, ParamError> {
        Self::new(scope, style, ("linear", |i| format!("norm{i}")), [inputs, units, layers])
    }

    /// An MLP with the names of encoder and RSSM: `mlp0`, `mlp0norm`, …
    pub fn named(
        scope: &Scope,
        style: &Style,
        name: &str,
        [inputs, units, layers]: [usize; 3],
    ) -> std::result::Result<Self, ParamError> {
        Self::new(scope, style, (name, |i| format!("{name}{i}norm")), [inputs, units, layers])
    }

    /// Width of the output.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Linear maps, each with the norm and activation after it.
    pub fn layers(&self) -> &[(Linear, Norm)] {
        &self.layers
    }

    /// [.., inputs] -> [.., width].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(x.clone(), |x, (linear, norm)| norm.forward(&linear.forward(&x)?))
    }

    /// The same, forward only; none if there are no layers or norm and activation are not RMS and SiLU.
    pub fn stack(&self) -> Result<Option<Stack>> {
        Ok(self.denses()?.filter(|layers| !layers.is_empty()).map(Stack::new))
    }

    /// The layers of [`Mlp::stack`].
    pub(crate) fn denses(&self) -> Result<Option<Vec<Dense>>> {
        self.layers.iter().map(|(linear, norm)| linear.dense_with(norm)).collect()
    }
}
