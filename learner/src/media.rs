//! Pictures and animations of a run: files `RUN/media/{kind}-{name}-{step:012}.{gif|png}`.
//!
//! ```ignore
//! let media = Media::of(&run.dir, config.log.media_keep);
//! let picture = Picture::animation(&frames)?;                      // frames: u8 [T, H, W, C]
//! let path = media.store(Kind::Eval, "image", env_steps, &picture)?; // RUN/media/eval-image-000000012000.gif
//! ```
//!
//! A file is whole or absent under its name: readers may list the folder at any time, and skip names that end in `.tmp`.

use std::fmt;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::codecs::gif::{GifEncoder, Repeat};
use image::codecs::png::PngEncoder;
use image::{Delay, ExtendedColorType, Frame, ImageEncoder, ImageError, ImageFormat, ImageReader, RgbaImage};
use shared::array::{Array, DType};

use crate::durable::{self, FileError};

/// Folder of these files in a run folder.
pub const FOLDER: &str = "media";
/// Frames per second of an animation.
pub const FPS: u32 = 10;
/// How carefully a GIF's 256 colours of a frame are chosen, from 1 (best) to 30 (fastest).
const SPEED: i32 = 10;

/// Why a picture was not made or kept.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// Frames that are not bytes of the shape that was asked for.
    #[error("a picture needs u8 {expected}, not {dtype:?} {shape:?}")]
    Frames {
        /// The shape, in letters.
        expected: &'static str,
        /// What was given.
        dtype: DType,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The encoder of GIF or PNG files.
    #[error("cannot encode a picture: {0}")]
    Encode(#[from] ImageError),
    /// The folder or the file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What the world model predicts without seeing, beside what came.
    OpenLoop,
    /// Episodes of an evaluation.
    Eval,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenLoop => "openloop",
            Self::Eval => "eval",
        })
    }
}

/// An encoded picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// H, pixels.
    pub height: usize,
    /// W, pixels.
    pub width: usize,
    /// How a file of it ends: gif or png.
    pub ending: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Picture {
    /// A GIF of frames u8 [T, H, W, C], [`FPS`] a second, for ever. Of three channels or more the first three are red, green and
    /// blue; of fewer the first is grey.
    pub fn animation(frames: &Array) -> Result<Self, MediaError> {
        let [_, height, width, channels] = sizes(frames, "[T, H, W, C]")?;
        let mut bytes = vec![];
        let mut encoder = GifEncoder::new_with_speed(&mut bytes, SPEED);
        encoder.set_repeat(Repeat::Infinite)?;
        let delay = Delay::from_numer_denom_ms(1000, FPS);
        for frame in frames.bytes.chunks_exact(height * width * channels) {
            let opaque = |[r, g, b]: [u8; 3]| [r, g, b, u8::MAX];
            let pixels: Vec<u8> = frame.chunks_exact(channels).flat_map(|pixel| opaque(colour(pixel))).collect();
            if let Some(image) = RgbaImage::from_raw(width as u32, height as u32, pixels) {
                encoder.encode_frame(Frame::from_parts(image, 0, 0, delay))?;
            }
        }
        drop(encoder);
        Ok(Self { height, width, ending: "gif", bytes })
    }

    /// A PNG of a frame u8 [H, W, C], with channels as in [`Picture::animation`].
    pub fn still(frame: &Array) -> Result<Self, MediaError> {
        let [height, width, channels] = sizes(frame, "[H, W, C]")?;
        let pixels: Vec<u8> = frame.bytes.chunks_exact(channels).flat_map(colour).collect();
        let mut bytes = vec![];
        let encoder = PngEncoder::new(&mut bytes);
        encoder.write_image(&pixels, width as u32, height as u32, ExtendedColorType::Rgb8)?;
        Ok(Self { height, width, ending: "png", bytes })
    }
}

/// Sizes of frames that are bytes, with nothing empty about them.
pub(crate) fn sizes<const N: usize>(frames: &Array, expected: &'static str) -> Result<[usize; N], MediaError> {
    let found = frames.shape.as_slice().try_into().ok().filter(|shape: &[usize; N]| !shape.contains(&0));
    let whole = frames.dtype == DType::U8 && frames.bytes.len() == frames.elements();
    found.filter(|_| whole).ok_or_else(|| MediaError::Frames {
        expected,
        dtype: frames.dtype,
        shape: frames.shape.clone(),
    })
}

/// Red, green and blue of a pixel of any number of channels.
pub(crate) fn colour(pixel: &[u8]) -> [u8; 3] {
    match *pixel {
        [r, g, b, ..] => [r, g, b],
        [grey, ..] => [grey; 3],
        [] => [0; 3],
    }
}

/// The folder of a run's pictures.
#[derive(Clone, Debug)]
pub struct Media {
    folder: PathBuf,
    keep: usize,
}

impl Media {
    /// Of a run folder, with the newest `keep` of each kind and name (`log.media_keep`), at least one.
    pub fn of(run: &Path, keep: usize) -> Self {
        Self { folder: run.join(FOLDER), keep: keep.max(1) }
    }

    /// Write a picture of an observation key at so many environment steps, and delete what is too old. One process alone
    /// stores what has this kind and name.
    pub fn store(&self, kind: Kind, key: &str, step: u64, picture: &Picture) -> Result<PathBuf, MediaError> {
        fs::create_dir_all(&self.folder).map_err(FileError::io("create", &self.folder))?;
        let series = format!("{kind}-{}-", name_of(key));
        let path = self.folder.join(format!("{series}{step:012}.{}", picture.ending));
        durable::write(&path, &picture.bytes)?;
        self.prune(&series, &path)?;
        Ok(path)
    }

    /// An animation that was stored, if it is there.
    pub fn animation(&self, kind: Kind, key: &str, step: u64) -> Result<Option<Picture>, MediaError> {
        let path = self.folder.join(format!("{kind}-{}-{step:012}.gif", name_of(key)));
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(FileError::io("read", &path))?,
        };
        let (width, height) = ImageReader::with_format(Cursor::new(&bytes), ImageFormat::Gif).into_dimensions()?;
        Ok(Some(Picture { height: height as usize, width: width as usize, ending: "gif", bytes }))
    }

    /// Delete the oldest of a series but for the newest, of which `newest` is one even where a run went on from a checkpoint and
    /// has pictures of later steps.
    fn prune(&self, series: &str, newest: &Path) -> Result<(), FileError> {
        let mut others = vec![];
        for entry in fs::read_dir(&self.folder).map_err(FileError::io("read", &self.folder))? {
            let path = entry.map_err(FileError::io("read", &self.folder))?.path();
            let step = path.file_name().and_then(|name| step_of(name.to_str()?, series));
            others.extend(step.filter(|_| path != newest).map(|step| (step, path)));
        }
        others.sort();
        let old = others.len().saturating_sub(self.keep - 1);
        others.iter().take(old).try_for_each(|(_, path)| fs::remove_file(path).map_err(FileError::io("delete", path)))
    }
}

/// An observation key as it stands in a file's name.
fn name_of(key: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
    key.replace('/', ".").chars().map(plain).collect()
}

/// The step in a file's name, if it is of this series.
fn step_of(file: &str, series: &str) -> Option<u64> {
    let (step, _) = file.strip_prefix(series)?.split_once('.')?;
    step.parse().ok()
}

#[cfg(test)]
mod tests {
    use image::AnimationDecoder;
    use image::codecs::gif::GifDecoder;

    use super::*;

    /// Frames of one colour each.
    fn frames(colours: &[[u8; 3]], height: usize, width: usize) -> Array {
        let bytes: Vec<u8> = colours.iter().flat_map(|c| c.repeat(height * width)).collect();
        Array::u8(&[colours.len(), height, width, 3], &bytes)
    }

    #[test]
    fn an_animation_has_its_frames_in_order_and_its_time() {
        let colours = [[255, 0, 0], [0, 255, 0], [12, 34, 56]];
        let picture = Picture::animation(&frames(&colours, 5, 7)).unwrap();
        assert_eq!((picture.height, picture.width, picture.ending), (5, 7, "gif"));
        let decoder = GifDecoder::new(std::io::Cursor::new(&picture.bytes)).unwrap();
        let found = decoder.into_frames().collect_frames().unwrap();
        assert_eq!(found.len(), 3);
        for (frame, [r, g, b]) in found.iter().zip(colours) {
            assert_eq!(frame.delay().numer_denom_ms(), (100, 1));
            assert!(frame.buffer().pixels().all(|p| p.0 == [r, g, b, 255]));
        }
    }

    #[test]
    fn a_grey_frame_is_a_grey_picture_and_numbers_are_none() {
        let picture = Picture::still(&Array::u8(&[1, 2, 1], &[7, 200])).unwrap();
        let found = image::load_from_memory(&picture.bytes).unwrap().to_rgb8();
        assert_eq!(found.as_raw(), &[7, 7, 7, 200, 200, 200]);
        let error = Picture::still(&Array::f32(&[1, 1, 3], &[0.0; 3])).unwrap_err().to_string();
        assert!(error.contains("[H, W, C]") && error.contains("F32"), "{error}");
        assert!(Picture::animation(&Array::u8(&[2, 0, 4, 3], &[])).is_err());
    }

    #[test]
    fn the_newest_of_each_series_stay() {
        let run = tempfile::tempdir().unwrap();
        let media = Media::of(run.path(), 2);
        let picture = Picture::still(&Array::u8(&[1, 1, 1], &[0])).unwrap();
        media.store(Kind::Eval, "vit/image", 1, &picture).unwrap();
        media.store(Kind::OpenLoop, "vit/image-2", 1, &picture).unwrap();
        for step in [9, 20_000_000_000_000, 300] {
            media.store(Kind::OpenLoop, "vit/image", step, &picture).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(run.path().join(FOLDER))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let expected = [
            "eval-vit.image-000000000001.png",
            "openloop-vit.image-000000000300.png",
            "openloop-vit.image-2-000000000001.png",
            "openloop-vit.image-20000000000000.png",
        ];
        assert_eq!(names, expected);
    }
}
