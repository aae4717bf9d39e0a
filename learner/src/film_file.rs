//! Films as files that people ask for: GIF, or MP4 by ffmpeg where it is installed.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use shared::array::Array;

use crate::durable::{self, FileError, aside};
use crate::media::{FPS, MediaError, Picture, colour, sizes};

/// Why a film could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FilmError {
    /// Its frames.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// Its file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name that says nothing of the format.
    #[error("films are .gif or .mp4, not {0}")]
    Ending(String),
    /// No ffmpeg.
    #[error("ffmpeg, which MP4 needs, cannot be started: {0}; install it, or name a .gif")]
    NoFfmpeg(io::Error),
    /// It failed.
    #[error("ffmpeg made no MP4: {0}")]
    Ffmpeg(String),
}

/// Write frames u8 [T, H, W, C] to a file whose name ends with `.gif` or `.mp4`.
pub fn write(path: &Path, frames: &Array) -> Result<(), FilmError> {
    match path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).as_deref() {
        Some("gif") => Ok(durable::write(path, &Picture::animation(frames)?.bytes)?),
        Some("mp4") => mp4(path, frames),
        _ => Err(FilmError::Ending(path.display().to_string())),
    }
}

/// ffmpeg takes the pixels on its standard input and, since it must go back in what it writes, makes a file aside.
fn mp4(path: &Path, frames: &Array) -> Result<(), FilmError> {
    let [_, height, width, channels] = sizes(frames, "[T, H, W, C]")?;
    let unfinished = aside(path, "ffmpeg");
    let (size, rate) = (format!("{width}x{height}"), FPS.to_string());
    let raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &size, "-r", &rate, "-i", "-"];
    // Sides must be even; few players show any other format of pixels.
    let coded = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-f", "mp4"];
    let mut command = Command::new("ffmpeg");
    command.args(["-y", "-loglevel", "error"]).args(raw).args(coded).arg(&unfinished);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let pixels: Vec<u8> = frames.bytes.chunks_exact(channels).flat_map(colour).collect();
    feed(child.map_err(FilmError::NoFfmpeg)?, &pixels)?;
    let film = fs::read(&unfinished).map_err(FileError::io("read", &unfinished))?;
    fs::remove_file(&unfinished).map_err(FileError::io("delete", &unfinished))?;
    Ok(durable::write(path, &film)?)
}

fn feed(mut ffmpeg: Child, pixels: &[u8]) -> Result<(), FilmError> {
    // What goes wrong here ffmpeg says itself.
    let fed = ffmpeg.stdin.take().map_or(Ok(()), |mut input| input.write_all(pixels));
    let output = ffmpeg.wait_with_output().map_err(|error| FilmError::Ffmpeg(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match (output.status.success(), fed) {
        (true, Ok(())) => Ok(()),
        (true, Err(error)) => Err(FilmError::Ffmpeg(error.to_string())),
        (false, _) => Err(FilmError::Ffmpeg(format!("{}: {}", output.status, said.trim()))),
    }
}
