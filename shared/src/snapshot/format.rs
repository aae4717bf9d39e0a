//! The region of one published snapshot: header, table, float32 data. Written once, never again; a reader proves with the
//! header that it is whole. The same format, with version 0, carries a frozen encoder.
//!
//! ```text
//! header  128 bytes: magic, format, tensors, fingerprint, version, update, published, length, table length,
//!         checksum of everything behind the header, zeros, checksum of the header
//! table   per tensor: path length u32, path, dimensions u32, each dimension u64, offset u64
//! data    float32, each tensor at a multiple of 64 bytes from the start
//! ```
//! All numbers are little-endian.

use xxhash_rust::xxh3::xxh3_64;

use crate::params::{Mapped, Region, Weight, layout_hash};

/// First bytes of every region.
pub const MAGIC: &[u8; 8] = b"LUCIDSNP";
/// Version of this format.
pub const FORMAT: u32 = 1;
/// Bytes of the header.
pub const HEADER: usize = 128;
/// Where tensors may start.
const ALIGN: usize = 64;
/// Most tensors in a region.
pub const MAX_TENSORS: usize = 1 << 16;
/// Longest path, in bytes.
pub const MAX_PATH: usize = 1024;
/// Most dimensions of a tensor.
pub const MAX_DIMS: usize = 8;

/// Why bytes are no snapshot, or parameters cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Other bytes.
    #[error("snapshot region does not start with the magic bytes; it is not a snapshot")]
    Magic,
    /// Written by another version of Lucid.
    #[error("snapshot format {found}, but this program reads {FORMAT}; run the same version of Lucid everywhere")]
    Format {
        /// Format in the header.
        found: u32,
    },
    /// Shorter or longer than the header says, or than a header.
    #[error("snapshot region has {found} bytes, but {wanted} were expected; it is cut short or padded")]
    Length {
        /// Bytes of the region.
        found: usize,
        /// Bytes expected.
        wanted: u64,
    },
    /// Changed after it was written.
    #[error("checksum of the snapshot's {part} does not match; the region was changed or not fully written")]
    Checksum {
        /// `header` or `body`.
        part: &'static str,
    },
    /// Paths and shapes are not those of the header's fingerprint.
    #[error("layout fingerprint of the snapshot is {found:016x}, but its header says {recorded:016x}")]
    Fingerprint {
        /// Over the table.
        found: u64,
        /// In the header.
        recorded: u64,
    },
    /// A table that does not make sense, or is above a limit.
    #[error("snapshot table, tensor {index}: {what}")]
    Table {
        /// Index of the entry.
        index: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A value that no policy should act with.
    #[error("`{path}` has a value that is not finite")]
    NotFinite {
        /// Path of the parameter.
        path: String,
    },
    /// The system gives no shared memory for it.
    #[error("no shared memory for a snapshot: {message}; is there memory left, and may this process open more files?")]
    Memory {
        /// From the system.
        message: String,
    },
    /// A parameter's values cannot be read.
    #[error("snapshot of `{path}`: {message}")]
    Values {
        /// Path of the parameter.
        path: String,
        /// From candle.
        message: String,
    },
}

/// What a publisher says about a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Version: raised by one at each publish; 0 for a frozen encoder.
    pub version: u64,
    /// Learner updates made when it was taken.
    pub update: u64,
    /// Time of publication, nanoseconds since 1970.
    pub published: u64,
}

/// Where everything goes, before anything is written.
struct Plan<'a> {
    params: Vec<(&'a str, &'a Weight, usize)>,
    table: Vec<u8>,
    length: usize,
}

impl<'a> Plan<'a> {
    fn new(params: &'a [(String, Weight)]) -> Result<Self, FormatError> {
        let mut sorted: Vec<_> = params.iter().map(|(path, weight)| (path.as_str(), weight)).collect();
        sorted.sort_by_key(|(path, _)| *path);
        check(sorted.len() <= MAX_TENSORS, sorted.len(), "too many tensors")?;
        let table_len: usize = sorted.iter().map(|(path, w)| 16 + path.len() + 8 * w.shape().len()).sum();
        let mut at = (HEADER + table_len).next_multiple_of(ALIGN);
        let mut plan =
            Self { params: Vec::with_capacity(sorted.len()), table: Vec::with_capacity(table_len), length: at };
        for (index, (path, weight)) in sorted.into_iter().enumerate() {
            let repeated = plan.params.last().is_some_and(|(last, ..)| *last == path);
            check(!repeated, index, "its path appears twice")?;
            check(!path.is_empty() && path.len() <= MAX_PATH, index, "its path is empty or too long")?;
            check(weight.shape().len() <= MAX_DIMS, index, "it has too many dimensions")?;
            plan.table.extend_from_slice(&(path.len() as u32).to_le_bytes());
            plan.table.extend_from_slice(path.as_bytes());
            plan.table.extend_from_slice(&(weight.shape().len() as u32).to_le_bytes());
            weight.shape().iter().for_each(|&d| plan.table.extend_from_slice(&(d as u64).to_le_bytes()));
            plan.table.extend_from_slice(&(at as u64).to_le_bytes());
            plan.params.push((path, weight, at));
            at = (at + 4 * weight.shape().iter().product::<usize>()).next_multiple_of(ALIGN);
        }
        plan.length = at;
        Ok(plan)
    }

    /// Everything but the header, which is zeros.
    fn write(&self) -> Result<Vec<u8>, FormatError> {
        let mut out = Vec::with_capacity(self.length);
        out.resize(HEADER, 0);
        out.extend_from_slice(&self.table);
        for (path, weight, at) in &self.params {
            out.resize(*at, 0);
            let copied = weight.with_values(|values| out.extend_from_slice(bytemuck::cast_slice(values)));
            copied.map_err(|e| FormatError::Values { path: path.to_string(), message: e.to_string() })?;
        }
        out.resize(self.length, 0);
        Ok(out)
    }
}

/// A copy of parameters, laid out as a snapshot that lacks its header.
pub struct Draft {
    bytes: Vec<u8>,
    tensors: u32,
    table: u64,
    fingerprint: u64,
}

impl Draft {
    /// Copies the values. The order of the parameters does not matter.
    pub fn new(params: &[(String, Weight)]) -> Result<Self, FormatError> {
        let plan = Plan::new(params)?;
        let fingerprint = layout_hash(plan.params.iter().map(|(path, weight, _)| (*path, weight.shape())));
        let (tensors, table) = (plan.params.len() as u32, plan.table.len() as u64);
        Ok(Self { bytes: plan.write()?, tensors, table, fingerprint })
    }

    /// The snapshot as plain bytes.
    pub fn seal(mut self, header: &SnapshotHeader) -> Vec<u8> {
        let length = self.bytes.len() as u64;
        let (head, body) = self.bytes.split_at_mut(HEADER);
        head[..8].copy_from_slice(MAGIC);
        head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        head[12..16].copy_from_slice(&self.tensors.to_le_bytes());
        let SnapshotHeader { version, update, published } = *header;
        let words = [self.fingerprint, version, update, published, length, self.table, xxh3_64(body)];
        head[16..72].copy_from_slice(bytemuck::cast_slice(&words));
        let sum = xxh3_64(&head[..HEADER - 8]);
        head[HEADER - 8..].copy_from_slice(&sum.to_le_bytes());
        self.bytes
    }
}

/// A snapshot as plain bytes.
pub fn encode(header: &SnapshotHeader, params: &[(String, Weight)]) -> Result<Vec<u8>, FormatError> {
    Ok(Draft::new(params)?.seal(header))
}

/// A verified snapshot; tensors are views into its region.
#[derive(Clone, Debug)]
pub struct SnapshotView {
    header: SnapshotHeader,
    fingerprint: u64,
    bytes: usize,
    tensors: Vec<(String, Mapped)>,
}

impl SnapshotView {
    /// Verify magic, format, length, both checksums, every bound and the fingerprint, then map the tensors in place. Reads
    /// every byte once.
    pub fn open(region: Region) -> Result<Self, FormatError> {
        Self::read(region, true)
    }

    /// [`Self::open`] for a region whose values may have been altered: the checksum of the body is not compared, so that digests
    /// can tell which tensor it was.
    pub fn open_altered(region: Region) -> Result<Self, FormatError> {
        Self::read(region, false)
    }

    fn read(region: Region, whole: bool) -> Result<Self, FormatError> {
        let bytes: &[u8] = (*region).as_ref();
        let head: &[u8; HEADER] =
            bytes.first_chunk().ok_or(FormatError::Length { found: bytes.len(), wanted: HEADER as u64 })?;
        let count = check_head(head)?;
        let [fingerprint, version, update, published, length, table, body] = words(head);
        if length != bytes.len() as u64 {
            return Err(FormatError::Length { found: bytes.len(), wanted: length });
        }
        if whole && xxh3_64(&bytes[HEADER..]) != body {
            return Err(FormatError::Checksum { part: "body" });
        }
        check(count <= MAX_TENSORS, count, "too many tensors")?;
        let tensors = Table::new(&region, table, count)?.read()?;
        let found = layout_hash(tensors.iter().map(|(path, mapped)| (path.as_str(), mapped.shape())));
        if found != fingerprint {
            return Err(FormatError::Fingerprint { found, recorded: fingerprint });
        }
        let header = SnapshotHeader { version, update, published };
        Ok(Self { header, fingerprint, bytes: bytes.len(), tensors })
    }

    /// Version, update and time of publication.
    pub fn header(&self) -> SnapshotHeader {
        self.header
    }

    /// Version; 0 for a frozen encoder.
    pub fn version(&self) -> u64 {
        self.header.version
    }

    /// Learner updates made when it was taken.
    pub fn update(&self) -> u64 {
        self.header.update
    }

    /// Time of publication, nanoseconds since 1970.
    pub fn published(&self) -> u64 {
        self.header.published
    }

    /// Layout fingerprint, as [`crate::params::fingerprint`] gives it.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Bytes of the region.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Paths and tensors, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Mapped)> {
        self.tensors.iter().map(|(path, mapped)| (path.as_str(), mapped))
    }
}

fn check_head(head: &[u8; HEADER]) -> Result<usize, FormatError> {
    if &head[..8] != MAGIC {
        return Err(FormatError::Magic);
    }
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if number(8) != FORMAT {
        return Err(FormatError::Format { found: number(8) });
    }
    if head.last_chunk() != Some(&xxh3_64(&head[..HEADER - 8]).to_le_bytes()) {
        return Err(FormatError::Checksum { part: "header" });
    }
    Ok(number(12) as usize)
}

fn words(head: &[u8; HEADER]) -> [u64; 7] {
    std::array::from_fn(|i| {
        let mut word = [0; 8];
        word.copy_from_slice(&head[16 + 8 * i..24 + 8 * i]);
        u64::from_le_bytes(word)
    })
}

fn check(holds: bool, index: usize, what: &'static str) -> Result<(), FormatError> {
    if holds { Ok(()) } else { Err(FormatError::Table { index, what }) }
}

/// Reads the table entry by entry; trusts no number in it.
struct Table<'a> {
    region: &'a Region,
    rest: &'a [u8],
    count: usize,
    index: usize,
    /// End of the last tensor: the next one starts behind it.
    end: usize,
}

impl<'a> Table<'a> {
    fn new(region: &'a Region, length: u64, count: usize) -> Result<Self, FormatError> {
        let body: &[u8] = &(**region).as_ref()[HEADER..];
        let rest = usize::try_from(length).ok().and_then(|n| body.get(..n));
        let rest = rest.ok_or(FormatError::Table { index: 0, what: "the table is longer than the region" })?;
        Ok(Self { region, rest, count, index: 0, end: HEADER + rest.len() })
    }

    fn read(mut self) -> Result<Vec<(String, Mapped)>, FormatError> {
        let mut tensors: Vec<(String, Mapped)> = Vec::new();
        while self.index < self.count {
            let (path, mapped) = self.entry()?;
            self.check(tensors.last().is_none_or(|(last, _)| *last < path), "paths are not in order")?;
            tensors.push((path, mapped));
            self.index += 1;
        }
        self.check(self.rest.is_empty(), "the table has more bytes than tensors")?;
        Ok(tensors)
    }

    fn entry(&mut self) -> Result<(String, Mapped), FormatError> {
        let length = self.u32()?;
        self.check((1..=MAX_PATH).contains(&length), "its path is empty or too long")?;
        let path = str::from_utf8(self.take(length)?).map(str::to_string).ok();
        let path = path.ok_or(FormatError::Table { index: self.index, what: "its path is no UTF-8" })?;
        let dims = self.u32()?;
        self.check(dims <= MAX_DIMS, "it has too many dimensions")?;
        let shape = (0..dims).map(|_| self.u64()).collect::<Result<Vec<_>, _>>()?;
        let offset = self.u64()?;
        self.check(offset >= self.end && offset.is_multiple_of(ALIGN), "its data overlaps or is not aligned")?;
        let mapped = Mapped::new(self.region.clone(), offset, &shape);
        let what = "its data lies outside of the region, or the region is not aligned to 4 bytes";
        let mapped = mapped.ok_or(FormatError::Table { index: self.index, what })?;
        self.end = offset + 4 * mapped.values().len();
        Ok((path, mapped))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], FormatError> {
        let cut = FormatError::Table { index: self.index, what: "the table ends within it" };
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(cut)?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<usize, FormatError> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | b as usize))
    }

    fn u64(&mut self) -> Result<usize, FormatError> {
        let bytes = self.take(8)?;
        Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | b as usize))
    }

    fn check(&self, holds: bool, what: &'static str) -> Result<(), FormatError> {
        check(holds, self.index, what)
    }
}

#[cfg(test)]
mod tests;
