//! Categoricals: the grouped latents with unimix, and discrete actions.

use candle_core::{Result, Tensor};

use crate::kernels::math::softmax;
use crate::kernels::{log_unimix, plain};

/// Which side of KL(post || prior) the gradient flows to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// To the posterior (`rep` loss).
    Post,
    /// To the prior (`dyn` loss).
    Prior,
}

/// KL(post || prior) summed over groups of `classes` logits, both mixed with `mix` of the uniform distribution. Fills the
/// gradient with respect to one side's raw logits.
pub fn kl(post: &[f32], prior: &[f32], classes: usize, mix: f32, side: Side, grad: &mut [f32]) -> f32 {
    let mut total = 0.0;
    let [mut p, mut q, mut h, mut log_p, mut log_q] = [(); 5].map(|()| vec![0.0; classes]);
    for ((post, prior), grad) in
        post.chunks_exact(classes).zip(prior.chunks_exact(classes)).zip(grad.chunks_exact_mut(classes))
    {
        log_unimix(post, classes, mix, &mut p, &mut log_p);
        log_unimix(prior, classes, mix, &mut q, &mut log_q);
        total += (0..classes).map(|i| p[i] * (log_p[i] - log_q[i])).sum::<f32>();
        if side == Side::Prior && mix == 0.0 {
            grad.iter_mut().zip(q.iter().zip(&p)).for_each(|(g, (q, p))| *g = q - p);
            continue;
        }
        for i in 0..classes {
            h[i] = if side == Side::Post { log_p[i] - log_q[i] } else { -p[i] / q[i] };
        }
        softmax(if side == Side::Post { post } else { prior }, grad);
        let dot: f32 = grad.iter().zip(&h).map(|(s, h)| s * h).sum();
        grad.iter_mut().zip(&h).for_each(|(s, h)| *s *= (1.0 - mix) * (h - dot));
    }
    total
}

/// KL(post || prior) of logits [N, groups, classes] by tensor operations, summed over groups, [N].
pub fn kls(post: &Tensor, prior: &Tensor, mix: f32) -> Result<Tensor> {
    let ((p, log_p), (_, log_q)) = (plain::log_unimix(post, mix)?, plain::log_unimix(prior, mix)?);
    (p * (log_p - log_q)?)?.sum((1, 2))
}

/// Entropies of logits [N, groups, classes] by tensor operations, summed over groups, [N].
pub fn entropies(logits: &Tensor, mix: f32) -> Result<Tensor> {
    let (p, log_p) = plain::log_unimix(logits, mix)?;
    (p * log_p)?.sum((1, 2))?.neg()
}

/// Entropy summed over groups of `classes` logits, mixed with `mix` of the uniform distribution.
pub fn entropy(logits: &[f32], classes: usize, mix: f32) -> f32 {
    let (mut p, mut log_p) = (vec![0.0; logits.len()], vec![0.0; logits.len()]);
    log_unimix(logits, classes, mix, &mut p, &mut log_p);
    -p.iter().zip(&log_p).map(|(p, l)| p * l).sum::<f32>()
}

/// Log-probabilities of `actions` [N, elements] and entropies of logits [N, elements, classes] by tensor operations, summed over
/// elements, [N] each.
pub fn logps_entropies(logits: &Tensor, actions: &[f32]) -> Result<(Tensor, Tensor)> {
    let (rows, elements, _) = logits.dims3()?;
    let classes = actions.iter().map(|&a| a as u32).collect();
    let classes = Tensor::from_vec(classes, (rows, elements, 1), logits.device())?;
    let logs = plain::log_softmax(logits)?;
    Ok((logs.gather(&classes, 2)?.sum((1, 2))?, (logs.exp()? * logs)?.sum((1, 2))?.neg()?))
}

/// Log-probability of class `action` and entropy of one row of raw logits. Adds `to_logp` and `to_entropy` times their
/// gradients to `grad`.
pub fn logp_entropy(logits: &[f32], action: usize, to_logp: f32, to_entropy: f32, grad: &mut [f32]) -> (f32, f32) {
    let mut probs = vec![0.0; logits.len()];
    let log_sum = softmax(logits, &mut probs);
    let entropy: f32 = -probs.iter().zip(logits).map(|(p, l)| p * (l - log_sum)).sum::<f32>();
    for (i, (&p, &l)) in probs.iter().zip(logits).enumerate() {
        let indicator = (i == action) as u8 as f32;
        grad[i] += to_logp * (indicator - p) - to_entropy * p * (l - log_sum + entropy);
    }
    (logits[action] - log_sum, entropy)
}
