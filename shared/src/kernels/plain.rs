//! The kernels by candle's own tensor operations, with candle's gradients: the path of tensors that are not on the CPU.

use candle_core::{D, DType, Result, Tensor};

use super::norm_act::{Act, NormKind};
use super::processor;
use super::record::recording;
use crate::params::Weight;

/// Whether a tensor takes this path: it is not on the CPU, or the path is forced.
pub fn plain(x: &Tensor) -> bool {
    !x.device().is_cpu() || processor::plain()
}

/// The same for a weight.
pub(crate) fn plain_weight(weight: &Weight) -> bool {
    match weight {
        Weight::Var(var) => plain(var.as_tensor()),
        Weight::Mapped(_) => processor::plain(),
    }
}

/// The tensor behind a weight, out of gradients' reach inside of [`super::no_grad`].
pub(crate) fn parameter(weight: &Weight) -> Result<Tensor> {
    let tensor = weight.tensor()?;
    Ok(if recording() { tensor } else { tensor.detach() })
}

pub(super) fn linear(x: &Tensor, kernel: &Weight, bias: &Weight, shape: Vec<usize>) -> Result<Tensor> {
    let x = x.reshape(((), kernel.shape()[0]))?;
    x.matmul(&parameter(kernel)?)?.broadcast_add(&parameter(bias)?)?.reshape(shape)
}

pub(super) fn block_linear(x: &Tensor, kernel: &Weight, bias: &Weight) -> Result<Tensor> {
    let [blocks, inputs, _] = [0, 1, 2].map(|i| kernel.shape()[i]);
    let by_block = x.reshape(((), blocks, inputs))?.transpose(0, 1)?.contiguous()?;
    let y = by_block.matmul(&parameter(kernel)?)?.transpose(0, 1)?;
    y.flatten_from(1)?.broadcast_add(&parameter(bias)?)
}

pub(super) fn norm_act(
    x: &Tensor,
    kind: NormKind,
    scale: Option<&Weight>,
    shift: Option<&Weight>,
    act: Act,
) -> Result<Tensor> {
    let by_deviation = |x: &Tensor, eps: f32| {
        let square = x.sqr()?.mean_keepdim(D::Minus1)?;
        x.broadcast_div(&square.affine(1.0, f64::from(eps))?.sqrt()?)
    };
    let mut x = match kind {
        NormKind::None => x.clone(),
        NormKind::Rms { eps } => by_deviation(x, eps)?,
        NormKind::Layer { eps } => by_deviation(&x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?, eps)?,
    };
    if let Some(scale) = scale {
        x = x.broadcast_mul(&parameter(scale)?)?;
    }
    if let Some(shift) = shift {
        x = x.broadcast_add(&parameter(shift)?)?;
    }
    activate(&x, act)
}

fn activate(x: &Tensor, act: Act) -> Result<Tensor> {
    let rectified = || x * x.gt(0.0)?.to_dtype(x.dtype())?;
    match act {
        Act::Identity => Ok(x.clone()),
        Act::Silu => x.silu(),
        Act::Gelu => x.gelu(),
        Act::Relu => rectified(),
        Act::Relu2 => rectified()?.sqr(),
        Act::Mish => x * softplus(x)?.tanh()?,
        Act::Elu => x.elu(1.0),
        Act::Tanh => x.tanh(),
        Act::Sigmoid => sigmoid(x),
        Act::Softplus => softplus(x),
    }
}

/// 1 / (1 + exp(-x)), in a form whose gradient is finite for every x.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    x.affine(0.5, 0.0)?.tanh()?.affine(0.5, 0.5)
}

/// ln(1 + exp(x)), in a form that does not overflow.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    x.maximum(&x.zeros_like()?)? + x.abs()?.neg()?.exp()?.affine(1.0, 1.0)?.log()?
}

/// Logarithms of the softmax over the last axis.
pub fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// Probabilities over the last axis, mixed with `mix` of the uniform distribution, and their logarithms.
pub fn log_unimix(logits: &Tensor, mix: f32) -> Result<(Tensor, Tensor)> {
    let logs = log_softmax(logits)?;
    if mix == 0.0 {
        return Ok((logs.exp()?, logs));
    }
    let probs = logs.exp()?.affine(f64::from(1.0 - mix), f64::from(mix) / logits.dim(D::Minus1)? as f64)?;
    let logs = probs.log()?;
    Ok((probs, logs))
}

pub(super) fn one_hot_sample(logits: &Tensor, mix: f32, noise: &[f32]) -> Result<Tensor> {
    let (device, classes) = (logits.device(), logits.dim(D::Minus1)?);
    let (probs, logs) = log_unimix(logits, mix)?;
    let noise = Tensor::from_slice(noise, logits.shape(), device)?;
    let drawn = (logs.detach() + noise)?.argmax_keepdim(D::Minus1)?;
    let sample = drawn.broadcast_eq(&Tensor::arange(0, classes as u32, device)?)?.to_dtype(DType::F32)?;
    // Straight through: exactly the sample, with the gradient of the probabilities.
    sample + (&probs - probs.detach())?
}

pub(super) fn gru(gates: &Tensor, deter: &Tensor, blocks: usize) -> Result<Tensor> {
    let (rows, width) = deter.dims2()?;
    let gates = gates.reshape((rows, blocks, 3, width / blocks))?;
    let gate = |i: usize| gates.narrow(2, i, 1)?.reshape((rows, width));
    let update = sigmoid(&gate(2)?.affine(1.0, -1.0)?)?;
    let cand = (sigmoid(&gate(0)?)? * gate(1)?)?.tanh()?;
    (&update * cand)? + (update.affine(-1.0, 1.0)? * deter)?
}

/// `padding` before and after each side.
pub(super) fn conv2d(
    x: &Tensor,
    kernel: &Weight,
    bias: &Weight,
    stride: usize,
    [height, width]: [[usize; 2]; 2],
) -> Result<Tensor> {
    let x = x.pad_with_zeros(1, height[0], height[1])?.pad_with_zeros(2, width[0], width[1])?;
    let x = x.permute((0, 3, 1, 2))?.contiguous()?;
    let kernel = parameter(kernel)?.permute((3, 2, 0, 1))?.contiguous()?;
    let y = x.conv2d(&kernel, 0, stride, 1, 1)?.permute((0, 2, 3, 1))?.contiguous()?;
    y.broadcast_add(&parameter(bias)?)
}

pub(super) fn max_pool2(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let cells = x.reshape((n, h / 2, 2, w / 2, 2, c))?.permute((0, 1, 3, 5, 2, 4))?.flatten_from(4)?;
    let seen = cells.detach();
    let largest = seen.broadcast_eq(&seen.max_keepdim(4)?)?.to_dtype(x.dtype())?;
    let share = largest.broadcast_div(&largest.sum_keepdim(4)?)?;
    (cells * share)?.sum(4)
}

pub(super) fn upsample2(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let cells = x.reshape((n, h, 1, w, 1, c))?.broadcast_as((n, h, 2, w, 2, c))?;
    cells.contiguous()?.reshape((n, 2 * h, 2 * w, c))
}

pub(super) fn spread2(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let cells = x.reshape((n, h, 1, w, 1, c))?.pad_with_zeros(2, 1, 0)?.pad_with_zeros(4, 1, 0)?;
    cells.reshape((n, 2 * h, 2 * w, c))
}
