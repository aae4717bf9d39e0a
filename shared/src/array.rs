//! Plain arrays of numbers: what environments return, actors record, replay stores and messages carry.

use std::ops::Range;

use bytemuck::Pod;
use candle_core::{Device, Tensor};
use half::f16;
use serde::{Deserialize, Serialize};

/// Element types of an [`Array`]. Little-endian in memory and on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DType {
    /// Bytes: pixels, and flags as 0 or 1.
    U8,
    /// Discrete values.
    I32,
    /// Classes of one-hot samples.
    U16,
    /// Counters, such as the snapshot version that acted.
    U64,
    /// Features of the frozen encoder, as recorded.
    F16,
    /// Everything else.
    F32,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::U8 => 1,
            DType::U16 | DType::F16 => 2,
            DType::I32 | DType::F32 => 4,
            DType::U64 => 8,
        }
    }
}

/// A dense row-major array as bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Array {
    /// Element type.
    pub dtype: DType,
    /// Shape, outermost axis first.
    pub shape: Vec<usize>,
    /// Little-endian elements; `shape.product() * dtype.size()` bytes.
    pub bytes: Vec<u8>,
}

macro_rules! constructor {
    ($name:ident, $ty:ty, $dtype:expr) => {
        /// An array of this element type; panics if the number of values does not match the shape.
        pub fn $name(shape: &[usize], values: &[$ty]) -> Self {
            assert_eq!(
                shape.iter().product::<usize>(),
                values.len(),
                "array shape {shape:?} does not hold {} values",
                values.len()
            );
            Self { dtype: $dtype, shape: shape.to_vec(), bytes: bytemuck::cast_slice(values).to_vec() }
        }
    };
}

/// Whether all floats are finite; reads at the speed of memory.
pub fn all_finite(values: &[f32]) -> bool {
    first_full(bytemuck::cast_slice(values), exponent, EXPONENT).is_none()
}

/// Exponent of a float32 that is infinite or not a number.
const EXPONENT: u32 = 0x7f80_0000;

fn exponent(float: [u8; 4]) -> u32 {
    u32::from_le_bytes(float) & EXPONENT
}

/// Index of the first element whose exponent is `full`. The first pass does not stop early: that makes it fast.
fn first_full<const N: usize>(elements: &[[u8; N]], exponent: impl Fn([u8; N]) -> u32, full: u32) -> Option<usize> {
    let largest = elements.iter().fold(0, |largest, x| largest.max(exponent(*x)));
    (largest == full).then(|| elements.iter().position(|x| exponent(*x) == full)).flatten()
}

impl Array {
    constructor!(u8, u8, DType::U8);
    constructor!(i32, i32, DType::I32);
    constructor!(u16, u16, DType::U16);
    constructor!(u64, u64, DType::U64);
    constructor!(f16, f16, DType::F16);
    constructor!(f32, f32, DType::F32);

    /// A flag: a scalar 0 or 1.
    pub fn flag(value: bool) -> Self {
        Self::u8(&[], &[value as u8])
    }

    /// A scalar float.
    pub fn scalar(value: f32) -> Self {
        Self::f32(&[], &[value])
    }

    /// Zeros of a shape.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Self {
        Self { dtype, shape: shape.to_vec(), bytes: vec![0; shape.iter().product::<usize>() * dtype.size()] }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Elements as their own type; copies, since the bytes need not be aligned. Panics if `T` is not the element type's size.
    pub fn values<T: Pod>(&self) -> Vec<T> {
        assert_eq!(size_of::<T>(), self.dtype.size(), "wrong element type for {:?}", self.dtype);
        bytemuck::allocation::pod_collect_to_vec(&self.bytes)
    }

    /// Elements of any type as floats.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.elements());
        self.to_f32_in(&mut out);
        out
    }

    /// [`Array::to_f32`] into a buffer, to be used again.
    pub fn to_f32_in(&self, out: &mut Vec<f32>) {
        fn number<const N: usize>(bytes: &[u8], out: &mut Vec<f32>, number: impl Fn([u8; N]) -> f32) {
            out.extend(bytes.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)));
        }
        out.clear();
        match self.dtype {
            DType::U8 => number(&self.bytes, out, |[byte]| byte as f32),
            DType::U16 => number(&self.bytes, out, |bytes| u16::from_le_bytes(bytes) as f32),
            DType::I32 => number(&self.bytes, out, |bytes| i32::from_le_bytes(bytes) as f32),
            DType::U64 => number(&self.bytes, out, |bytes| u64::from_le_bytes(bytes) as f32),
            DType::F16 => number(&self.bytes, out, |bytes| f16::from_le_bytes(bytes).to_f32()),
            DType::F32 => number(&self.bytes, out, f32::from_le_bytes),
        }
    }

    /// The array as a float32 tensor on the CPU.
    pub fn to_tensor(&self) -> candle_core::Result<Tensor> {
        Tensor::from_vec(self.to_f32(), self.shape.as_slice(), &Device::Cpu)
    }

    /// Stack arrays of one shape and type along a new first axis; panics if they differ.
    pub fn stack(items: &[&Array]) -> Self {
        let first = items.first().expect("stack needs at least one array");
        let mut bytes = Vec::with_capacity(first.bytes.len() * items.len());
        for item in items {
            assert!(item.dtype == first.dtype && item.shape == first.shape, "stack of unlike arrays");
            bytes.extend_from_slice(&item.bytes);
        }
        let shape = std::iter::once(items.len()).chain(first.shape.iter().copied()).collect();
        Self { dtype: first.dtype, shape, bytes }
    }

    /// Bytes of one row along the first axis; panics if there is no such row.
    pub fn row(&self, row: usize) -> &[u8] {
        &self.bytes[self.place(row)]
    }

    /// [`Array::row`], to be changed.
    pub fn row_mut(&mut self, row: usize) -> &mut [u8] {
        let place = self.place(row);
        &mut self.bytes[place]
    }

    /// Some rows along the first axis, in a row; panics if one is not there.
    pub fn rows(&self, rows: Range<usize>) -> Self {
        let shape = std::iter::once(rows.len()).chain(self.shape[1..].iter().copied()).collect();
        let width = self.width();
        Self { dtype: self.dtype, shape, bytes: self.bytes[rows.start * width..rows.end * width].to_vec() }
    }

    /// Become these rows of an array of the same type and width, in their order. Room that was made once is used again.
    pub fn gather(&mut self, all: &Self, rows: &[usize]) {
        self.bytes.clear();
        rows.iter().for_each(|&row| self.bytes.extend_from_slice(all.row(row)));
        self.shape[0] = rows.len();
    }

    /// Put all rows back where [`Array::gather`] takes them.
    pub fn scatter(&self, all: &mut Self, rows: &[usize]) {
        rows.iter().enumerate().for_each(|(from, &to)| all.row_mut(to).copy_from_slice(self.row(from)));
    }

    /// Index of the first element that is infinite or not a number; none in arrays of whole numbers.
    pub fn first_non_finite(&self) -> Option<usize> {
        const HALF: u32 = 0x7c00;
        match self.dtype {
            DType::F32 => first_full(self.bytes.as_chunks().0, exponent, EXPONENT),
            DType::F16 => first_full(self.bytes.as_chunks().0, |x| u32::from(u16::from_le_bytes(x)) & HALF, HALF),
            DType::U8 | DType::I32 | DType::U16 | DType::U64 => None,
        }
    }

    fn place(&self, row: usize) -> Range<usize> {
        let width = self.width();
        row * width..(row + 1) * width
    }

    /// Bytes of a row.
    fn width(&self) -> usize {
        self.bytes.len() / self.shape[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_that_is_not_finite_is_found_wherever_it_is() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..40 {
                let mut values = [f32::MAX, -f32::MAX, 0.0, f32::MIN_POSITIVE].repeat(10);
                assert!(all_finite(&values) && Array::f32(&[40], &values).first_non_finite().is_none());
                values[at] = bad;
                values[39] = bad;
                assert!(!all_finite(&values));
                assert_eq!(Array::f32(&[8, 5], &values).first_non_finite(), Some(at));
                let halves: Vec<f16> = values.iter().map(|x| f16::from_f32(x.clamp(-6e4, 6e4) + (x - x))).collect();
                assert_eq!(Array::f16(&[40], &halves).first_non_finite(), Some(at));
            }
        }
        let [large, small] = [f16::MAX, f16::MIN_POSITIVE];
        assert_eq!(Array::f16(&[2], &[large, small]).first_non_finite(), None);
        assert_eq!(Array::u8(&[2], &[255, 255]).first_non_finite(), None, "whole numbers always are");
    }
}
