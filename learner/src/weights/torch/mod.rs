//! What `torch.save` writes: a pickle that says which tensors view which storages, and the storages beside it.

pub(super) mod old;
pub(super) mod zip;

use std::collections::BTreeMap;
use std::ops::Range;

use super::error::Problem;
use super::tensor::{Element, Layout, MOST, NAME, Place, Tensor, fits};
use crate::pickle::{Storage, Value, View};

/// Most dicts inside each other that are looked into.
const DEPTH: usize = 16;

/// Finds the bytes of storages.
trait Storages {
    fn find(&mut self, storage: &Storage) -> Result<Range<usize>, Problem>;
}

/// The tensors below a dict, by the keys on the way.
fn tensors(value: Value, storages: &mut impl Storages) -> Result<BTreeMap<String, Tensor>, Problem> {
    let mut walk = Walk { storages, entries: 0, tensors: BTreeMap::new() };
    if value.pairs().is_none() {
        return Err(Problem::refused("it holds no dict of tensors", "save model.state_dict()"));
    }
    walk.dict("", value, 0)?;
    Ok(walk.tensors)
}

struct Walk<'a, S> {
    storages: &'a mut S,
    entries: usize,
    tensors: BTreeMap<String, Tensor>,
}

impl<S: Storages> Walk<'_, S> {
    fn dict(&mut self, before: &str, dict: Value, depth: usize) -> Result<(), Problem> {
        let Some(pairs) = dict.pairs() else { return Ok(()) };
        self.entries = self.entries.saturating_add(pairs.len());
        // The same dict may be in many places.
        if self.entries > MOST || depth > DEPTH {
            return Err(Problem::damaged("its dicts hold too many others"));
        }
        // Of several entries with one key, the last counts, as in Python.
        let entries: BTreeMap<String, Value> = pairs.filter_map(|(key, value)| Some((key_of(key)?, value))).collect();
        for (key, value) in entries {
            let name = if before.is_empty() { key } else { format!("{before}.{key}") };
            if name.len() > NAME {
                return Err(Problem::damaged(format!("a name of {} bytes", name.len())));
            }
            match value.tensor() {
                Some((view, storage)) => self.tensor(name, view, storage)?,
                None => self.dict(&name, value, depth + 1)?,
            }
        }
        Ok(())
    }

    fn tensor(&mut self, name: String, view: &View, storage: &Storage) -> Result<(), Problem> {
        let tensor = tensor(view, storage, self.storages.find(storage)?);
        let tensor = tensor.ok_or_else(|| {
            let shape = &view.shape[..view.shape.len().min(8)];
            let what =
                format!("tensor `{name}` of shape {shape:?} reaches beyond its storage, or repeats elements of it");
            Problem::refused(what, "save it with .contiguous(), or fetch the file again")
        })?;
        match self.tensors.insert(name.clone(), tensor) {
            None => Ok(()),
            Some(_) => Err(Problem::damaged(format!("two tensors have the name `{name}`"))),
        }
    }
}

fn key_of(key: Value) -> Option<String> {
    // A longer one is refused anyway, and should not be copied.
    let text = key.text().map(|text| text.get(..NAME + 1).unwrap_or(text).to_string());
    text.or_else(|| key.integer().map(|number| number.to_string()))
}

/// None if the view reaches beyond the bytes of its storage.
fn tensor(view: &View, storage: &Storage, mut range: Range<usize>) -> Option<Tensor> {
    let (mut element, mut size) = class(storage.class);
    if let Some(dtype) = &view.dtype {
        (element, size) = of_dtype(dtype);
    }
    if let Some((start, length)) = storage.part {
        let from = range.start.checked_add(start.checked_mul(size)?)?;
        let to = from.checked_add(length.checked_mul(size)?)?;
        range = (to <= range.end).then_some(from..to)?;
    }
    let layout = Layout::Strided { offset: view.offset, strides: view.strides.clone() };
    let available = range.len() / size;
    let tensor = Tensor {
        dtype: view.dtype.clone().unwrap_or_else(|| storage.class.to_string()),
        element,
        shape: view.shape.clone(),
        place: Place::Bytes { source: 0, range },
        layout,
    };
    fits(&tensor.shape, &tensor.layout, available).then(|| tensor.by_rows(size))
}

impl Tensor {
    /// Its elements as one block of bytes, where they are one.
    fn by_rows(mut self, size: usize) -> Self {
        let Layout::Strided { offset, strides } = &self.layout else { return self };
        let mut wanted = 1;
        for (side, stride) in self.shape.iter().zip(strides).rev() {
            if *side != 1 && *stride != wanted {
                return self;
            }
            wanted *= side;
        }
        if let Place::Bytes { range, .. } = &mut self.place {
            // A tensor without elements may begin anywhere.
            let start = if wanted == 0 { range.start } else { range.start + offset * size };
            *range = start..start + wanted * size;
            self.layout = Layout::Rows;
        }
        self
    }
}

/// Element type of a class of storages, and its size.
fn class(name: &str) -> (Option<Element>, usize) {
    match name {
        "FloatStorage" => (Some(Element::F32), 4),
        "HalfStorage" => (Some(Element::F16), 2),
        "BFloat16Storage" => (Some(Element::BF16), 2),
        "DoubleStorage" => (Some(Element::F64), 8),
        "LongStorage" | "ComplexFloatStorage" => (None, 8),
        "IntStorage" | "QInt32Storage" => (None, 4),
        "ShortStorage" => (None, 2),
        "ComplexDoubleStorage" => (None, 16),
        _ => (None, 1),
    }
}

fn of_dtype(name: &str) -> (Option<Element>, usize) {
    match name.trim_start_matches("torch.") {
        "float32" => (Some(Element::F32), 4),
        "float16" => (Some(Element::F16), 2),
        "bfloat16" => (Some(Element::BF16), 2),
        "float64" => (Some(Element::F64), 8),
        "complex128" => (None, 16),
        "int64" | "uint64" | "complex64" => (None, 8),
        "int32" | "uint32" | "complex32" => (None, 4),
        "int16" | "uint16" => (None, 2),
        _ => (None, 1),
    }
}

/// Refuses storages whose numbers have their largest byte first.
fn little_endian(little: bool) -> Result<(), Problem> {
    match little {
        true => Ok(()),
        false => Err(Problem::refused(
            "its numbers have the largest byte first",
            "load it with PyTorch and save it again on a machine that has the smallest first",
        )),
    }
}
