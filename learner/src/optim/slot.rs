//! One trainable tensor with its state, and its step: over slices on the CPU, by tensor operations elsewhere.

use candle_core::{DType, Device, Result, Tensor, Var};
use shared::config::OptConfig;
use shared::kernels::{plain, read};

/// One trainable tensor with its state.
pub(super) struct Slot {
    pub path: String,
    pub var: Var,
    decay: bool,
    moments: Moments,
}

/// Mean square of the gradients, and momentum.
enum Moments {
    Slices([Vec<f32>; 2]),
    /// On the parameter's device.
    Tensors([Tensor; 2]),
}

/// The largest magnitudes of a tensor's numbers before a step; not finite where one of them is not.
pub(super) struct Extents {
    pub param: f32,
    /// Of mean square and momentum.
    pub moments: [f32; 2],
    pub grad: f32,
}

/// The numbers of one step, rounded as the official code rounds: complements from float64, bias corrections in float32.
struct Numbers {
    agc: f32,
    beta: [f32; 2],
    rest: [f32; 2],
    /// Of mean square and momentum.
    correction: [f32; 2],
    eps: f32,
    decay: f32,
    lr: f32,
    nesterov: bool,
}

impl Numbers {
    fn new(c: &OptConfig, step: u64, lr: f32, decay: bool) -> Self {
        let (beta1, beta2) = (c.beta1 as f32, c.beta2 as f32);
        Self {
            agc: c.agc as f32,
            beta: [beta1, beta2],
            rest: [(1.0 - c.beta1) as f32, (1.0 - c.beta2) as f32],
            correction: [beta2, beta1].map(|beta| 1.0 / (1.0 - beta.powf(step as f32))),
            eps: c.eps as f32,
            decay: if decay { c.wd as f32 } else { 0.0 },
            lr,
            nesterov: c.nesterov,
        }
    }
}

impl Slot {
    /// With moments of zero.
    pub fn new(path: String, var: Var, decay: bool) -> Result<Self> {
        let moments = match plain(var.as_tensor()) {
            true => Moments::Tensors([var.zeros_like()?, var.zeros_like()?]),
            false => Moments::Slices([(); 2].map(|()| vec![0.0; var.elem_count()])),
        };
        Ok(Self { path, var, decay, moments })
    }

    /// Whether weight decay applies.
    pub fn decays(&self) -> bool {
        self.decay
    }

    /// Mean square and momentum.
    pub fn moments(&self) -> Result<[Vec<f32>; 2]> {
        match &self.moments {
            Moments::Slices(moments) => Ok(moments.clone()),
            Moments::Tensors([square, momentum]) => {
                Ok([read(square, <[f32]>::to_vec)?, read(momentum, <[f32]>::to_vec)?])
            }
        }
    }

    /// Put mean square and momentum back, of the parameter's size.
    pub fn set_moments(&mut self, [square, momentum]: [Vec<f32>; 2]) -> Result<()> {
        let tensor = |values| Tensor::from_vec(values, self.var.shape(), self.var.device());
        self.moments = match &self.moments {
            Moments::Slices(_) => Moments::Slices([square, momentum]),
            Moments::Tensors(_) => Moments::Tensors([tensor(square)?, tensor(momentum)?]),
        };
        Ok(())
    }

    /// Of everything that a step of this tensor reads.
    pub fn extents(&self, grad: &Tensor) -> Result<Extents> {
        let moments = match &self.moments {
            Moments::Slices(moments) => moments.each_ref().map(|moment| extent(moment)),
            Moments::Tensors([square, momentum]) => [read(square, extent)?, read(momentum, extent)?],
        };
        Ok(Extents { param: read(self.var.as_tensor(), extent)?, moments, grad: read(grad, extent)? })
    }

    /// Whether a step from numbers of these extents cannot overflow, by bounds on what it computes.
    pub fn stays_finite(&self, extents: &Extents, c: &OptConfig, lr: f64) -> bool {
        const MOST: f64 = f32::MAX as f64;
        let (param, mut grad) = (f64::from(extents.param), f64::from(extents.grad));
        if c.agc > 0.0 {
            let norm = param * (self.var.elem_count() as f64).sqrt();
            grad = grad.min(c.agc * norm.max(1e-3));
        }
        // A mean square holds (1 - beta2) g^2 or more of its newest gradient, which bounds what is left of that.
        let update = 2.0 / (1.0 - c.beta2).sqrt();
        let decay = if self.decay { c.wd } else { 0.0 };
        let next = param + lr * (update + decay * param);
        // Where a mean square is young, it is divided by as little as 1 - beta2.
        let square = (grad * grad).max(f64::from(extents.moments[0])) / (1.0 - c.beta2);
        square <= MOST && next <= MOST
    }

    /// One step of this tensor; returns the sums of squares of gradient, update and new parameter, [3] in float64.
    pub fn step(&mut self, grad: &Tensor, c: &OptConfig, step: u64, lr: f32) -> Result<Tensor> {
        let numbers = Numbers::new(c, step, lr, self.decay);
        match &mut self.moments {
            Moments::Slices(moments) => {
                let sums = read(grad, |grad| step_slices(&self.var, grad, moments, &numbers))??;
                Tensor::new(&sums, &Device::Cpu)
            }
            Moments::Tensors(moments) => step_tensors(&self.var, grad, moments, &numbers),
        }
    }
}

fn step_slices(var: &Var, grad: &[f32], [square, momentum]: &mut [Vec<f32>; 2], c: &Numbers) -> Result<[f64; 3]> {
    let mut param = read(var.as_tensor(), <[f32]>::to_vec)?;
    let grad_squares = squares(grad);
    let limit = c.agc * (squares(&param).sqrt() as f32).max(1e-3);
    let clip = if c.agc > 0.0 { 1.0 / (grad_squares.sqrt() as f32 / limit).max(1.0) } else { 1.0 };
    let ([beta1, beta2], [rest1, rest2]) = (c.beta, c.rest);
    let mut update_squares = 0.0f64;
    for (((p, g), v), m) in param.iter_mut().zip(grad).zip(square).zip(momentum) {
        let g = g * clip;
        *v = beta2 * *v + rest2 * g * g;
        let mut u = g / ((*v * c.correction[0]).sqrt() + c.eps);
        *m = beta1 * *m + rest1 * u;
        let ahead = if c.nesterov { beta1 * *m + rest1 * u } else { *m };
        u = ahead * c.correction[1];
        let change = c.lr * (u + c.decay * *p);
        update_squares += f64::from(change * change);
        *p -= change;
    }
    let sums = [grad_squares, update_squares, squares(&param)];
    var.set(&Tensor::from_vec(param, var.shape(), &Device::Cpu)?)?;
    Ok(sums)
}

fn step_tensors(var: &Var, grad: &Tensor, [square, momentum]: &mut [Tensor; 2], c: &Numbers) -> Result<Tensor> {
    let param = var.as_detached_tensor();
    let times = |x: &Tensor, factor: f32| x.affine(f64::from(factor), 0.0);
    let squares = |x: &Tensor| x.to_dtype(DType::F64)?.sqr()?.sum_all();
    let grad_squares = squares(grad)?;
    let mut g = grad.clone();
    if c.agc > 0.0 {
        let norm = |squares: &Tensor| squares.sqrt()?.to_dtype(DType::F32);
        let limit = times(&norm(&squares(&param)?)?.maximum(1e-3)?, c.agc)?;
        g = g.broadcast_div(&(norm(&grad_squares)? / limit)?.maximum(1.0)?)?;
    }
    let ([beta1, beta2], [rest1, rest2]) = (c.beta, c.rest);
    *square = (times(square, beta2)? + times(&g.sqr()?, rest2)?)?;
    let u = (g / times(square, c.correction[0])?.sqrt()?.affine(1.0, f64::from(c.eps))?)?;
    let onward = |momentum: &Tensor| times(momentum, beta1)? + times(&u, rest1)?;
    *momentum = onward(momentum)?;
    let ahead = if c.nesterov { onward(momentum)? } else { momentum.clone() };
    let change = times(&(times(&ahead, c.correction[1])? + times(&param, c.decay)?)?, c.lr)?;
    let param = (param - &change)?;
    let sums = Tensor::stack(&[grad_squares, squares(&change)?, squares(&param)?], 0)?;
    var.set(&param)?;
    Ok(sums)
}

fn squares(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

/// The largest magnitude; infinity or not a number where one is not finite. In one pass that does not stop early, which is what makes it
/// fast.
fn extent(values: &[f32]) -> f32 {
    f32::from_bits(values.iter().fold(0, |largest, x| largest.max(x.to_bits() & !(1 << 31))))
}
