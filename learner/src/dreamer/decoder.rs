//! Decoder: vectors, features and images from the latent state, with their losses (official `rssm.py`, Decoder).

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor};
use shared::config::{AgentConfig, DecSimpleConfig};
use shared::dreamer::inputs::{self, Columns};
use shared::dreamer::{Inputs, Standardize};
use shared::env::{Space, Spaces};
use shared::kernels::math::{softmax, symlog};
use shared::kernels::{self, Precision, RowLoss, plain, read, row_loss, upsample2};
#[cfg(target_arch = "x86_64")]
use shared::kernels::{conv_grow::doubled_stages, conv_shrink::Stage};
use shared::nn::{BlockLinear, Conv2d, Linear, Mlp, Norm, Step, Style};
use shared::params::{ParamError, Scope, Source};

/// What it costs to predict the mean of one camera's features, whatever the pooling, the grid and the number of components:
/// their loss is this times the mean of the squared errors, and standardised features have deviation 1. As much as the mean of
/// a 64 x 64 x 3 frame costs whose values (0 to 1) deviate by 0.18: the scales of the other losses are the official ones, which
/// were chosen beside the loss of such frames. A sum over all numbers would be 9,600 for 25 tokens of 384.
pub const FEATURES_LOSS: f32 = 400.0;

/// Raw predictions by key: vectors in symlog space (logits if discrete), features standardised, images before the sigmoid.
pub type Recon = BTreeMap<String, Tensor>;

/// From latent states to observations.
pub struct Decoder {
    symlog: bool,
    mlp: Option<Mlp>,
    vectors: BTreeMap<String, (Space, Linear)>,
    features: BTreeMap<String, Linear>,
    images: Vec<(String, Space)>,
    image: Option<ImageDecoder>,
}

/// Widths of the latent state.
#[derive(Clone, Copy)]
pub struct Latent {
    /// Numbers in deter.
    pub deter: usize,
    /// Numbers in stoch, flat.
    pub stoch: usize,
}

impl Decoder {
    /// Modules below `dec`. An image is predicted where its frames are recorded, features where the config asks for them.
    pub fn new(
        source: &dyn Source,
        config: &AgentConfig,
        spaces: &Spaces,
        latent: Latent,
    ) -> std::result::Result<Self, ParamError> {
        let scope = Scope::root(source).sub("dec");
        let (precision, enc) = (config.precision(), &config.enc.simple);
        let config = &config.dec.simple;
        let observed = inputs::observed(spaces);
        let vector_spaces = || observed.iter().filter(|(_, s)| inputs::is_vector(s));
        let feature_spaces = || observed.iter().filter(|(_, s)| config.features && inputs::is_features(s));
        let style = Style::new(&config.act, &config.norm, &config.winit)?.at(precision);
        let mlp = match vector_spaces().count() + feature_spaces().count() {
            0 => None,
            _ => Some(Mlp::head(&scope.sub("mlp"), &style, latent.deter + latent.stoch, config.units, config.layers)?),
        };
        let units = mlp.as_ref().map_or(0, Mlp::width);
        let head = |group: &str, key: &str, name: &str, width: usize| {
            Linear::new(&scope.sub(group).sub(key).sub(name), &style, units, width, config.outscale)
        };
        let mut vectors = BTreeMap::new();
        for (key, space) in vector_spaces() {
            let name = if space.is_discrete() { "logits" } else { "pred" };
            vectors.insert(key.to_string(), ((*space).clone(), head("vec", key, name, space.width())?));
        }
        let mut features = BTreeMap::new();
        for (key, space) in feature_spaces() {
            let short = key.trim_start_matches("vit/");
            let seen = Scope::root(source).sub("enc").sub("features").sub(short);
            let width = Standardize::new(&seen, &enc.features_space(key, space)?, enc.reduce)?.width();
            features.insert(key.to_string(), head("features", short, "pred", width)?);
        }
        let mut images: Vec<_> =
            spaces.iter().filter(|(_, s)| s.is_image()).map(|(k, s)| (k.clone(), s.clone())).collect();
        images.sort_by_key(|(key, _)| config.images.iter().position(|name| name == key));
        let image = match images.is_empty() {
            true => None,
            false => Some(ImageDecoder::new(&scope, config, &style, &images, latent)?),
        };
        Ok(Self { symlog: config.symlog, mlp, vectors, features, images, image })
    }

    /// Raw predictions for deter [N, D] and flat stoch [N, S].
    pub fn forward(&self, deter: &Tensor, stoch: &Tensor) -> Result<Recon> {
        let mut recon = Recon::new();
        if let Some(mlp) = &self.mlp {
            let x = mlp.forward(&Tensor::cat(&[stoch, deter], 1)?)?;
            for (key, linear) in self.vectors.iter().map(|(k, (_, l))| (k, l)).chain(&self.features) {
                recon.insert(key.clone(), linear.forward(&x)?);
            }
        }
        if let Some(image) = &self.image {
            let x = image.forward(deter, stoch)?;
            let mut start = 0;
            for (key, space) in &self.images {
                recon.insert(key.clone(), x.narrow(3, start, space.shape[2])?.contiguous()?);
                start += space.shape[2];
            }
        }
        Ok(recon)
    }

    /// Keys of the images that are predicted.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(|(key, _)| key.as_str())
    }

    /// Loss per step [N] by key.
    pub fn losses(&self, recon: &Recon, obs: &Columns, inputs: &Inputs) -> Result<BTreeMap<String, RowLoss>> {
        let loss = |(key, pred): (&String, &Tensor)| {
            let loss = match (self.vectors.get(key), inputs.features.get(key)) {
                (Some((space, _)), _) => self.vector_loss(key, space, pred, obs)?,
                (None, Some(target)) => features_loss(pred, target)?,
                (None, None) => image_loss(pred, &inputs::column(obs, key)?.bytes)?,
            };
            Ok((key.clone(), loss))
        };
        recon.iter().map(loss).collect()
    }

    fn vector_loss(&self, key: &str, space: &Space, pred: &Tensor, obs: &Columns) -> Result<RowLoss> {
        let target = inputs::column(obs, key)?.to_f32();
        let Some(classes) = space.classes else {
            let target: Vec<f32> = if self.symlog { target.into_iter().map(symlog).collect() } else { target };
            if plain(pred) {
                return squared_errors(pred, &Tensor::from_vec(target, pred.shape(), pred.device())?, 1.0);
            }
            return squared_error(pred, &target, 1.0);
        };
        row_loss(pred, space.width(), |n, row, grad| {
            let elements = row.chunks_exact(classes).zip(grad.chunks_exact_mut(classes)).enumerate();
            let one = |(i, (row, grad)): (usize, (&[f32], &mut [f32]))| {
                let class = target[n * space.elements() + i].max(0.0) as usize;
                let log_sum = softmax(row, grad);
                grad[class] -= 1.0;
                log_sum - row[class]
            };
            elements.map(one).sum()
        })
    }
}

/// [`FEATURES_LOSS`] times the mean of squared differences per row.
fn features_loss(pred: &Tensor, target: &Tensor) -> Result<RowLoss> {
    let factor = FEATURES_LOSS / pred.dim(1)? as f32;
    match plain(pred) {
        true => squared_errors(pred, target, factor),
        false => read(target, |target| squared_error(pred, target, factor))?,
    }
}

/// `factor` times the sum of squared differences per row, without a factor of 1/2.
fn squared_error(pred: &Tensor, target: &[f32], factor: f32) -> Result<RowLoss> {
    let columns = pred.dim(1)?;
    row_loss(pred, columns, |n, row, grad| {
        let target = &target[n * columns..][..columns];
        grad.iter_mut().zip(row).zip(target).for_each(|((g, p), t)| *g = 2.0 * factor * (p - t));
        factor * row.iter().zip(target).map(|(p, t)| (p - t) * (p - t)).sum::<f32>()
    })
}

/// The same by tensor operations.
fn squared_errors(pred: &Tensor, target: &Tensor, factor: f32) -> Result<RowLoss> {
    RowLoss::of(&((pred - target)?.sqr()?.flatten_from(1)?.sum(1)? * f64::from(factor))?)
}

/// Sum over pixels of (sigmoid(pred) - byte / 255)^2.
fn image_loss(pred: &Tensor, bytes: &[u8]) -> Result<RowLoss> {
    if plain(pred) {
        let target = Tensor::from_slice(bytes, pred.shape(), pred.device())?.to_dtype(DType::F32)?;
        return squared_errors(&plain::sigmoid(pred)?, &(target / 255.0)?, 1.0);
    }
    let pixels: usize = pred.dims()[1..].iter().product();
    row_loss(pred, pixels, |n, row, grad| kernels::image_loss(row, &bytes[n * pixels..][..pixels], grad))
}

struct ImageDecoder {
    sides: [usize; 2],
    depth: usize,
    blocks: usize,
    from_deter: BlockLinear,
    from_stoch: (Linear, Norm, Linear),
    norm: Norm,
    stages: Vec<(Conv2d, Norm)>,
    /// Whether pixels are repeated before a convolution that grows its image; else the convolution itself grows it.
    repeat: bool,
    /// Whether the last convolution keeps the sides.
    outer: bool,
    out: Conv2d,
    precision: Precision,
}

impl ImageDecoder {
    fn new(
        scope: &Scope,
        config: &DecSimpleConfig,
        style: &Style,
        images: &[(String, Space)],
        latent: Latent,
    ) -> std::result::Result<Self, ParamError> {
        let depths: Vec<usize> = config.mults.iter().map(|m| m * config.depth).collect();
        let (factor, depth) = (config.factor(), depths[depths.len() - 1]);
        let sides = [images[0].1.shape[0] / factor, images[0].1.shape[1] / factor];
        if images.iter().any(|(_, s)| [s.shape[0], s.shape[1]] != sides.map(|m| m * factor)) {
            let message = format!("decoded images must share sides that are multiples of {factor}; got {images:?}");
            return Err(candle_core::Error::Msg(message).into());
        }
        let units = sides[0] * sides[1] * depth;
        let step = if config.strided { Step::Double } else { Step::Same };
        let mut stages = vec![];
        let mut channels = depth;
        for i in (0..depths.len() - 1).rev() {
            let [conv, norm] = [format!("conv{i}"), format!("conv{i}norm")].map(|name| scope.sub(&name));
            let conv = Conv2d::new(&conv, style, config.kernel, [channels, depths[i]], step, 1.0)?;
            stages.push((conv, Norm::new(&norm, style, depths[i])?));
            channels = depths[i];
        }
        let outputs = images.iter().map(|(_, s)| s.shape[2]).sum();
        let last = if config.outer { Step::Same } else { step };
        let linear = |name: &str, inputs, outputs| Linear::new(&scope.sub(name), style, inputs, outputs, 1.0);
        Ok(Self {
            sides,
            depth,
            blocks: config.bspace,
            from_deter: BlockLinear::new(&scope.sub("sp0"), style, latent.deter, units, config.bspace)?,
            from_stoch: (
                linear("sp1", latent.stoch, 2 * config.units)?,
                Norm::new(&scope.sub("sp1norm"), style, 2 * config.units)?,
                linear("sp2", 2 * config.units, units)?,
            ),
            norm: Norm::new(&scope.sub("spnorm"), style, depth)?,
            stages,
            repeat: !config.strided,
            outer: config.outer,
            precision: style.precision,
            out: Conv2d::new(&scope.sub("imgout"), style, config.kernel, [channels, outputs], last, config.outscale)?,
        })
    }

    /// All convolutions at once; none if the fused kernel does not know them.
    #[cfg(target_arch = "x86_64")]
    fn fused(&self, x: &Tensor) -> Result<Option<Tensor>> {
        if !self.repeat || self.outer || self.precision == Precision::Bfloat16 || plain(x) {
            return Ok(None);
        }
        fn stage((conv, norm): &(Conv2d, Norm)) -> Option<Stage<'_>> {
            let ((kernel, bias), (scale, eps)) = (conv.weights()?, norm.rms_silu()?);
            Some(Stage { kernel, bias, scale, eps })
        }
        match (self.stages.iter().map(stage).collect::<Option<Vec<_>>>(), self.out.weights()) {
            (Some(stages), Some(last)) => doubled_stages(x, &stages, last, self.precision),
            _ => Ok(None),
        }
    }

    /// Images before the sigmoid, [N, H, W, C].
    fn forward(&self, deter: &Tensor, stoch: &Tensor) -> Result<Tensor> {
        let (rows, [h, w], g) = (deter.dim(0)?, self.sides, self.blocks);
        let spatial = self.from_deter.forward(deter)?.reshape((rows, g, h, w, self.depth / g))?;
        let spatial = spatial.permute((0, 2, 3, 1, 4))?.contiguous()?.reshape((rows, h, w, self.depth))?;
        let (first, norm, second) = &self.from_stoch;
        let mixed = second.forward(&norm.forward(&first.forward(stoch)?)?)?.reshape((rows, h, w, self.depth))?;
        let x = self.norm.forward(&(spatial + mixed)?)?;
        #[cfg(target_arch = "x86_64")]
        if let Some(images) = self.fused(&x)? {
            return Ok(images);
        }
        let grown = |x: Tensor, repeat: bool| if repeat { upsample2(&x) } else { Ok(x) };
        let stage = |x: Tensor, (conv, norm): &(Conv2d, Norm)| norm.forward(&conv.forward(&grown(x, self.repeat)?)?);
        let x = self.stages.iter().try_fold(x, stage)?;
        self.out.forward(&grown(x, self.repeat && !self.outer)?)
    }
}
