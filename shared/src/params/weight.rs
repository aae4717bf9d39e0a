//! What a layer holds: a candle variable on the learner, a slice of shared memory on an actor.

use std::fmt;
use std::sync::Arc;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor, Var};

/// Bytes that live as long as somebody reads them: shared memory, a mapped file, or plain memory.
/// The bytes must start at a multiple of 4.
pub type Region = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// float32 values read in place from a region. Little-endian hosts only, like the rest of Lucid.
#[derive(Clone)]
pub struct Mapped {
    region: Region,
    offset: usize,
    shape: Vec<usize>,
}

impl Mapped {
    /// A view of `shape` at `offset` bytes into the region; none if it does not fit or is not aligned.
    pub fn new(region: Region, offset: usize, shape: &[usize]) -> Option<Self> {
        let bytes = shape.iter().try_fold(4usize, |n, &d| n.checked_mul(d))?;
        let slice = (*region).as_ref().get(offset..offset.checked_add(bytes)?)?;
        bytemuck::try_cast_slice::<u8, f32>(slice).ok()?;
        Some(Self { region, offset, shape: shape.to_vec() })
    }

    /// Shape of the view.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values.
    pub fn values(&self) -> &[f32] {
        let bytes = 4 * self.shape.iter().product::<usize>();
        bytemuck::cast_slice(&(*self.region).as_ref()[self.offset..self.offset + bytes])
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapped({:?} at {})", self.shape, self.offset)
    }
}

/// A parameter as a layer sees it; cloning shares the values. The same kernels run on both kinds.
#[derive(Clone, Debug)]
pub enum Weight {
    /// A variable on the learner: forward and backward.
    Var(Var),
    /// A slice of a snapshot's or a frozen encoder's region: forward only, read in place.
    Mapped(Mapped),
}

impl Weight {
    /// Shape of the parameter.
    pub fn shape(&self) -> &[usize] {
        match self {
            Weight::Var(v) => v.dims(),
            Weight::Mapped(m) => m.shape(),
        }
    }

    /// The slice, if that is what the parameter is.
    pub fn mapped(&self) -> Option<&Mapped> {
        match self {
            Weight::Var(_) => None,
            Weight::Mapped(mapped) => Some(mapped),
        }
    }

    /// Run `read` over the values, row-major: in place on the CPU, over a copy elsewhere. The variable must not be written
    /// meanwhile.
    pub fn with_values<R>(&self, read: impl FnOnce(&[f32]) -> R) -> candle_core::Result<R> {
        let var = match self {
            Weight::Mapped(mapped) => return Ok(read(mapped.values())),
            Weight::Var(var) => var,
        };
        let (storage, layout) = var.storage_and_layout();
        if let (Storage::Cpu(CpuStorage::F32(all)), Some((start, end))) = (&*storage, layout.contiguous_offsets()) {
            return Ok(read(&all[start..end]));
        }
        drop(storage);
        Ok(read(&self.to_vec()?))
    }

    /// A copy of the values, row-major.
    pub fn to_vec(&self) -> candle_core::Result<Vec<f32>> {
        match self {
            Weight::Var(v) => v.flatten_all()?.to_dtype(DType::F32)?.to_vec1(),
            Weight::Mapped(m) => Ok(m.values().to_vec()),
        }
    }

    /// The parameter as a tensor: the variable itself (gradients reach it), or a copy of mapped values.
    pub fn tensor(&self) -> candle_core::Result<Tensor> {
        match self {
            Weight::Var(v) => Ok(v.as_tensor().clone()),
            Weight::Mapped(m) => Tensor::from_slice(m.values(), m.shape(), &Device::Cpu),
        }
    }
}
