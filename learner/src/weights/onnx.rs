//! Initialisers of ONNX models (`onnx/onnx.proto`), the tensors that a model brings along.
//!
//! PyTorch's exporter keeps the names of most parameters, but kernels of linear layers become anonymous (`onnx::MatMul_9`) and
//! lie as [in, out]. The node that takes one says whose it is: `/encoder/fc1/MatMul` takes `encoder.fc1.weight`, which is then
//! given as [out, in], as PyTorch has it. Another anonymous tensor gets the path of its node: `/embeddings/Concat_6` takes
//! `embeddings.Concat_6`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use half::{bf16, f16};

use super::error::Problem;
use super::protobuf::{Malformed, Value, fields, varint};
use super::source::{Source, beside};
use super::tensor::{AXES, Element, Layout, MOST, Place, Tensor, elements};

/// How the names of tensors begin that PyTorch's exporter made up.
const ANONYMOUS: &str = "onnx::";

/// Whether bytes begin as a model does: the version of the format, then one of the fields that follow it.
pub(super) fn is(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.strip_prefix(b"\x08") else { return false };
    let version = varint(&mut rest);
    version.is_ok_and(|version| version < 1000)
        && rest.first().is_none_or(|tag| matches!(tag, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42 | 0x72))
}

/// The tensors of a model. Files with data of tensors that it refers to are added to `sources`.
pub(super) fn read(
    model: &Source,
    folder: Option<&Path>,
    sources: &mut Vec<Source>,
) -> Result<BTreeMap<String, Tensor>, Problem> {
    let mut reader = Reader { model, folder, sources, opened: HashMap::new(), tensors: BTreeMap::new() };
    let graphs = messages(model, 7)?;
    for graph in &graphs {
        for message in messages(graph, 5)? {
            reader.tensor(message)?;
        }
    }
    let mut named = Named::default();
    for graph in &graphs {
        for node in messages(graph, 1)? {
            named.node(node, &reader.tensors)?;
        }
    }
    Ok(named.finish(reader.tensors))
}

fn messages(message: &[u8], wanted: u64) -> Result<Vec<&[u8]>, Malformed> {
    let mut found = vec![];
    for field in fields(message) {
        if let (number, Value::Bytes(bytes)) = field?
            && number == wanted
        {
            found.push(bytes);
        }
    }
    Ok(found)
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed("a name that is not UTF-8"))
}

impl From<Malformed> for Problem {
    fn from(malformed: Malformed) -> Self {
        Self::Damaged(malformed.to_string())
    }
}

struct Reader<'a> {
    model: &'a Source,
    folder: Option<&'a Path>,
    sources: &'a mut Vec<Source>,
    /// Indices of the sources of other files, by name.
    opened: HashMap<String, usize>,
    tensors: BTreeMap<String, Tensor>,
}

/// The fields of a tensor that are looked at.
#[derive(Default)]
struct Fields<'a> {
    name: &'a str,
    shape: Vec<u64>,
    kind: u64,
    raw: Option<&'a [u8]>,
    outside: bool,
    /// Where data outside lie: file, first byte, bytes.
    external: BTreeMap<&'a str, &'a str>,
}

impl<'a> Fields<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Problem> {
        let mut read = Self::default();
        for field in fields(message) {
            match field? {
                (1, Value::Number(side)) => read.shape.push(side),
                (1, Value::Bytes(packed)) => read.packed_shape(packed)?,
                (2, Value::Number(kind)) => read.kind = kind,
                (8, Value::Bytes(bytes)) => read.name = text(bytes)?,
                (9, Value::Bytes(bytes)) => read.raw = Some(bytes),
                (13, Value::Bytes(entry)) => read.external_entry(entry)?,
                (14, Value::Number(place)) => read.outside = place == 1,
                _ => {}
            }
            if read.shape.len() > AXES {
                return Err(Problem::damaged("a tensor of more than 64 axes"));
            }
        }
        Ok(read)
    }

    fn packed_shape(&mut self, mut packed: &[u8]) -> Result<(), Problem> {
        while !packed.is_empty() && self.shape.len() <= AXES {
            self.shape.push(varint(&mut packed)?);
        }
        Ok(())
    }

    fn external_entry(&mut self, entry: &'a [u8]) -> Result<(), Problem> {
        let (mut key, mut value) = ("", "");
        for field in fields(entry) {
            match field? {
                (1, Value::Bytes(bytes)) => key = text(bytes)?,
                (2, Value::Bytes(bytes)) => value = text(bytes)?,
                _ => {}
            }
        }
        self.external.insert(key, value);
        Ok(())
    }

    fn number(&self, key: &str) -> Result<Option<usize>, Problem> {
        let wrong = |value: &&str| Problem::damaged(format!("tensor `{}` has the {key} {value:.64}", self.name));
        self.external.get(key).map(|value| value.parse().map_err(|_| wrong(value))).transpose()
    }
}

impl<'a> Reader<'a> {
    fn tensor(&mut self, message: &'a [u8]) -> Result<(), Problem> {
        let read = Fields::read(message)?;
        let (dtype, element) = kind(read.kind);
        let side = |side: &u64| usize::try_from(*side).ok();
        let shape: Option<Vec<usize>> = read.shape.iter().map(side).collect();
        let bytes = shape.as_deref().and_then(elements).and_then(|n| n.checked_mul(element.map_or(1, Element::size)));
        let Some((shape, bytes)) = shape.zip(bytes) else {
            return Err(Problem::damaged(format!("tensor `{}` of shape {:?}", read.name, first(&read.shape))));
        };
        let place = match read.raw {
            _ if element.is_none() => self.inside(message),
            _ if read.outside => self.outside(&read, bytes)?,
            Some(raw) => self.inside(raw),
            None => {
                let Place::Bytes { source, range } = self.inside(message) else { unreachable!("bytes lie inside") };
                Place::Fields { source, range }
            }
        };
        if let (Some(_), Place::Bytes { range, .. }) = (element, &place)
            && range.len() != bytes
        {
            let (name, shape) = (read.name, first(&read.shape));
            let what = format!("tensor `{name}` of shape {shape:?} has {} bytes", range.len());
            return Err(Problem::damaged(what));
        }
        let tensor = Tensor { dtype, element, shape, place, layout: Layout::Rows };
        match self.tensors.insert(read.name.to_string(), tensor) {
            None => Ok(()),
            Some(_) => Err(Problem::damaged(format!("two tensors have the name `{}`", read.name))),
        }
    }

    /// A part of the model's own bytes.
    fn inside(&self, part: &[u8]) -> Place {
        let start = part.as_ptr().addr() - self.model.as_ptr().addr();
        Place::Bytes { source: 0, range: start..start + part.len() }
    }

    fn outside(&mut self, read: &Fields, bytes: usize) -> Result<Place, Problem> {
        let location = read.external.get("location").copied().unwrap_or_default();
        let source = self.open(location)?;
        let start = read.number("offset")?.unwrap_or(0);
        let length = read.number("length")?.unwrap_or(bytes);
        let end = start.checked_add(length).filter(|end| *end <= self.sources[source].len());
        let end = end.ok_or_else(|| {
            Problem::damaged(format!(
                "tensor `{}` lies beyond the end of {location}, its {length} bytes from {start}",
                read.name
            ))
        })?;
        Ok(Place::Bytes { source, range: start..end })
    }

    /// The index of another file's source.
    fn open(&mut self, location: &str) -> Result<usize, Problem> {
        if let Some(source) = self.opened.get(location) {
            return Ok(*source);
        }
        let remedy = "read the model from its folder";
        let folder =
            self.folder.ok_or_else(|| Problem::refused(format!("it refers to the file `{location}`"), remedy))?;
        self.sources.push(Source::open(&beside(folder, location)?)?);
        self.opened.insert(location.to_string(), self.sources.len() - 1);
        Ok(self.sources.len() - 1)
    }
}

fn first(shape: &[u64]) -> &[u64] {
    &shape[..shape.len().min(8)]
}

/// Name and element type of a `TensorProto.DataType`.
fn kind(number: u64) -> (String, Option<Element>) {
    let (name, element) = match number {
        1 => ("FLOAT", Some(Element::F32)),
        2 => ("UINT8", None),
        3 => ("INT8", None),
        6 => ("INT32", None),
        7 => ("INT64", None),
        8 => ("STRING", None),
        9 => ("BOOL", None),
        10 => ("FLOAT16", Some(Element::F16)),
        11 => ("DOUBLE", Some(Element::F64)),
        16 => ("BFLOAT16", Some(Element::BF16)),
        other => return (format!("ONNX type {other}"), None),
    };
    (name.to_string(), element)
}

/// The numbers of a tensor's message that lie in fields of their own type instead of raw bytes.
pub(super) fn numbers(message: &[u8], element: Element) -> Result<Vec<f32>, Problem> {
    let mut numbers = vec![];
    for field in fields(message) {
        match (element, field?) {
            (Element::F32, (4, Value::Fixed(bytes) | Value::Bytes(bytes))) => {
                numbers.extend(whole(bytes)?.iter().map(|b| f32::from_le_bytes(*b)));
            }
            (Element::F64, (10, Value::Fixed(bytes) | Value::Bytes(bytes))) => {
                numbers.extend(whole(bytes)?.iter().map(|b| f64::from_le_bytes(*b) as f32));
            }
            (Element::F16 | Element::BF16, (5, Value::Number(bits))) => numbers.push(half(element, bits)),
            (Element::F16 | Element::BF16, (5, Value::Bytes(mut packed))) => {
                while !packed.is_empty() {
                    numbers.push(half(element, varint(&mut packed)?));
                }
            }
            _ => {}
        }
    }
    Ok(numbers)
}

fn whole<const SIZE: usize>(bytes: &[u8]) -> Result<&[[u8; SIZE]], Problem> {
    match bytes.as_chunks() {
        (numbers, []) => Ok(numbers),
        _ => Err(Problem::damaged("a part of a number")),
    }
}

/// A number of 16 bits, which lie in an integer.
fn half(element: Element, bits: u64) -> f32 {
    match element {
        Element::BF16 => bf16::from_bits(bits as u16).to_f32(),
        _ => f16::from_bits(bits as u16).to_f32(),
    }
}

/// Names that nodes give to anonymous tensors.
#[derive(Default)]
struct Named {
    tensors: BTreeMap<String, Tensor>,
    taken: HashSet<String>,
}

impl Named {
    fn node(&mut self, node: &[u8], tensors: &BTreeMap<String, Tensor>) -> Result<(), Problem> {
        let (mut name, mut own, mut inputs) = ("", None, 0);
        for field in fields(node) {
            match field? {
                (1, Value::Bytes(input)) => {
                    let anonymous = text(input)?;
                    let tensor =
                        Some(anonymous).filter(|name| name.starts_with(ANONYMOUS)).and_then(|n| tensors.get(n));
                    own = own.or(tensor.map(|tensor| (inputs, anonymous, tensor)));
                    inputs += 1;
                }
                (3, Value::Bytes(bytes)) => name = text(bytes)?,
                _ => {}
            }
        }
        let Some((place, anonymous, tensor)) = own else { return Ok(()) };
        let path = name.trim_start_matches('/');
        let named = match path.strip_suffix("/MatMul") {
            // x · kernel; a tensor on the left is none of a linear layer.
            Some(layer) if place == 1 => (format!("{}.weight", layer.replace('/', ".")), tensor.clone().transposed()),
            _ if path.contains('/') => (path.replace('/', "."), tensor.clone()),
            _ => return Ok(()),
        };
        // A name that the file gives itself counts more.
        if !tensors.contains_key(&named.0) {
            if self.tensors.len() >= MOST {
                return Err(Problem::damaged(format!("nodes name more than {MOST} tensors")));
            }
            self.tensors.entry(named.0).or_insert(named.1);
            self.taken.insert(anonymous.to_string());
        }
        Ok(())
    }

    fn finish(self, mut tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
        tensors.retain(|name, _| !self.taken.contains(name));
        tensors.extend(self.tensors);
        tensors
    }
}
