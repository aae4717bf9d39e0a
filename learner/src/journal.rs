//! What has happened since the last checkpoint, in files that outlive the learner: steps that arrived, versions that were published.
//!
//! A chunk is appended before its actor gets the credit back, so that no step that was acknowledged is lost with the learner's
//! process. A cut begins the next file; a checkpoint keeps its number, and with it goes every file from there on. A record is
//!
//! ```text
//! kind u8, length u64, checksum of the content u64, content
//! ```
//!
//! in little-endian numbers. The content of a step record is the length of the head (u64), the head of the chunk as it travels, and
//! its block; of a version record, the version (u64). What a process has written survives its death; a power cut may take the
//! end of a file.

use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use shared::experience::Chunk;
use shared::files::append_whole;
use shared::wire::{chunk, codec};
use xxhash_rust::xxh3::xxh3_64;

use crate::durable::FileError;

const CHUNK: u8 = 1;
const VERSION: u8 = 2;
/// Bytes before the content of a record.
const HEADER: usize = 17;
/// Longest content: a chunk of an actor is smaller by far.
const LONGEST: u64 = 1 << 30;

/// The newest file, to be appended to.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    number: u64,
    file: Option<File>,
    bytes: u64,
    /// After an error nothing is appended until the next cut: what follows a hole could not be read back in order.
    broken: bool,
}

/// What a record says.
#[derive(Debug, PartialEq)]
pub enum Entry {
    /// These steps arrived.
    Chunk(Chunk),
    /// This version was about to be published.
    Version(u64),
}

impl Journal {
    /// In the folder of replay's files, behind those that are there; `first`: the lowest number that may be used. No file is made before
    /// there is something to say.
    pub fn open(dir: &Path, first: u64) -> Result<Self, FileError> {
        let number = numbers(dir)?.last().map_or(first, |last| (last + 1).max(first));
        Ok(Self { dir: dir.to_path_buf(), number, file: None, bytes: 0, broken: false })
    }

    /// These steps have arrived. The first error since a cut is returned; after it nothing is kept until the next one.
    pub fn arrived(&mut self, chunk: &Chunk) -> Result<(), FileError> {
        let (head, block) = chunk::pack(chunk);
        let path = self.path();
        let head = codec::encode(&head).map_err(|e| FileError::damaged(&path, e))?;
        self.append(CHUNK, &[&(head.len() as u64).to_le_bytes(), &head, &block])
    }

    /// This version is about to be published.
    pub fn publishing(&mut self, version: u64) -> Result<(), FileError> {
        self.append(VERSION, &[&version.to_le_bytes()])
    }

    /// A cut has been taken: what follows is in the next file, whose number is returned.
    pub fn cut(&mut self) -> u64 {
        self.number += 1;
        (self.file, self.bytes, self.broken) = (None, 0, false);
        self.number
    }

    /// Bytes of the newest file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn path(&self) -> PathBuf {
        self.dir.join(name(self.number))
    }

    fn append(&mut self, kind: u8, content: &[&[u8]]) -> Result<(), FileError> {
        if self.broken {
            return Ok(());
        }
        let written = self.write(&record(kind, content));
        self.broken = written.is_err();
        written
    }

    fn write(&mut self, record: &[u8]) -> Result<(), FileError> {
        let path = self.path();
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                fs::create_dir_all(&self.dir).map_err(FileError::io("create", &self.dir))?;
                let file = File::options().append(true).create_new(true).open(&path);
                self.file.insert(file.map_err(FileError::io("create", &path))?)
            }
        };
        append_whole(file, record).map_err(FileError::io("write", &path))?;
        self.bytes += record.len() as u64;
        Ok(())
    }
}

fn record(kind: u8, content: &[&[u8]]) -> Vec<u8> {
    let length: usize = content.iter().map(|part| part.len()).sum();
    let mut record = Vec::with_capacity(HEADER + length);
    record.push(kind);
    record.extend((length as u64).to_le_bytes());
    record.extend([0; 8]);
    content.iter().for_each(|part| record.extend_from_slice(part));
    let sum = xxh3_64(&record[HEADER..]);
    record[9..HEADER].copy_from_slice(&sum.to_le_bytes());
    record
}

/// What became of reading.
#[derive(Debug, Default)]
pub struct Found {
    /// An entry for each file that is damaged; the rest of it was passed over.
    pub damage: Vec<FileError>,
    torn: Option<(PathBuf, u64)>,
}

impl Found {
    /// For the learner that owns the run, before it writes: cut off a last record that is not whole.
    pub fn mend(&self) -> Result<(), FileError> {
        let Some((path, whole)) = &self.torn else { return Ok(()) };
        let file = File::options().write(true).open(path).map_err(FileError::io("open", path))?;
        file.set_len(*whole).map_err(FileError::io("cut", path))
    }
}

/// What happened since a cut, from the file that it began on; `each` is given the entries in order. Changes nothing. The end of the
/// last file may be missing: its process was killed while it wrote.
pub fn read(dir: &Path, from: u64, mut each: impl FnMut(Entry)) -> Result<Found, FileError> {
    let numbers: Vec<u64> = numbers(dir)?.into_iter().filter(|number| *number >= from).collect();
    let mut found = Found::default();
    for number in &numbers {
        let path = dir.join(name(*number));
        let mut whole = 0;
        match read_file(&path, &mut whole, &mut each) {
            Ok(()) => {}
            Err(Stop::Short) if numbers.last() == Some(number) => found.torn = Some((path, whole)),
            Err(Stop::Short) => found.damage.push(FileError::damaged(&path, "it ends in the middle of a record")),
            Err(Stop::Error(error)) => found.damage.push(error),
        }
    }
    Ok(found)
}

/// Delete the files before a number.
pub fn prune(dir: &Path, before: u64) -> Result<(), FileError> {
    for number in numbers(dir)?.into_iter().filter(|number| *number < before) {
        let path = dir.join(name(number));
        fs::remove_file(&path).map_err(FileError::io("delete", &path))?;
    }
    Ok(())
}

/// Why the reading of a file ended before its end.
enum Stop {
    Short,
    Error(FileError),
}

/// `whole`: bytes of the records that were read.
fn read_file(path: &Path, whole: &mut u64, each: &mut impl FnMut(Entry)) -> Result<(), Stop> {
    let failed = |doing| move |error| Stop::Error(FileError::io(doing, path)(error));
    let file = File::open(path).map_err(failed("open"))?;
    let mut left = file.metadata().map_err(failed("read"))?.len();
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut content = Vec::new();
    while left > 0 {
        let mut header = [0; HEADER];
        fill(&mut file, &mut header, path)?;
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        let (length, sum) = (number(1), number(9));
        left = left.checked_sub(HEADER as u64).ok_or(Stop::Short)?;
        if length > LONGEST {
            return Err(Stop::Error(FileError::damaged(path, format!("a record of {length} bytes"))));
        }
        left = left.checked_sub(length).ok_or(Stop::Short)?;
        content.resize(length as usize, 0);
        fill(&mut file, &mut content, path)?;
        if xxh3_64(&content) != sum {
            return Err(Stop::Error(FileError::damaged(path, "the checksum of a record does not match")));
        }
        each(entry(header[0], &content).map_err(|why| Stop::Error(FileError::damaged(path, why)))?);
        *whole += HEADER as u64 + length;
    }
    Ok(())
}

fn fill(file: &mut impl Read, bytes: &mut [u8], path: &Path) -> Result<(), Stop> {
    file.read_exact(bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => Stop::Short,
        _ => Stop::Error(FileError::io("read", path)(error)),
    })
}

fn entry(kind: u8, content: &[u8]) -> Result<Entry, String> {
    let (first, rest) = content.split_first_chunk().ok_or("a record is too short")?;
    let first = u64::from_le_bytes(*first);
    match kind {
        VERSION if rest.is_empty() => Ok(Entry::Version(first)),
        CHUNK => {
            let split = usize::try_from(first).ok().and_then(|length| rest.split_at_checked(length));
            let (head, block) = split.ok_or("the head of a chunk is longer than its record")?;
            let head = codec::decode(head).map_err(|e| e.to_string())?;
            chunk::unpack(head, block).map(Entry::Chunk).map_err(|e| e.to_string())
        }
        _ => Err(format!("an unknown record of kind {kind}")),
    }
}

fn name(number: u64) -> String {
    format!("journal-{number:08}.bin")
}

/// Of the files that are there, in order.
fn numbers(dir: &Path) -> Result<Vec<u64>, FileError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(FileError::io("list", dir))?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let file = entry.map_err(FileError::io("list", dir))?.file_name();
        let number = file.to_str().and_then(|file| file.strip_prefix("journal-")?.strip_suffix(".bin")?.parse().ok());
        numbers.extend(number.filter(|number| file.to_str() == Some(&name(*number))));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::experience::StreamId;

    use super::*;
    use crate::replay::tests::chunk;

    const STREAM: StreamId = StreamId { actor: 1, generation: 2, env: 3 };

    fn all(dir: &Path, from: u64) -> (Vec<Entry>, Vec<String>) {
        let mut entries = vec![];
        let found = read(dir, from, |entry| entries.push(entry)).unwrap();
        (entries, found.damage.iter().map(ToString::to_string).collect())
    }

    /// Three files: steps 0 to 9 and version 4, steps 10 to 19, steps 20 to 29. Their numbers.
    fn written(dir: &Path) -> [u64; 3] {
        let mut journal = Journal::open(dir, 7).unwrap();
        journal.arrived(&chunk(STREAM, 0, 10)).unwrap();
        journal.publishing(4).unwrap();
        let second = journal.cut();
        journal.arrived(&chunk(STREAM, 10, 10)).unwrap();
        drop(journal);
        let mut third = Journal::open(dir, 0).unwrap();
        third.arrived(&chunk(STREAM, 20, 10)).unwrap();
        [7, second, third.number]
    }

    #[test]
    fn what_was_written_comes_back_in_order_from_a_cut_on_and_reading_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(all(dir.path(), 0), (vec![], vec![]));
        let numbers = written(dir.path());
        assert_eq!(numbers, [7, 8, 9], "a process never appends to the file of another one");
        let steps = |first| Entry::Chunk(chunk(STREAM, first, 10));
        for _ in 0..2 {
            assert_eq!(all(dir.path(), 0).0, [steps(0), Entry::Version(4), steps(10), steps(20)]);
            assert_eq!(all(dir.path(), numbers[1]).0, [steps(10), steps(20)]);
        }
        prune(dir.path(), numbers[1]).unwrap();
        assert_eq!(all(dir.path(), 0).0, [steps(10), steps(20)]);
    }

    #[test]
    fn a_full_disk_is_told_once_and_the_next_cut_starts_over() {
        let dir = tempfile::tempdir().unwrap();
        // A file stands in the way of the folder: nothing can be written.
        let folder = dir.path().join("replay");
        fs::write(&folder, "").unwrap();
        let mut journal = Journal { dir: folder.clone(), number: 0, file: None, bytes: 0, broken: false };
        assert!(journal.arrived(&chunk(STREAM, 0, 10)).is_err());
        fs::remove_file(&folder).unwrap();
        journal.arrived(&chunk(STREAM, 10, 10)).unwrap();
        assert_eq!(all(&folder, 0).0, [], "nothing after a hole");
        journal.cut();
        journal.arrived(&chunk(STREAM, 20, 10)).unwrap();
        assert_eq!(all(&folder, 0).0, [Entry::Chunk(chunk(STREAM, 20, 10))]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The last file may end anywhere; what is whole before that comes back, and nothing else.
        #[test]
        fn the_last_file_may_be_cut_anywhere(cut in 0.0..1.0) {
            let dir = tempfile::tempdir().unwrap();
            let mut journal = Journal::open(dir.path(), 0).unwrap();
            let mut ends = vec![0];
            for first in 0..5 {
                journal.arrived(&chunk(STREAM, first, 1)).unwrap();
                ends.push(journal.bytes());
            }
            let file = File::options().write(true).open(journal.path()).unwrap();
            let length = (cut * journal.bytes() as f64) as u64;
            file.set_len(length).unwrap();
            let (entries, damage) = all(dir.path(), 0);
            prop_assert!(damage.is_empty());
            prop_assert_eq!(entries.len(), ends.iter().filter(|end| **end <= length).count() - 1);
            for (first, entry) in entries.iter().enumerate() {
                prop_assert_eq!(entry, &Entry::Chunk(chunk(STREAM, first as u64, 1)));
            }
            // The next process goes on behind it.
            read(dir.path(), 0, |_| {}).unwrap().mend().unwrap();
            let mut next = Journal::open(dir.path(), 0).unwrap();
            next.publishing(9).unwrap();
            let more = all(dir.path(), 0);
            prop_assert_eq!((&more.0[..entries.len()], &more.0[entries.len()..]), (&entries[..], &[Entry::Version(9)][..]));
            prop_assert!(more.1.is_empty());
        }

        /// A changed byte anywhere is damage, or changes nothing that is read.
        #[test]
        fn a_changed_byte_is_never_taken_for_steps(at in 0.0..1.0, bit in 0u8..8, file in 0usize..3) {
            let dir = tempfile::tempdir().unwrap();
            let number = written(dir.path())[file];
            let whole = all(dir.path(), 0).0;
            let path = dir.path().join(name(number));
            let mut bytes = fs::read(&path).unwrap();
            let at = (at * bytes.len() as f64) as usize;
            bytes[at] ^= 1 << bit;
            fs::write(&path, &bytes).unwrap();
            let (entries, damage) = all(dir.path(), 0);
            prop_assert!(entries.iter().all(|entry| whole.contains(entry)));
            // A length that became too large looks like the end of a file whose process was killed.
            prop_assert!(entries.len() < whole.len() && (damage.len() == 1 || file == 2));
        }
    }
}
