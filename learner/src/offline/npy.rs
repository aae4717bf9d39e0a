//! Arrays as NumPy writes them: a header in Python's notation, then the numbers.
//!
//! The crates for this format bring a grammar of Python's literals; the headers that NumPy itself writes need none.

use std::io::Read;

/// Longest header that is read, bytes; NumPy's own have a hundred.
const LONGEST: usize = 1 << 16;
/// Largest array that is read, bytes.
const LARGEST: usize = 1 << 33;

/// Types of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    F32,
    F64,
}

/// Names in headers, little-endian or of one byte.
const KINDS: [(&str, Kind, usize); 12] = [
    ("|b1", Kind::Bool, 1),
    ("|i1", Kind::I8, 1),
    ("<i2", Kind::I16, 2),
    ("<i4", Kind::I32, 4),
    ("<i8", Kind::I64, 8),
    ("|u1", Kind::U8, 1),
    ("<u2", Kind::U16, 2),
    ("<u4", Kind::U32, 4),
    ("<u8", Kind::U64, 8),
    ("<f2", Kind::F16, 2),
    ("<f4", Kind::F32, 4),
    ("<f8", Kind::F64, 8),
];

/// An array, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Npy {
    /// Type of its numbers.
    pub kind: Kind,
    /// Outermost axis first.
    pub shape: Vec<usize>,
    /// The numbers, little-endian.
    pub bytes: Vec<u8>,
}

impl Npy {
    /// Read one to its end; what is wrong with it otherwise.
    pub fn read(mut from: impl Read) -> Result<Self, String> {
        let header = read_header(&mut from)?;
        let (kind, width) = kind(&header)?;
        if value(&header, "fortran_order")?.starts_with("True") {
            return Err("is stored column by column; store np.ascontiguousarray of it".into());
        }
        let shape = shape(value(&header, "shape")?)?;
        let size = shape.iter().try_fold(width, |n, side| n.checked_mul(*side)).filter(|size| *size <= LARGEST);
        let size = size.ok_or_else(|| format!("has the shape {shape:?}, more than {LARGEST} bytes"))?;
        let mut bytes = Vec::new();
        // One byte more than there should be: archives check their checksums only where they are read to the end.
        from.take(size as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() != size {
            let found = if bytes.len() > size { "more".into() } else { bytes.len().to_string() };
            return Err(format!("has the shape {shape:?}, which takes {size} bytes; there are {found}"));
        }
        Ok(Self { kind, shape, bytes })
    }

    /// The numbers. Integers beyond 2^53 are rounded.
    pub fn numbers(&self) -> Vec<f64> {
        fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect()
        }
        let bytes = &self.bytes;
        match self.kind {
            Kind::Bool | Kind::U8 => each(bytes, |[byte]| byte.into()),
            Kind::I8 => each(bytes, |byte| i8::from_le_bytes(byte).into()),
            Kind::I16 => each(bytes, |bytes| i16::from_le_bytes(bytes).into()),
            Kind::I32 => each(bytes, |bytes| i32::from_le_bytes(bytes).into()),
            Kind::I64 => each(bytes, |bytes| i64::from_le_bytes(bytes) as f64),
            Kind::U16 => each(bytes, |bytes| u16::from_le_bytes(bytes).into()),
            Kind::U32 => each(bytes, |bytes| u32::from_le_bytes(bytes).into()),
            Kind::U64 => each(bytes, |bytes| u64::from_le_bytes(bytes) as f64),
            Kind::F16 => each(bytes, |bytes| half::f16::from_le_bytes(bytes).into()),
            Kind::F32 => each(bytes, |bytes| f32::from_le_bytes(bytes).into()),
            Kind::F64 => each(bytes, f64::from_le_bytes),
        }
    }

    /// Whether its numbers have a fraction.
    pub fn is_float(&self) -> bool {
        matches!(self.kind, Kind::F16 | Kind::F32 | Kind::F64)
    }
}

/// The text of the header.
fn read_header(from: &mut impl Read) -> Result<String, String> {
    let mut take = |count: usize| {
        let mut bytes = vec![0; count];
        from.read_exact(&mut bytes).map(|()| bytes).map_err(|error| format!("is cut short in its header: {error}"))
    };
    let start = take(8)?;
    if &start[..6] != b"\x93NUMPY" {
        return Err("is not an array of NumPy".into());
    }
    let length = match start[6] {
        1 => take(2)?.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)),
        2 | 3 => take(4)?.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)),
        other => return Err(format!("has version {other} of NumPy's format; 1 to 3 are known")),
    };
    if length > LONGEST {
        return Err(format!("has a header of {length} bytes, more than {LONGEST}"));
    }
    String::from_utf8(take(length)?).map_err(|_| "has a header that is not text".into())
}

/// What follows a key of the header.
fn value<'a>(header: &'a str, key: &str) -> Result<&'a str, String> {
    let rest = header.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
    rest.ok_or_else(|| format!("has a header without `{key}`"))
}

fn kind(header: &str) -> Result<(Kind, usize), String> {
    let descr = value(header, "descr")?;
    let name = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(name, _)| name);
    let found = KINDS.iter().find(|(known, ..)| Some(*known) == name).map(|(_, kind, width)| (*kind, *width));
    let known = KINDS.map(|(name, ..)| name).join(", ");
    found.ok_or_else(|| format!("has the type {}; these are read: {known}", name.unwrap_or("of a record")))
}

/// A tuple of numbers.
fn shape(text: &str) -> Result<Vec<usize>, String> {
    let inside = text.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(inside, _)| inside);
    let sides = inside.map(|inside| inside.split(',').map(str::trim).filter(|side| !side.is_empty()));
    let sides = sides.and_then(|sides| sides.map(|side| side.parse().ok()).collect::<Option<Vec<usize>>>());
    sides.ok_or_else(|| "has a header without a shape".into())
}
