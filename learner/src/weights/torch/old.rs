//! The format before PyTorch 1.6: five pickles (a number, the version, facts of the machine, the object, keys of storages), then
//! each storage with its length before it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::super::error::Problem;
use super::super::tensor::Tensor;
use super::{Storages, class, little_endian};
use crate::pickle::{Dialect, Pickle, Storage};

/// The first pickle's content, as it pickles a number of ten bytes (`MAGIC_NUMBER` of `torch/serialization.py`).
const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// The second's.
const VERSION: i64 = 1001;

/// Whether a file begins as this format does; before the number is what depends on the protocol.
pub(in super::super) fn is(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x80") && bytes.iter().take(12).enumerate().any(|(at, _)| bytes[at..].starts_with(MAGIC))
}

/// The tensors of a file.
pub(in super::super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, Problem> {
    let mut rest = bytes;
    let mut next = || {
        let pickle = Pickle::read_as(rest, Dialect::Tensors)?;
        rest = &rest[pickle.size()..];
        Ok::<_, Problem>(pickle)
    };
    let (_, version, machine) = (next()?, next()?, next()?);
    if version.value().integer() != Some(VERSION) {
        return Err(Problem::damaged("a version of the format that is not known"));
    }
    let machine = machine.value().entries().unwrap_or_default();
    little_endian(machine.get("little_endian").and_then(|little| little.flag()) != Some(false))?;
    let (object, keys) = (next()?, next()?);
    let keys: Option<Vec<&str>> = keys.value().items().and_then(|mut keys| {
        keys.try_fold(vec![], |mut all, key| {
            all.push(key.text()?);
            Some(all)
        })
    });
    let keys = keys.ok_or_else(|| Problem::damaged("its storages have no list of keys"))?;
    let mut places = places(bytes, bytes.len() - rest.len(), &keys, &object)?;
    super::tensors(object.value(), &mut places)
}

/// Where storages lie, by key.
struct Places<'a>(HashMap<&'a str, Range<usize>>);

fn places<'a>(bytes: &[u8], mut at: usize, keys: &[&'a str], object: &Pickle) -> Result<Places<'a>, Problem> {
    let sizes: HashMap<&str, usize> = object.storages().map(|s| (s.key, class(s.class).1)).collect();
    let mut places = HashMap::new();
    for key in keys {
        let cut = || Problem::damaged(format!("its storage {key:.64} is cut short"));
        let size = *sizes.get(key).ok_or_else(|| Problem::damaged(format!("no tensor has the storage {key:.64}")))?;
        let length = bytes[at..].first_chunk().map(|length| u64::from_le_bytes(*length)).ok_or_else(cut)?;
        let length = usize::try_from(length).ok().and_then(|length| length.checked_mul(size));
        let start = at + size_of::<u64>();
        let end = length.and_then(|length| start.checked_add(length)).filter(|end| *end <= bytes.len());
        at = end.ok_or_else(cut)?;
        places.insert(*key, start..at);
    }
    Ok(Places(places))
}

impl Storages for Places<'_> {
    fn find(&mut self, storage: &Storage) -> Result<Range<usize>, Problem> {
        let missing = || Problem::damaged(format!("its storage {:.64} is missing", storage.key));
        self.0.get(storage.key).cloned().ok_or_else(missing)
    }
}
