//! Files of the safetensors format, checked as its description demands: every byte of the data belongs to one tensor.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::error::Problem;
use super::tensor::{AXES, Element, Layout, Place, Tensor, elements};

/// Longest header, in bytes; it takes about a hundred for each tensor, and some times that in memory.
const LONGEST: u64 = 4 << 20;
/// Bytes of the header's length.
const LENGTH: usize = 8;

/// A tensor as the header has it.
#[derive(Deserialize)]
struct Info {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// Tensors in the order of the header, with names that may be there twice.
struct Header(Vec<(String, Info)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = vec![];
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "__metadata__" => drop(map.next_value::<IgnoredAny>()?),
                        _ => tensors.push((name, map.next_value()?)),
                    }
                }
                Ok(Header(tensors))
            }
        }
        json.deserialize_map(Names)
    }
}

/// The tensors of a file.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, Problem> {
    let (header, data) = split(bytes)?;
    let Header(mut infos) = serde_json::from_slice(header).map_err(|e| Problem::damaged(format!("its header: {e}")))?;
    infos.sort_by_key(|(_, info)| info.data_offsets);
    check(&infos, bytes.len() - data)?;
    let mut tensors = BTreeMap::new();
    for (name, info) in infos {
        let (from, to) = info.data_offsets;
        let tensor = Tensor {
            dtype: info.dtype.to_string(),
            element: element(info.dtype),
            shape: info.shape,
            place: Place::Bytes { source: 0, range: data + from..data + to },
            layout: Layout::Rows,
        };
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(Problem::damaged(format!("two tensors have the name `{name}`")));
        }
    }
    Ok(tensors)
}

/// The header, and where the data begin.
fn split(bytes: &[u8]) -> Result<(&[u8], usize), Problem> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>().ok_or_else(|| Problem::damaged("it has no header"))?;
    let length = u64::from_le_bytes(*length);
    if length > LONGEST {
        return Err(Problem::damaged(format!("a header of {length} bytes, where {LONGEST} are allowed")));
    }
    let header = rest.get(..length as usize);
    let cut = || Problem::damaged(format!("a header of {length} bytes, where the file has {}", bytes.len()));
    header.map(|header| (header, LENGTH + header.len())).ok_or_else(cut)
}

/// Whether tensors, in the order of their data, cover these without gap or overlap and have the size of their shape.
fn check(infos: &[(String, Info)], size: usize) -> Result<(), Problem> {
    let mut end = 0;
    for (i, (name, info)) in infos.iter().enumerate() {
        let (from, to) = info.data_offsets;
        if from < end {
            return Err(Problem::damaged(format!("the data of `{}` and `{name}` overlap", infos[i - 1].0)));
        }
        if from > end {
            return Err(Problem::damaged(format!(
                "bytes {end} to {from} of the data, before `{name}`, are no tensor's"
            )));
        }
        if to > size {
            return Err(Problem::damaged(format!("`{name}` ends at byte {to} of the data, which are {size} bytes")));
        }
        if info.shape.len() > AXES || bytes_of(info) != to.checked_sub(from) {
            let what = format!(
                "`{name}` of type {} and shape {:?} has the bytes {from} to {to}",
                info.dtype,
                Shape(&info.shape)
            );
            return Err(Problem::damaged(what));
        }
        end = to;
    }
    match end == size {
        true => Ok(()),
        false => Err(Problem::damaged(format!("{} bytes behind the last tensor", size - end))),
    }
}

/// The first sides of a shape.
struct Shape<'a>(&'a [usize]);

impl fmt::Debug for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries(self.0.iter().take(8)).finish()
    }
}

fn bytes_of(info: &Info) -> Option<usize> {
    let bits = elements(&info.shape)?.checked_mul(info.dtype.bitsize())?;
    (bits % 8 == 0).then_some(bits / 8)
}

fn element(dtype: Dtype) -> Option<Element> {
    match dtype {
        Dtype::F64 => Some(Element::F64),
        Dtype::F32 => Some(Element::F32),
        Dtype::F16 => Some(Element::F16),
        Dtype::BF16 => Some(Element::BF16),
        _ => None,
    }
}
