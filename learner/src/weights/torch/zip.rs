//! The format since PyTorch 1.6: a zip archive with `data.pkl` and one entry for each storage, none of them compressed.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use super::super::error::Problem;
use super::super::tensor::Tensor;
use super::Storages;
use crate::pickle::{Dialect, Pickle, Storage};

const PICKLE: &str = "/data.pkl";

/// The tensors of an archive.
pub(in super::super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, Problem> {
    let mut archive = Archive::open(bytes)?;
    let pickle = archive.entry("data.pkl")?.ok_or_else(|| Problem::damaged("it has no data.pkl"))?;
    if archive.zip.file_names_raw().any(|name| name.starts_with(format!("{}/code/", archive.prefix).as_bytes())) {
        return Err(Problem::refused("a TorchScript archive, which is a program", "save model.state_dict() instead"));
    }
    if let Some(order) = archive.entry("byteorder")? {
        super::little_endian(&bytes[order] == b"little")?;
    }
    let pickle = Pickle::read_as(&bytes[pickle], Dialect::Tensors)?;
    super::tensors(pickle.value(), &mut archive)
}

struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    size: usize,
    /// The folder that all entries are in.
    prefix: String,
    found: HashMap<String, Range<usize>>,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, Problem> {
        let zip =
            ZipArchive::new(Cursor::new(bytes)).map_err(|e| Problem::damaged(format!("its zip directory: {e}")))?;
        let text = |name| std::str::from_utf8(name).ok();
        let prefix =
            zip.file_names_raw().find_map(|name| text(name)?.strip_suffix(PICKLE).filter(|p| !p.contains('/')));
        let what = "a zip archive without data.pkl, so not of PyTorch";
        let prefix = prefix.ok_or_else(|| Problem::refused(what, "name a file that torch.save wrote"))?.to_string();
        Ok(Self { zip, size: bytes.len(), prefix, found: HashMap::new() })
    }

    /// Where an entry lies; none if there is no such entry.
    fn entry(&mut self, name: &str) -> Result<Option<Range<usize>>, Problem> {
        let wrong = |what: String| Problem::damaged(format!("its entry {name}: {what}"));
        let Some(index) = self.zip.index_for_name(&format!("{}/{name}", self.prefix)) else { return Ok(None) };
        let entry = self.zip.by_index_raw(index).map_err(|e| wrong(e.to_string()))?;
        if entry.compression() != CompressionMethod::Stored
            || entry.encrypted()
            || entry.size() != entry.compressed_size()
        {
            let remedy = "PyTorch never does that: save it again with torch.save";
            return Err(Problem::refused(format!("its entry {name} is compressed"), remedy));
        }
        let start = entry.data_start().and_then(|start| usize::try_from(start).ok());
        let end = start.zip(usize::try_from(entry.size()).ok()).and_then(|(start, size)| start.checked_add(size));
        let range = start.zip(end).filter(|(_, end)| *end <= self.size).map(|(start, end)| start..end);
        range.map(Some).ok_or_else(|| wrong(format!("{} bytes, beyond the end of the file", entry.size())))
    }
}

impl Storages for Archive<'_> {
    fn find(&mut self, storage: &Storage) -> Result<Range<usize>, Problem> {
        if let Some(range) = self.found.get(storage.key) {
            return Ok(range.clone());
        }
        let missing = || Problem::damaged(format!("its storage data/{:.64} is missing", storage.key));
        let range = self.entry(&format!("data/{:.64}", storage.key))?.ok_or_else(missing)?;
        self.found.insert(storage.key.to_string(), range.clone());
        Ok(range)
    }
}
