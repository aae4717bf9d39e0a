//! `lucid vit encode`: features of pictures, as numbers and as colours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use image::imageops::{FilterType, replace, resize};
use image::{ImageError, Rgb, RgbImage};
use shared::array::Array;
use shared::vit::{Images, Vit, VitError, normalise, whole_patches};

use super::Model;
use crate::RunError;
use crate::durable::{encode_arrays, write};
use crate::frozen::Trunk;
use crate::principal::{components, moments};

/// Side of each picture of `--picture`, pixels.
const SIDE: u32 = 336;
/// Deviations from the mean that get the darkest and the brightest colour.
const SPAN: f64 = 2.0;

/// What to encode, and where to write it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: Model,
    /// Pictures, PNG or JPEG.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Height and width that pictures are resized to: multiples of the patch (default: the nearest ones).
    #[arg(long, num_args = 2, value_names = ["HEIGHT", "WIDTH"])]
    size: Option<Vec<usize>>,
    /// Block whose output is taken, from 0 (default: the last).
    #[arg(long)]
    block: Option<usize>,
    /// File for the features: for each picture `NAME/patches` [rows, columns, F] and `NAME/prefix` [class and registers, F].
    #[arg(long)]
    out: Option<PathBuf>,
    /// File for a PNG: each picture beside the first three principal components of its patches as colours.
    #[arg(long)]
    picture: Option<PathBuf>,
}

/// Features of one picture.
struct Encoded {
    frame: RgbImage,
    /// Rows and columns of patches.
    grid: (usize, usize),
    /// [prefix, F].
    prefix: Vec<f32>,
    /// [rows * columns, F].
    patches: Vec<f32>,
}

/// Run it.
pub fn run(args: &Args) -> Result<(), RunError> {
    let trunk = Trunk::of_weights(&args.model.weights, &args.model.hints()?)?;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let vit = trunk.vit(threads)?;
    let mut encoded = Vec::new();
    for path in &args.images {
        let one = encode(&vit, path, args)?;
        encoded.push((path.display().to_string(), one));
    }
    if let Some(out) = &args.out {
        let width = vit.spec().width;
        write(out, &encode_arrays(out, &arrays(&encoded, width))?)?;
        println!("features: {}", out.display());
    }
    if let Some(picture) = &args.picture {
        let drawn = draw(&encoded, vit.spec().width);
        drawn.save(picture).map_err(image_error("write", picture))?;
        println!("picture: {}", picture.display());
    }
    Ok(())
}

fn encode(vit: &Vit, path: &Path, args: &Args) -> Result<Encoded, RunError> {
    let frame = image::open(path).map_err(image_error("read", path))?.to_rgb8();
    let own = (frame.height() as usize, frame.width() as usize);
    let (spec, start) = (vit.spec(), Instant::now());
    let asked = args.size.as_deref().map(|size| (size[0], size[1]));
    let size = whole_patches(asked.unwrap_or(own), spec.patch);
    if let Some((height, width)) = asked.filter(|asked| *asked != size) {
        let reason = format!("both must be multiples of the patch {}, as {} {}", spec.patch, size.0, size.1);
        return Err(VitError::Option { key: "size", value: format!("[{height}, {width}]"), reason }.into());
    }
    let block = args.block.unwrap_or(spec.depth - 1);
    if block >= spec.depth {
        let reason = format!("the trunk has blocks 0 to {}", spec.depth - 1);
        return Err(VitError::Option { key: "block", value: block.to_string(), reason }.into());
    }
    let pixels = normalise(frame.as_raw(), own, size, spec.pixels);
    let mut prefix = vit.tokens(Images { pixels: &pixels, n: 1, height: size.0, width: size.1 }, block, true);
    let patches = prefix.split_off(spec.prefix() * spec.width);
    let grid = (size.0 / spec.patch, size.1 / spec.patch);
    let (resized, seconds) = (format!("{} x {}", size.0, size.1), start.elapsed().as_secs_f64());
    let of = format!("{} x {} patches of {} numbers", grid.0, grid.1, spec.width);
    println!("{}: {} x {} pixels as {resized}: {of}, {:.0} ms", path.display(), own.0, own.1, seconds * 1e3);
    Ok(Encoded { frame, grid, prefix, patches })
}

fn image_error(doing: &'static str, path: &Path) -> impl FnOnce(ImageError) -> RunError {
    let path = path.into();
    move |source| RunError::Image { doing, path, source }
}

fn arrays(encoded: &[(String, Encoded)], width: usize) -> BTreeMap<String, Array> {
    let of = |(name, one): &(String, Encoded)| {
        let patches = Array::f32(&[one.grid.0, one.grid.1, width], &one.patches);
        let prefix = Array::f32(&[one.prefix.len() / width, width], &one.prefix);
        [(format!("{name}/patches"), patches), (format!("{name}/prefix"), prefix)]
    };
    encoded.iter().flat_map(of).filter(|(_, array)| !array.bytes.is_empty()).collect()
}

/// A row for each picture: the frame, and its patches coloured by the components of all patches.
fn draw(encoded: &[(String, Encoded)], width: usize) -> RgbImage {
    let all: Vec<f32> = encoded.iter().flat_map(|(_, one)| one.patches.iter().copied()).collect();
    let (mean, covariance) = moments(&all, width);
    let directions = components(covariance, 3);
    let colour = |patch: &[f32]| {
        let channel = |c: usize| {
            let along: f64 = (0..width).map(|i| (f64::from(patch[i]) - mean[i]) * directions[(i, c)]).sum();
            ((along / SPAN + 1.0) * 127.5).clamp(0.0, 255.0) as u8
        };
        Rgb([0, 1, 2].map(channel))
    };
    let mut sheet = RgbImage::new(2 * SIDE, SIDE * encoded.len() as u32);
    for ((_, one), top) in encoded.iter().zip((0i64..).step_by(SIDE as usize)) {
        let (rows, cols) = (one.grid.0 as u32, one.grid.1 as u32);
        let map = RgbImage::from_fn(cols, rows, |x, y| {
            let at = (y as usize * one.grid.1 + x as usize) * width;
            colour(&one.patches[at..at + width])
        });
        replace(&mut sheet, &resize(&one.frame, SIDE, SIDE, FilterType::Nearest), 0, top);
        replace(&mut sheet, &resize(&map, SIDE, SIDE, FilterType::Nearest), i64::from(SIDE), top);
    }
    sheet
}
