//! Event files of TensorBoard: the same numbers as in `metrics.jsonl`, histograms of the values behind a spread, and pictures.
//!
//! A file is a row of records; each is an `Event` of TensorBoard's `event.proto`, and holds a `Summary` of `summary.proto`.

mod message;
mod record;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions, create_dir_all};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use self::message::Message;
use super::{MetricError, Numbers};
use crate::files::append_whole;

/// Buckets of a histogram, of equal width between its least and largest value.
const BUCKETS: usize = 30;

/// Numbers of the fields that are written.
mod field {
    /// Of `Event`.
    pub mod event {
        pub const WALL_TIME: u64 = 1;
        pub const STEP: u64 = 2;
        pub const FILE_VERSION: u64 = 3;
        pub const SUMMARY: u64 = 5;
        pub const SESSION_LOG: u64 = 7;
    }
    /// Of `SessionLog`.
    pub const STATUS: u64 = 1;
    /// Of `Summary`.
    pub const VALUE: u64 = 1;
    /// Of `Summary.Value`.
    pub mod value {
        pub const TAG: u64 = 1;
        pub const SIMPLE_VALUE: u64 = 2;
        pub const IMAGE: u64 = 4;
        pub const HISTO: u64 = 5;
    }
    /// Of `Summary.Image`.
    pub mod image {
        pub const HEIGHT: u64 = 1;
        pub const WIDTH: u64 = 2;
        pub const COLORSPACE: u64 = 3;
        pub const ENCODED: u64 = 4;
    }
    /// Of `HistogramProto`.
    pub mod histogram {
        pub const MIN: u64 = 1;
        pub const MAX: u64 = 2;
        pub const NUM: u64 = 3;
        pub const SUM: u64 = 4;
        pub const SUM_SQUARES: u64 = 5;
        pub const BUCKET_LIMIT: u64 = 6;
        pub const BUCKET: u64 = 7;
    }
}

/// `Summary.Image.colorspace` of red, green and blue.
const RGB: u64 = 3;
/// `SessionLog.SessionStatus.START`.
const START: u64 = 1;

/// An event file, open for writing.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Create a file in a folder, which is created too, for a run that goes on from `step` environment steps. TensorBoard joins
    /// it to the folder's older files, and drops what they have behind that step: a run that died was further than its checkpoint.
    pub fn create(folder: &Path, step: u64, time: f64) -> Result<Self, MetricError> {
        create_dir_all(folder).map_err(|source| MetricError::File { path: folder.into(), source })?;
        let name = format!("events.out.tfevents.{:010}.{}.{}", time as u64, host(), std::process::id());
        let (path, file) = create_new(folder, &name)?;
        let mut events = Self { path, file };
        events.write(event(time).bytes(field::event::FILE_VERSION, b"brain.Event:2"))?;
        let start = Message::default().integer(field::STATUS, START);
        // What is dropped begins with this event's step, whose own record counts still.
        events.write(event(time).integer(field::event::STEP, step + 1).message(field::event::SESSION_LOG, &start))?;
        Ok(events)
    }

    /// Append one record, and hand it to the system: environment steps, Unix time in seconds, numbers by tag, which become float32,
    /// and values by tag, whose histograms are written. Values that are not finite are in no histogram.
    pub fn append<'a>(
        &mut self,
        step: u64,
        time: f64,
        numbers: &Numbers,
        samples: impl IntoIterator<Item = (&'a str, &'a [f64])>,
    ) -> Result<(), MetricError> {
        let value = |tag: &str| Message::default().bytes(field::value::TAG, tag.as_bytes());
        let mut summary = Message::default();
        for (tag, number) in numbers {
            summary = summary.message(field::VALUE, &value(tag).float(field::value::SIMPLE_VALUE, *number as f32));
        }
        for (tag, values) in samples {
            if let Some(histogram) = histogram(values) {
                summary = summary.message(field::VALUE, &value(tag).message(field::value::HISTO, &histogram));
            }
        }
        self.write(event(time).integer(field::event::STEP, step).message(field::event::SUMMARY, &summary))
    }

    /// Append a picture, a PNG or an animated GIF in colours, of so many pixels [height, width].
    pub fn append_image(
        &mut self,
        step: u64,
        time: f64,
        tag: &str,
        [height, width]: [usize; 2],
        bytes: &[u8],
    ) -> Result<(), MetricError> {
        let image = Message::default()
            .integer(field::image::HEIGHT, height as u64)
            .integer(field::image::WIDTH, width as u64)
            .integer(field::image::COLORSPACE, RGB)
            .bytes(field::image::ENCODED, bytes);
        let value = Message::default().bytes(field::value::TAG, tag.as_bytes()).message(field::value::IMAGE, &image);
        let summary = Message::default().message(field::VALUE, &value);
        self.write(event(time).integer(field::event::STEP, step).message(field::event::SUMMARY, &summary))
    }

    fn write(&mut self, event: Message) -> Result<(), MetricError> {
        let written = append_whole(&mut self.file, &record::framed(event.encoded()));
        written.map_err(|source| MetricError::File { path: self.path.clone(), source })
    }
}

fn event(time: f64) -> Message {
    Message::default().double(field::event::WALL_TIME, time)
}

/// A file of this name, or of this name with a number behind it.
fn create_new(folder: &Path, name: &str) -> Result<(PathBuf, File), MetricError> {
    let mut path = folder.join(name);
    let mut number = 0;
    loop {
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                number += 1;
                path = folder.join(format!("{name}.{number}"));
            }
            Err(source) => return Err(MetricError::File { path, source }),
        }
    }
}

/// The name of this machine, as far as a file may be called so.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    if name.is_empty() { "localhost".into() } else { name }
}

/// A `HistogramProto` of the finite ones of these values; none if there are none.
fn histogram(values: &[f64]) -> Option<Message> {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (min, max) = (finite().reduce(f64::min)?, finite().reduce(f64::max)?);
    let buckets = if min < max { BUCKETS } else { 1 };
    let width = (max - min) / buckets as f64;
    let mut counts = vec![0.0; buckets];
    // Of equal values, 0 / 0 is the first bucket.
    finite().for_each(|value| counts[(((value - min) / width) as usize).min(buckets - 1)] += 1.0);
    let limit = |i: usize| if i == buckets { max } else { min + width * i as f64 };
    let limits: Vec<f64> = (1..=buckets).map(limit).collect();
    let fields = Message::default()
        .double(field::histogram::MIN, min)
        .double(field::histogram::MAX, max)
        .double(field::histogram::NUM, counts.iter().sum())
        .double(field::histogram::SUM, finite().sum())
        .double(field::histogram::SUM_SQUARES, finite().map(|value| value * value).sum());
    Some(fields.doubles(field::histogram::BUCKET_LIMIT, &limits).doubles(field::histogram::BUCKET, &counts))
}
