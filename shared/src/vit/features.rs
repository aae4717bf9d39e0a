//! What the agent sees of the trunk: pooled tokens of one block.

use std::ops::Range;

use half::f16;

use super::preprocess::{fixed_size, normalise, whole_patches};
use super::{Images, Vit, VitError, VitSpec};
use crate::array::DType;
use crate::config::{TrainableBlocks, VitConfig};
use crate::env::{Space, Spaces};
use crate::params::Source;

/// How a frame's tokens become a few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    Cls,
    Mean,
    /// Side of the grid; 0: as many cells as patches.
    Grid(usize),
}

impl Pool {
    pub fn parse(config: &VitConfig, spec: &VitSpec) -> Result<Self, VitError> {
        match config.pool.as_str() {
            "cls" if !spec.class_token => {
                Err(option("pool", "cls", "this ViT has no class token; use `mean` or `grid`".into()))
            }
            "cls" => Ok(Pool::Cls),
            "mean" => Ok(Pool::Mean),
            // What is trained stands behind what is recorded: the grid.
            "grid" | "attention" => Ok(Pool::Grid(config.grid)),
            other => Err(option("pool", other, "use `cls`, `mean`, `grid` or `attention`".into())),
        }
    }

    /// Tokens that are left, as a grid, for a trunk input of `grid` patches.
    pub fn cells(self, grid: (usize, usize)) -> (usize, usize) {
        match self {
            Pool::Cls | Pool::Mean => (1, 1),
            Pool::Grid(0) => grid,
            Pool::Grid(n) => (n, n),
        }
    }

    /// The tokens that are left of frames [N, prefix + patches, width]: [N, cells, width].
    pub fn apply(self, tokens: &[f32], prefix: usize, grid: (usize, usize), width: usize) -> Vec<f32> {
        let frames = tokens.chunks_exact((prefix + grid.0 * grid.1) * width);
        match self {
            Pool::Cls => frames.flat_map(|t| t[..width].iter().copied()).collect(),
            _ => frames.flat_map(|t| pool(&t[prefix * width..], grid, self.cells(grid), width)).collect(),
        }
    }
}

fn option(key: &'static str, value: impl ToString, reason: String) -> VitError {
    VitError::Option { key, value: value.to_string(), reason }
}

/// Index of the chosen block; negative ones count from the end.
fn block(config: &VitConfig, spec: &VitSpec) -> Result<usize, VitError> {
    let depth = spec.depth as i64;
    let index = if config.block < 0 { config.block + depth } else { config.block };
    if (0..depth).contains(&index) {
        return Ok(index as usize);
    }
    Err(option("block", config.block, format!("the trunk has blocks 0 to {}", depth - 1)))
}

/// The blocks that train: the last of those in use, which end with `vit.block`; none if the trunk is frozen.
pub fn trainable_blocks(config: &VitConfig, spec: &VitSpec) -> Result<Range<usize>, VitError> {
    let used = block(config, spec)? + 1;
    match config.trainable_blocks {
        TrainableBlocks::All => Ok(0..used),
        TrainableBlocks::Last(count) if count <= used => Ok(used - count..used),
        TrainableBlocks::Last(count) => {
            let reason = format!("blocks 0 to {} are in use (vit.block); use 0 to {used}, or all", used - 1);
            Err(option("trainable_blocks", count, reason))
        }
    }
}

/// Rows and columns of the patches of a frame [height, width, 3], or [height, width, 1] of greys.
pub(super) fn grid(config: &VitConfig, spec: &VitSpec, frame: &Space) -> Result<(usize, usize), VitError> {
    let [height, width, 1 | 3] = frame.shape[..] else {
        let reason = format!(
            "the ViT needs frames [height, width, 3] or of greys [height, width, 1], this one is {:?}",
            frame.shape
        );
        return Err(option("weights", &config.weights, reason));
    };
    let size = fixed_size(config, spec)?.unwrap_or_else(|| whole_patches((height, width), spec.patch));
    Ok((size.0 / spec.patch, size.1 / spec.patch))
}

/// Features in float16, as they are recorded: to the nearest, so that a number x is off by at most 2^-11 |x|, or by 2^-25 where
/// that is less than float16's smallest step. What float16 does not hold (magnitudes from 65,520, infinity, not a number) is
/// refused: the final norm of a sound trunk gives nothing near it, nor do hidden states.
pub fn round_features(features: &[f32]) -> Result<Vec<f16>, VitError> {
    let round = |(i, &x): (usize, &f32)| {
        let rounded = f16::from_f32(x);
        if rounded.is_finite() { Ok(rounded) } else { Err(VitError::Range { index: i, value: x }) }
    };
    features.iter().enumerate().map(round).collect()
}

/// From frames of bytes to features, as `[vit]` says.
pub struct Features {
    /// None if features are replaced by zeros.
    trunk: Option<Vit>,
    /// How many blocks are frozen, where others train: their hidden states are what is recorded.
    frozen: Option<usize>,
    spec: VitSpec,
    /// What frames are resized to; none: to the nearest whole patches.
    size: Option<(usize, usize)>,
    block: usize,
    pool: Pool,
}

impl Features {
    /// Built once per process; takes no weights if the features are replaced by zeros, and none of the blocks that train.
    pub fn new(config: &VitConfig, spec: &VitSpec, source: &dyn Source, threads: usize) -> Result<Self, VitError> {
        let trained = trainable_blocks(config, spec)?;
        let frozen = (!trained.is_empty()).then_some(trained.start);
        let products = config.products();
        let trunk = match (config.features.as_str(), frozen) {
            ("pretrained" | "random", None) => Some(Vit::new(spec, source, threads, products)?),
            ("pretrained" | "random", Some(blocks)) => Some(Vit::until(spec, blocks, source, threads, products)?),
            ("zero", _) => None,
            (other, _) => return Err(option("features", other, "use `pretrained`, `random` or `zero`".into())),
        };
        let (block, pool) = (block(config, spec)?, Pool::parse(config, spec)?);
        Ok(Self { trunk, frozen, spec: spec.clone(), size: fixed_size(config, spec)?, block, pool })
    }

    /// Numbers per pooled token, F.
    pub fn width(&self) -> usize {
        self.spec.width
    }

    /// What is recorded of RGB frames [n, height, width, 3], or of greys [n, height, width, 1], each of which counts as a colour:
    /// features [n, P, F], after the final norm whichever block is chosen; or where blocks train, the hidden states of all tokens
    /// before them, [n, prefix + patches, F]. Panics if the bytes do not match the sizes.
    pub fn encode(&self, frames: &[u8], n: usize, height: usize, width: usize) -> Vec<f32> {
        let pixels = n * height * width;
        let coloured: Vec<u8>;
        let frames = if frames.len() == pixels {
            coloured = frames.iter().flat_map(|grey| [*grey; 3]).collect();
            &coloured
        } else {
            frames
        };
        assert_eq!(frames.len(), 3 * pixels, "bytes do not match {n} frames of {height} x {width} in colour or grey");
        let size = self.size.unwrap_or_else(|| whole_patches((height, width), self.spec.patch));
        let grid = (size.0 / self.spec.patch, size.1 / self.spec.patch);
        let cells = self.pool.cells(grid);
        let Some(trunk) = &self.trunk else { return vec![0.0; n * cells.0 * cells.1 * self.spec.width] };
        let pixels = normalise(frames, (height, width), size, self.spec.pixels);
        let images = Images { pixels: &pixels, n, height: size.0, width: size.1 };
        match self.frozen {
            Some(blocks) => trunk.hidden(images, blocks),
            None => {
                let tokens = trunk.tokens(images, self.block, true);
                self.pool.apply(&tokens, self.spec.prefix(), grid, self.spec.width)
            }
        }
    }
}

/// Means over the cells of a grid: [grid.0, grid.1, width] to [cells.0, cells.1, width]. Cells share patches where the
/// grid does not divide.
fn pool(patches: &[f32], grid: (usize, usize), cells: (usize, usize), width: usize) -> Vec<f32> {
    let span = |i: usize, from: usize, to: usize| i * from / to..((i + 1) * from).div_ceil(to);
    let mut out = vec![0.0; cells.0 * cells.1 * width];
    for (i, cell) in out.chunks_exact_mut(width).enumerate() {
        let (rows, cols) = (span(i / cells.1, grid.0, cells.0), span(i % cells.1, grid.1, cells.1));
        let share = 1.0 / (rows.len() * cols.len()) as f32;
        for index in rows.flat_map(|r| cols.clone().map(move |c| r * grid.1 + c)) {
            let patch = &patches[index * width..(index + 1) * width];
            cell.iter_mut().zip(patch).for_each(|(o, x)| *o += share * x);
        }
    }
    out
}

/// The space of what is recorded of a frame: f16, features [P, F]; or where blocks train, hidden states [prefix + patches, F].
pub fn features_space(config: &VitConfig, spec: &VitSpec, frame: &Space) -> Result<Space, VitError> {
    let grid = grid(config, spec, frame)?;
    let tokens = match trainable_blocks(config, spec)?.is_empty() {
        true => {
            let cells = Pool::parse(config, spec)?.cells(grid);
            cells.0 * cells.1
        }
        false => spec.prefix() + grid.0 * grid.1,
    };
    Ok(Space { dtype: DType::F16, ..Space::vector(&[tokens, spec.width]) })
}

/// What the agent sees of an environment's observations: each image `key` becomes `vit/key`; the image itself stays
/// beside it only where the decoder needs it (`decode` is `image` or `both`).
pub fn agent_spaces(observed: &Spaces, config: &VitConfig, spec: &VitSpec) -> Result<Spaces, VitError> {
    let keep = match config.decode.as_str() {
        "features" => false,
        "image" | "both" => true,
        other => return Err(option("decode", other, "use `features`, `image` or `both`".into())),
    };
    let mut seen = Spaces::new();
    for (key, space) in observed {
        if space.is_image() {
            seen.insert(format!("vit/{key}"), features_space(config, spec, space)?);
        }
        if !space.is_image() || keep {
            seen.insert(key.clone(), space.clone());
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::array::Array;
    use crate::dreamer::Standardize;
    use crate::params::{Create, Params, Scope};

    proptest! {
        #[test]
        fn recorded_features_are_as_near_as_promised(
            x in prop::collection::vec(-65504.0f32..=65504.0, 1..20),
            power in -12..=0i32,
        ) {
            let x: Vec<f32> = x.iter().map(|x| x * 10f32.powi(power)).collect();
            for (x, rounded) in x.iter().zip(round_features(&x).unwrap()) {
                let error = (f64::from(*x) - f64::from(rounded.to_f32())).abs();
                prop_assert!(error <= (f64::from(x.abs()) * 2f64.powi(-11)).max(2f64.powi(-25)), "{x} {rounded}");
            }
        }

        #[test]
        fn standardising_scales_the_error_by_the_deviation(
            x in prop::collection::vec(-100.0f32..100.0, 6),
            mean in -50.0f32..50.0,
            deviation in 0.01f32..10.0,
        ) {
            let params = Params::<Create>::new(0);
            let statistics = [("mean", Array::f32(&[6], &[mean; 6])), ("scale", Array::f32(&[6], &[1.0 / deviation; 6]))];
            params.put(statistics.map(|(key, array)| (key.to_string(), array)).into(), "seen").unwrap();
            let space = Space { dtype: DType::F16, ..Space::vector(&[1, 6]) };
            let standardize = Standardize::new(&Scope::root(&params).sub("seen"), &space, 0).unwrap();
            let recorded = Array::f16(&[1, 1, 6], &round_features(&x).unwrap());
            let found = standardize.forward(&recorded, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (x, found) in x.iter().zip(found) {
                let error = (f64::from(x - mean) / f64::from(deviation) - f64::from(found)).abs();
                // On top, more than float32 adds to differences of up to 150.
                let promised = ((x.abs() * 2f32.powi(-11)).max(2f32.powi(-25)) + 1e-4) / deviation;
                prop_assert!(error <= f64::from(promised), "{x} {found} {error} {promised}");
            }
        }
    }

    #[test]
    fn what_float16_does_not_hold_is_refused_with_its_place() {
        assert_eq!(round_features(&[65504.0, -65519.0]).unwrap(), [f16::MAX, f16::MIN]);
        for bad in [65520.0, -1e9, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let error = round_features(&[0.0, 1.0, bad]).unwrap_err();
            assert!(matches!(error, VitError::Range { index: 2, .. }), "{error}");
            assert!(error.to_string().contains(&bad.to_string()), "{error}");
        }
    }
}
