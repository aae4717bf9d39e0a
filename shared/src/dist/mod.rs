//! Distributions: sampling, log-probability, entropy, KL.

/// Where randomness comes from. Shapes are whole tensors' shapes.
pub trait Draws {
    /// Standard Gumbel noise.
    fn gumbel(&mut self, shape: &[usize]) -> Vec<f32>;
    /// Standard normal noise.
    fn normal(&mut self, shape: &[usize]) -> Vec<f32>;
}
