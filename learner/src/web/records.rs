//! Pieces of `metrics.jsonl`, and the runs beside this one.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::plot::records::FILE;

/// Most bytes of one piece.
const PIECE: u64 = 1 << 20;
/// Bytes from the end in which a run's last numbers are looked for.
const END: u64 = 1 << 16;
/// Most runs listed.
const MOST: usize = 500;

/// Whole lines of a file, and where the next ones begin.
#[derive(Debug, Default, PartialEq)]
pub struct Piece {
    /// Lines, each with its end.
    pub lines: Vec<u8>,
    /// Offset of the next line, bytes; 0 if the file is shorter than what was asked for.
    pub next: u64,
}

/// A run beside this one.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its folder's name.
    pub name: String,
    /// Whether it is this one.
    pub own: bool,
    /// Environment steps at its last record.
    pub step: Option<f64>,
    /// The newest mean return near its end.
    pub last_return: Option<f64>,
    /// When its last record was written, Unix time in seconds.
    pub time: Option<f64>,
}

/// Whole lines from an offset that an earlier piece gave, at most [`PIECE`] bytes; none of a file that is not there.
pub fn piece(run: &Path, since: u64) -> std::io::Result<Piece> {
    let mut file = match File::open(run.join(FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Piece::default()),
        file => file?,
    };
    if file.metadata()?.len() < since {
        return Ok(Piece::default());
    }
    file.seek(SeekFrom::Start(since))?;
    let mut lines = Vec::new();
    let read = file.take(PIECE).read_to_end(&mut lines)? as u64;
    let whole = lines.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    lines.truncate(whole);
    // A line longer than a piece is no record: it is passed over.
    let passed = if whole == 0 && read == PIECE { read } else { whole as u64 };
    Ok(Piece { lines, next: since + passed })
}

/// The folder of a run beside `run`; none for a name that leads elsewhere.
pub fn beside(run: &Path, name: &str) -> Option<PathBuf> {
    let mut parts = Path::new(name).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
    let dir = run.parent()?.join(name);
    let real =
        |path: &Path, dir: bool| path.symlink_metadata().is_ok_and(|m| if dir { m.is_dir() } else { m.is_file() });
    (plain && real(&dir, true) && real(&dir.join(FILE), false)).then_some(dir)
}

/// Runs in the folder of this one, those with the newest records first.
pub fn runs(run: &Path) -> Vec<Listed> {
    let entries = run.parent().and_then(|parent| parent.read_dir().ok()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let found = names.filter_map(|name| beside(run, &name).map(|dir| listed(name, &dir, dir == run)));
    let mut runs: Vec<Listed> = found.take(MOST).collect();
    runs.sort_by(|a, b| b.time.unwrap_or_default().total_cmp(&a.time.unwrap_or_default()));
    runs
}

fn listed(name: String, dir: &Path, own: bool) -> Listed {
    let records = end(&dir.join(FILE)).unwrap_or_default();
    let newest = |key: &str| records.iter().rev().find_map(|record| record.get(key)?.as_f64());
    Listed { name, own, step: newest("step"), last_return: newest("episode/return"), time: newest("time") }
}

/// Records near the end of a file, oldest first.
fn end(path: &Path) -> std::io::Result<Vec<Map<String, Value>>> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(END);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(END).read_to_end(&mut bytes)?;
    // The first may be the rest of a line, the last one that is being written: neither can be read.
    Ok(bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}
