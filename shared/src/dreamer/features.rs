//! Features of the frozen encoder, standardised: what the trainable adapter sees and the decoder predicts.
//!
//! They are recorded in float16, whose error ([`round_features`](crate::vit::round_features)) this scales like the features: a
//! number x comes out with an error of at most 2^-11 |x| / deviation. So features whose mean is up to a hundred deviations from
//! zero are right to 0.05 deviations; one that hardly moves is mostly rounding, as it is for whoever calibrates.

use candle_core::{Device, Result, Tensor};

use crate::array::Array;
use crate::env::Space;
use crate::kernels::math::{Strides, matmul};
use crate::kernels::matmul::Matrix;
use crate::kernels::product::product;
use crate::kernels::with_weight;
use crate::params::{Dist, Init, ParamError, Scope, Weight};

/// (features - mean) projected on scaled principal components, or divided by the deviation. Frozen: its numbers come from
/// calibration frames when a run is created.
#[derive(Clone, Debug)]
pub struct Standardize {
    mean: Weight,
    /// [F, k], or [F] if every number is kept.
    scale: Weight,
    patches: usize,
    features: usize,
    outputs: usize,
}

impl Standardize {
    /// `mean` [F] and `components` [F, k] or `scale` [F] (`reduce` = 0) of the scope, for features [P, F].
    pub fn new(scope: &Scope, space: &Space, reduce: usize) -> std::result::Result<Self, ParamError> {
        let [patches, features] = *space.shape else {
            let message = format!("features must have shape [patches, width], not {:?}", space.shape);
            return Err(candle_core::Error::Msg(message).into());
        };
        let outputs = if reduce == 0 { features } else { reduce.min(features) };
        let mean = scope.weight("mean", &[features], Init::Zeros)?;
        let scale = match reduce {
            0 => scope.weight("scale", &[features], Init::Ones)?,
            _ => scope.weight(
                "components",
                &[features, outputs],
                Init::Fan { dist: Dist::TruncNormal, fan: features as f64, outscale: 1.0 },
            )?,
        };
        Ok(Self { mean, scale, patches, features, outputs })
    }

    /// Tokens per frame and numbers per token, [P, k].
    pub fn tokens(&self) -> [usize; 2] {
        [self.patches, self.outputs]
    }

    /// Numbers per frame.
    pub fn width(&self) -> usize {
        self.patches * self.outputs
    }

    /// Features [rows, P, F] -> [rows, P * k].
    pub fn forward(&self, features: &Array, rows: usize) -> Result<Tensor> {
        let mut x = features.to_f32();
        if x.len() != rows * self.patches * self.features {
            candle_core::bail!("features {:?} are not {rows} x [{}, {}]", features.shape, self.patches, self.features);
        }
        with_weight(&self.mean, |mean| {
            x.chunks_exact_mut(self.features).for_each(|row| row.iter_mut().zip(mean).for_each(|(x, m)| *x -= m))
        })?;
        let out = with_weight(&self.scale, |scale| self.project(x, scale))?;
        Tensor::from_vec(out, (rows, self.width()), &Device::Cpu)
    }

    /// The same with gradients, for features [rows, P, F] on any device.
    pub fn forward_tensor(&self, features: &Tensor) -> Result<Tensor> {
        let rows = features.dim(0)?;
        let centred = features.broadcast_sub(&self.mean.tensor()?.detach())?;
        let scale = self.scale.tensor()?.detach();
        let out = match scale.rank() {
            1 => centred.broadcast_mul(&scale)?,
            _ => centred.reshape((rows * self.patches, self.features))?.matmul(&scale)?,
        };
        out.reshape((rows, self.width()))
    }

    /// Numbers of a row: of all patches.
    pub(super) fn inputs(&self) -> usize {
        self.patches * self.features
    }

    /// The same for one row over mapped weights, `x` [patches * width] to `out`; `x` is used up.
    pub(super) fn row(&self, x: &mut [f32], out: &mut [f32]) -> Option<()> {
        let (mean, scale) = (self.mean.mapped()?.values(), self.scale.mapped()?.values());
        x.chunks_exact_mut(self.features).for_each(|row| row.iter_mut().zip(mean).for_each(|(x, m)| *x -= m));
        if self.scale.shape().len() == 1 {
            let row = |(out, x): (&mut [f32], &[f32])| {
                out.iter_mut().zip(x).zip(scale).for_each(|((out, x), s)| *out = x * s);
            };
            out.chunks_exact_mut(self.features).zip(x.chunks_exact(self.features)).for_each(row);
        } else {
            let x = Matrix::new(x, self.patches, self.features, self.features);
            let scale = Matrix::new(scale, self.features, self.outputs, self.outputs);
            product(x, scale, out, self.outputs, false);
        }
        Some(())
    }

    fn project(&self, mut x: Vec<f32>, scale: &[f32]) -> Vec<f32> {
        if self.scale.shape().len() == 1 {
            x.chunks_exact_mut(self.features).for_each(|row| row.iter_mut().zip(scale).for_each(|(x, s)| *x *= s));
            return x;
        }
        let rows = x.len() / self.features;
        let mut out = vec![0.0; rows * self.outputs];
        let (sx, so) = (Strides::row_major(self.features), Strides::row_major(self.outputs));
        matmul([rows, self.features, self.outputs], (&x, sx), (scale, so), (&mut out, so), false);
        out
    }
}
