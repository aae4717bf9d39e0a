//! Trainable pooling: learned queries attend over the tokens of a frame.

use candle_core::{Result, Tensor};

use crate::kernels::math::softmax;
use crate::kernels::{parameter, plain};
use crate::params::{Dist, Init, ParamError, Scope, Weight};

/// Tokens [P, k] to Q means of them, [Q, k]: query q weighs token p by the softmax over p of `queries_q . (token_p +
/// positions_p) / sqrt(k)`, and means are over tokens with their positions, so that they tell where as well as what.
///
/// Projections of keys and values would add nothing: the queries are learned, so they absorb the one (q . Kx = K'q . x), and
/// the layer after the pooling is linear, so it absorbs the other. Float32 in every precision.
#[derive(Clone, Debug)]
pub struct AttentionPool {
    queries: Weight,
    positions: Weight,
}

impl AttentionPool {
    /// `queries` [Q, k] and `positions` [P, k] of the scope. Standardised tokens make initial scores of deviation 1.
    pub fn new(scope: &Scope, tokens: [usize; 2], queries: usize) -> std::result::Result<Self, ParamError> {
        let normal = Init::Fan { dist: Dist::TruncNormal, fan: 1.0, outscale: 1.0 };
        Ok(Self {
            queries: scope.weight("queries", &[queries, tokens[1]], normal)?,
            positions: scope.weight("positions", &tokens, normal)?,
        })
    }

    /// Numbers per frame, Q * k.
    pub fn width(&self) -> usize {
        self.queries.shape().iter().product()
    }

    /// Tokens [rows, P * k] -> [rows, Q * k].
    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let (queries, positions) = (parameter(&self.queries)?, parameter(&self.positions)?);
        let (rows, (patches, width)) = (tokens.dim(0)?, positions.dims2()?);
        let tokens = tokens.reshape((rows, patches, width))?.broadcast_add(&positions)?;
        let queries = (queries.t()? * self.scale())?;
        let scores = tokens.reshape((rows * patches, width))?.matmul(&queries)?.reshape((rows, patches, ()))?;
        let weights = plain::log_softmax(&scores.transpose(1, 2)?.contiguous()?)?.exp()?;
        weights.matmul(&tokens)?.flatten_from(1)
    }

    /// The same for one row over mapped weights, `tokens` [P * k] to `out` [Q * k]; `tokens` is used up, and the rest are buffers.
    pub(super) fn row(&self, tokens: &mut [f32], [scores, weights]: &mut [Vec<f32>; 2], out: &mut [f32]) -> Option<()> {
        let (queries, positions) = (self.queries.mapped()?.values(), self.positions.mapped()?.values());
        let (width, scale) = (self.queries.shape()[1], self.scale() as f32);
        tokens.iter_mut().zip(positions).for_each(|(token, position)| *token += position);
        out.fill(0.0);
        for (query, out) in queries.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let score = |token: &[f32]| scale * token.iter().zip(query).map(|(t, q)| t * q).sum::<f32>();
            scores.clear();
            scores.extend(tokens.chunks_exact(width).map(score));
            weights.resize(scores.len(), 0.0);
            softmax(scores, weights);
            for (token, weight) in tokens.chunks_exact(width).zip(&*weights) {
                out.iter_mut().zip(token).for_each(|(out, t)| *out += weight * t);
            }
        }
        Some(())
    }

    fn scale(&self) -> f64 {
        (self.queries.shape()[1] as f64).sqrt().recip()
    }
}
