//! Putting a value computed elsewhere into candle's graph, together with its backward pass.

use std::cell::Cell;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor};
use parking_lot::Mutex;

use super::processor;
use crate::params::Weight;

thread_local! {
    static NO_GRAD: Cell<bool> = const { Cell::new(false) };
}

/// Run `f` without recording anything for a backward pass on this thread.
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            NO_GRAD.with(|flag| flag.set(self.0));
        }
    }
    let _restore = Restore(NO_GRAD.with(|flag| flag.replace(true)));
    f()
}

/// Whether operations on this thread are recorded for a backward pass.
pub(super) fn recording() -> bool {
    !NO_GRAD.with(Cell::get)
}

/// Read a float32 tensor as a row-major slice; copies only if it is not contiguous or not on the CPU.
pub fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let candle_core::Storage::Cpu(cpu) = &*storage else {
        candle_core::bail!("a tensor that was brought to the CPU is elsewhere");
    };
    let values = cpu.as_slice::<f32>()?;
    let start = layout.start_offset();
    Ok(f(&values[start..start + layout.shape().elem_count()]))
}

/// Read a weight's values in place.
pub fn with_weight<R>(weight: &Weight, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    match weight {
        Weight::Var(var) => read(var.as_tensor(), f),
        Weight::Mapped(mapped) => Ok(f(mapped.values())),
    }
}

/// Parameters of a fused kernel as one flat tensor, one after another, so that gradients find their way back.
pub(crate) fn joined<'a>(sources: impl IntoIterator<Item = &'a Tensor>) -> Result<Tensor> {
    let flat = sources.into_iter().map(Tensor::flatten_all);
    Tensor::cat(&flat.collect::<Result<Vec<_>>>()?, 0)
}

/// The tensor behind a weight if gradients can reach it.
pub(crate) fn leaf(weight: &Weight) -> Option<Tensor> {
    match weight {
        Weight::Var(var) => Some(var.as_tensor().clone()),
        Weight::Mapped(_) => None,
    }
}

/// From the gradient of the value to the gradients of the inputs, in their order; none where nothing flows.
pub(crate) type Backward = Box<dyn Fn(&[f32]) -> Result<Vec<Option<Vec<f32>>>> + Send + Sync>;

/// A tensor of `value` whose gradient reaches `inputs` (at most three that are there) through `backward`.
pub(crate) fn record(
    inputs: &[Option<Tensor>],
    value: Vec<f32>,
    shape: impl Into<Shape>,
    backward: Backward,
) -> Result<Tensor> {
    let shape = shape.into();
    let slots: Vec<usize> =
        inputs.iter().enumerate().filter(|(_, x)| x.as_ref().is_some_and(Tensor::track_op)).map(|(i, _)| i).collect();
    if slots.is_empty() || !recording() {
        return Tensor::from_vec(value, shape, &Device::Cpu);
    }
    if processor::plain() {
        candle_core::bail!("a kernel was recorded where tensor operations are to be used");
    }
    let tracked: Vec<&Tensor> = slots.iter().filter_map(|&i| inputs[i].as_ref()).collect();
    let op = Recorded { value: Mutex::new(Some(value)), shape, backward, slots: slots.clone() };
    match tracked.as_slice() {
        [a] => a.apply_op1(op),
        [a, b] => a.apply_op2(b, op),
        [a, b, c] => a.apply_op3(b, c, op),
        _ => candle_core::bail!("a recorded operation takes at most three inputs"),
    }
}

struct Recorded {
    value: Mutex<Option<Vec<f32>>>,
    shape: Shape,
    backward: Backward,
    slots: Vec<usize>,
}

impl Recorded {
    fn forward(&self) -> Result<(CpuStorage, Shape)> {
        match self.value.lock().take() {
            Some(value) => Ok((CpuStorage::F32(value), self.shape.clone())),
            None => candle_core::bail!("a recorded operation runs once"),
        }
    }

    /// Gradients of the tracked inputs. Every one of them gets a value: candle requires it.
    fn gradients(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let mut all = read(grad, |g| (self.backward)(g))??;
        let gradient = |(&slot, arg): (&usize, &&Tensor)| match all[slot].take() {
            Some(values) => Tensor::from_vec(values, arg.shape(), &Device::Cpu).map(Some),
            None => arg.zeros_like().map(Some),
        };
        self.slots.iter().zip(args).map(gradient).collect()
    }
}

impl CustomOp1 for Recorded {
    fn name(&self) -> &'static str {
        "recorded"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(&self, a: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.gradients(&[a], grad)?.remove(0))
    }
}

impl CustomOp2 for Recorded {
    fn name(&self) -> &'static str {
        "recorded"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut grads = self.gradients(&[a, b], grad)?;
        Ok((grads[0].take(), grads[1].take()))
    }
}

impl CustomOp3 for Recorded {
    fn name(&self) -> &'static str {
        "recorded"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut grads = self.gradients(&[a, b, c], grad)?;
        Ok((grads[0].take(), grads[1].take(), grads[2].take()))
    }
}
