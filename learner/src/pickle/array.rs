//! NumPy arrays as a pickle holds them.

use shared::array::{Array, DType};

/// Element type: NumPy's letter (`f` float, `i` integer, `u` unsigned, `b` flag) and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    kind: char,
    size: usize,
}

impl Element {
    /// From NumPy's name, as in `f4`; none for types of other things than numbers.
    pub fn parse(name: &str) -> Option<Self> {
        let known = ["b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"];
        let (kind, size) = name.split_at_checked(1).filter(|_| known.contains(&name))?;
        Some(Self { kind: kind.chars().next()?, size: size.parse().ok()? })
    }
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}{}", self.kind, self.size)
    }
}

/// Most axes of an array, NumPy's own limit.
pub const AXES: usize = 64;

/// An array whose elements are still in the file.
#[derive(Debug)]
pub struct Stored<'a> {
    element: Element,
    shape: Vec<usize>,
    /// Whether the first axis is the one that runs fastest.
    fortran: bool,
    bytes: &'a [u8],
}

impl<'a> Stored<'a> {
    /// None if the shape needs another number of bytes, or has more axes than NumPy allows.
    pub fn new(element: Element, shape: Vec<usize>, fortran: bool, bytes: &'a [u8]) -> Option<Self> {
        if shape.len() > AXES {
            return None;
        }
        let elements = shape.iter().try_fold(1usize, |n, side| n.checked_mul(*side))?;
        (elements.checked_mul(element.size)? == bytes.len()).then_some(Self { element, shape, fortran, bytes })
    }

    /// Bytes of all elements.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Element type by its NumPy name.
    pub fn element(&self) -> String {
        self.element.to_string()
    }

    /// A copy, row by row; none if Lucid has no such element type.
    pub fn to_array(&self) -> Option<Array> {
        let types = [DType::U8, DType::I32, DType::U64, DType::F16, DType::F32];
        let dtype = types.into_iter().find(|dtype| name(*dtype) == self.element())?;
        let bytes = if self.fortran { self.row_by_row() } else { self.bytes.to_vec() };
        Some(Array { dtype, shape: self.shape.clone(), bytes })
    }

    /// The value of an integer without axes.
    pub fn integer(&self) -> Option<i64> {
        if !self.shape.is_empty() || !['i', 'u'].contains(&self.element.kind) {
            return None;
        }
        let negative = self.element.kind == 'i' && self.bytes.last().is_some_and(|byte| byte >> 7 == 1);
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        wide[..self.bytes.len()].copy_from_slice(self.bytes);
        i128::from_le_bytes(wide).try_into().ok()
    }

    fn row_by_row(&self) -> Vec<u8> {
        let mut index = vec![0; self.shape.len()];
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for _ in 0..self.bytes.len() / self.element.size {
            let at = index.iter().zip(&self.shape).rev().fold(0, |at, (i, side)| at * side + i) * self.element.size;
            bytes.extend_from_slice(&self.bytes[at..at + self.element.size]);
            for (i, side) in index.iter_mut().zip(&self.shape).rev() {
                *i = (*i + 1) % side;
                if *i > 0 {
                    break;
                }
            }
        }
        bytes
    }
}

/// NumPy's name of an element type.
pub fn name(dtype: DType) -> &'static str {
    match dtype {
        DType::U8 => "u1",
        DType::U16 => "u2",
        DType::I32 => "i4",
        DType::U64 => "u8",
        DType::F16 => "f2",
        DType::F32 => "f4",
    }
}
