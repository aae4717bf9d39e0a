//! One tensor: where its elements lie and how they become f32.

use std::ops::Range;

use half::{bf16, f16};

use super::error::Problem;

/// Most axes of a tensor, as in PyTorch and NumPy.
pub(super) const AXES: usize = 64;
/// Most tensors of a file that can name one again and again.
pub(super) const MOST: usize = 1 << 16;
/// Longest name of a tensor, in bytes.
pub(super) const NAME: usize = 512;

/// An element type that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F64,
    F32,
    F16,
    BF16,
}

impl Element {
    pub fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// The element at an index of little-endian bytes that are long enough.
    fn at(self, bytes: &[u8], index: usize) -> f32 {
        let bytes = &bytes[index * self.size()..];
        let read = match self {
            Self::F64 => bytes.first_chunk().map(|b| f64::from_le_bytes(*b) as f32),
            Self::F32 => bytes.first_chunk().map(|b| f32::from_le_bytes(*b)),
            Self::F16 => bytes.first_chunk().map(|b| f16::from_le_bytes(*b).to_f32()),
            Self::BF16 => bytes.first_chunk().map(|b| bf16::from_le_bytes(*b).to_f32()),
        };
        read.expect("the bytes were measured when the file was opened")
    }
}

/// Where the elements lie.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Little-endian elements in a part of a source.
    Bytes { source: usize, range: Range<usize> },
    /// Number fields of an ONNX tensor; the part is its message.
    Fields { source: usize, range: Range<usize> },
}

impl Place {
    pub fn source_mut(&mut self) -> &mut usize {
        match self {
            Self::Bytes { source, .. } | Self::Fields { source, .. } => source,
        }
    }

    pub fn source(&self) -> usize {
        match self {
            Self::Bytes { source, .. } | Self::Fields { source, .. } => *source,
        }
    }
}

/// A tensor of a file.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// Element type as the file calls it.
    pub dtype: String,
    /// None if it is not read.
    pub element: Option<Element>,
    pub shape: Vec<usize>,
    pub place: Place,
    pub layout: Layout,
}

/// Which elements of its place a tensor has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// All, row by row.
    Rows,
    /// Some, or in another order: the first, and the way from one index to the next for each axis.
    Strided { offset: usize, strides: Vec<usize> },
}

/// Elements of a shape; none if there are more than can be counted.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, side| n.checked_mul(*side))
}

/// Whether all elements of a layout are among `available` ones. More elements than there are in the place are refused: such a
/// tensor repeats them, and could be of any size.
pub(super) fn fits(shape: &[usize], layout: &Layout, available: usize) -> bool {
    let Some(count) = elements(shape).filter(|_| shape.len() <= AXES) else { return false };
    match layout {
        Layout::Rows => count == available,
        Layout::Strided { strides, .. } if strides.len() != shape.len() => false,
        Layout::Strided { .. } if count == 0 => true,
        Layout::Strided { offset, strides } => {
            let way = |at: usize, (side, stride): (&usize, &usize)| at.checked_add((side - 1).checked_mul(*stride)?);
            let last = shape.iter().zip(strides).try_fold(*offset, way);
            count <= available && last.is_some_and(|last| last < available)
        }
    }
}

impl Tensor {
    /// [in, out] to [out, in], by another way through the same elements; anything but a matrix stays.
    pub fn transposed(mut self) -> Self {
        if let ([rows, cols], Layout::Rows) = (&self.shape[..], &self.layout) {
            self.layout = Layout::Strided { offset: 0, strides: vec![1, *cols] };
            self.shape = vec![*cols, *rows];
        }
        self
    }

    /// The values, row by row, of elements that lie in these bytes.
    pub fn of_bytes(&self, bytes: &[u8], element: Element) -> Vec<f32> {
        match &self.layout {
            Layout::Rows => (0..bytes.len() / element.size()).map(|i| element.at(bytes, i)).collect(),
            Layout::Strided { offset, strides } => {
                gather(&self.shape, *offset, strides, |index| element.at(bytes, index))
            }
        }
    }

    /// [`Self::of_bytes`] for elements that were decoded; their number is checked only here.
    pub fn of_numbers(&self, numbers: Vec<f32>) -> Result<Vec<f32>, Problem> {
        if !fits(&self.shape, &self.layout, numbers.len()) {
            let what = format!("a tensor of shape {:?} with {} numbers", self.shape, numbers.len());
            return Err(Problem::damaged(what));
        }
        Ok(match &self.layout {
            Layout::Rows => numbers,
            Layout::Strided { offset, strides } => gather(&self.shape, *offset, strides, |index| numbers[index]),
        })
    }
}

/// Elements row by row, wherever they are.
fn gather(shape: &[usize], offset: usize, strides: &[usize], at: impl Fn(usize) -> f32) -> Vec<f32> {
    let count = elements(shape).unwrap_or(0);
    let mut values = Vec::with_capacity(count);
    let (Some((&row, outer)), Some((&step, ways))) = (shape.split_last(), strides.split_last()) else {
        return vec![at(offset)];
    };
    let (mut index, mut start) = (vec![0; outer.len()], offset);
    while values.len() < count {
        values.extend((0..row).map(|i| at(start + i * step)));
        for axis in (0..outer.len()).rev() {
            index[axis] += 1;
            start += ways[axis];
            if index[axis] < outer[axis] {
                break;
            }
            start -= ways[axis] * outer[axis];
            index[axis] = 0;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_layouts_stay_inside() {
        let strided = |offset, strides: &[usize]| Layout::Strided { offset, strides: strides.to_vec() };
        let cases: [(&[usize], Layout, usize, bool); 10] = [
            (&[2, 3], Layout::Rows, 6, true),
            (&[2, 3], Layout::Rows, 7, false),
            (&[2, 3], strided(0, &[1, 2]), 6, true),
            (&[2, 3], strided(1, &[1, 2]), 6, false),
            (&[2, 3], strided(0, &[3]), 6, false),
            (&[], strided(5, &[]), 6, true),
            (&[], strided(6, &[]), 6, false),
            (&[0, usize::MAX], strided(9, &[1, 1]), 0, true),
            (&[usize::MAX, 2], strided(0, &[0, 0]), 9, false),
            (&[10], strided(0, &[0]), 9, false),
        ];
        for (shape, layout, available, fit) in cases {
            assert_eq!(fits(shape, &layout, available), fit, "{shape:?} {layout:?} {available}");
        }
        assert!(!fits(&[2, 2], &strided(0, &[usize::MAX, 2]), 9));
    }

    #[test]
    fn weights_are_gathered_in_any_order() {
        let at = |index| index as f32;
        assert_eq!(gather(&[3, 2], 0, &[1, 3], at), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(gather(&[2, 2, 2], 1, &[12, 6, 2], at), [1.0, 3.0, 7.0, 9.0, 13.0, 15.0, 19.0, 21.0]);
        assert_eq!(gather(&[], 4, &[], at), [4.0]);
        assert_eq!(gather(&[2, 0], 4, &[1, 1], at), [0.0; 0]);
    }
}
