//! The forward pass, over weights read in place.

use std::collections::HashMap;
use std::sync::Arc;

use multiversion::multiversion;
use parking_lot::Mutex;

use super::resample::resize;
use super::spec::{Activation, Positions};
use super::{PREFIX, PRODUCTS, Tree, VitError, VitSpec};
use crate::kernels::factor::{BAND, Linear, Rows, each, laid_out, laid_out_len};
use crate::kernels::{Precision, attention::attention, gelu, layer_norm::layer_norm, rotary};
use crate::params::{Init, Mapped, ParamError, Scope, Source, Weight};

/// Values of one weight: in place where it is mapped, a copy where it is a variable.
pub(super) enum Values {
    Mapped(Mapped),
    Copied(Vec<f32>),
}

impl Values {
    pub fn of(weight: &Weight) -> Result<Self, ParamError> {
        Ok(match weight {
            Weight::Mapped(mapped) => Values::Mapped(mapped.clone()),
            weight => Values::Copied(weight.to_vec()?),
        })
    }

    fn get(&self) -> &[f32] {
        match self {
            Values::Mapped(mapped) => mapped.values(),
            Values::Copied(values) => values,
        }
    }
}

/// Scale and bias of a norm, scales of the two branches, or kernel and bias of a projection that trains.
pub(super) struct Pair<T = Values>(pub T, pub T);

pub(super) struct Projection {
    /// As it is, or laid out for products in another precision.
    kernel: Values,
    bias: Values,
    precision: Precision,
}

impl Projection {
    fn linear(&self) -> Linear<'_> {
        Linear { kernel: self.kernel.get(), bias: self.bias.get(), precision: self.precision }
    }
}

/// Kernels of projections laid out for products in this precision, by their paths: what stands beside the trunk's weights, below
/// [`PRODUCTS`], for [`Vit::new`]. Empty if products take the kernels as they are.
pub fn products(tree: &Tree, precision: Precision) -> Vec<(String, Vec<f32>)> {
    let kernels = tree.iter().filter(|(path, _)| path.ends_with("/kernel"));
    let laid_out = |(path, (shape, values)): (&String, &(Vec<usize>, Vec<f32>))| {
        let outputs = shape.last().copied().unwrap_or(1);
        Some((path.clone(), laid_out(values, outputs, precision)?))
    };
    kernels.filter_map(laid_out).collect()
}

/// The parameters of a block: values, or as [`TrainedBlock`] handles that gradients can reach.
pub(super) struct Block<N = Pair, P = Projection> {
    pub norm1: N,
    pub qkv: P,
    pub proj: P,
    pub norm2: N,
    pub fc1: P,
    pub fc2: P,
    /// Of both residual branches.
    pub scales: Option<N>,
}

pub(super) type TrainedBlock = Block<Pair<Weight>, Pair<Weight>>;

impl Pair<Weight> {
    pub fn values(&self) -> Result<Pair, ParamError> {
        Ok(Pair(Values::of(&self.0)?, Values::of(&self.1)?))
    }

    fn projection(&self) -> Result<Projection, ParamError> {
        let Pair(kernel, bias) = self.values()?;
        Ok(Projection { kernel, bias, precision: Precision::Float32 })
    }
}

impl TrainedBlock {
    /// What the forward pass takes; products are float32, as in the backward pass.
    pub fn values(&self) -> Result<Block, ParamError> {
        Ok(Block {
            norm1: self.norm1.values()?,
            qkv: self.qkv.projection()?,
            proj: self.proj.projection()?,
            norm2: self.norm2.values()?,
            fc1: self.fc1.projection()?,
            fc2: self.fc2.projection()?,
            scales: self.scales.as_ref().map(Pair::values).transpose()?,
        })
    }

    /// Every parameter, always in the same order.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        let pairs = [&self.norm1, &self.qkv, &self.proj, &self.norm2, &self.fc1, &self.fc2];
        pairs.into_iter().chain(&self.scales).flat_map(|pair| [&pair.0, &pair.1])
    }
}

/// Normalised images, [n, height, width, 3] row-major; sides are multiples of the patch.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    /// Pixels after normalisation.
    pub pixels: &'a [f32],
    /// Number of images.
    pub n: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
}

type Places = HashMap<(usize, usize), Arc<Vec<f32>>>;

/// A frozen Vision Transformer, or what of it precedes the blocks that train.
pub struct Vit {
    spec: VitSpec,
    threads: usize,
    cls: Option<Values>,
    pos: Option<Values>,
    registers: Option<Values>,
    patch: Projection,
    pre_norm: Option<Pair>,
    norm: Option<Pair>,
    blocks: Vec<Block>,
    /// By size of the grid in patches: position embeddings of the patches, or the angles of their queries and keys.
    places: Mutex<Places>,
    /// Of an earlier pass: memory that is there already.
    work: Mutex<Work>,
}

/// Takes weights by name, with the shapes and initialisers that the sizes give.
pub(super) struct Taker<'a> {
    scope: Scope<'a>,
    params: HashMap<String, (Vec<usize>, Init)>,
}

impl<'a> Taker<'a> {
    /// `scope` is that of the trunk.
    pub fn new(scope: Scope<'a>, spec: &VitSpec) -> Self {
        let params = spec.params().into_iter().map(|(path, shape, init)| (path, (shape, init))).collect();
        Self { scope, params }
    }

    fn weight(&self, name: &str) -> Result<Weight, ParamError> {
        let Some((shape, init)) = self.params.get(name) else {
            return Err(candle_core::Error::Msg(format!("no parameter `{name}` in this ViT's architecture")).into());
        };
        self.scope.weight(name, shape, *init)
    }

    pub fn pair(&self, first: &str, second: &str) -> Result<Pair<Weight>, ParamError> {
        Ok(Pair(self.weight(first)?, self.weight(second)?))
    }

    pub fn block(&self, i: usize, scaled: bool) -> Result<TrainedBlock, ParamError> {
        let pair = |first: &str, second: &str| self.pair(first, second);
        let projection = |name: &str| self.pair(&format!("{name}/kernel"), &format!("{name}/bias"));
        Block::take(&format!("blocks/{i}"), scaled, pair, projection)
    }
}

/// Takes values, and kernels as they are laid out for products in a precision.
struct FrozenTaker<'a> {
    taker: Taker<'a>,
    products: Scope<'a>,
    precision: Precision,
}

impl<'a> FrozenTaker<'a> {
    fn new(source: &'a dyn Source, spec: &VitSpec, precision: Precision) -> Self {
        let root = Scope::root(source);
        Self { taker: Taker::new(root.sub(PREFIX), spec), products: root.sub(PRODUCTS), precision }
    }

    fn values(&self, name: &str) -> Result<Values, ParamError> {
        Values::of(&self.taker.weight(name)?)
    }

    fn pair(&self, first: &str, second: &str) -> Result<Pair, ParamError> {
        self.taker.pair(first, second)?.values()
    }

    /// What products in the precision take; in float32 where kernels were laid out by a processor of another kind, which a learner on
    /// another host may have.
    fn either<T>(&self, take: impl Fn(Precision) -> Result<T, ParamError>) -> Result<T, ParamError> {
        match take(self.precision) {
            Err(ParamError::Missing { .. } | ParamError::NotInSnapshot { .. } | ParamError::Shape { .. }) => {
                take(Precision::Float32)
            }
            taken => taken,
        }
    }

    fn projection(&self, name: &str, precision: Precision) -> Result<Projection, ParamError> {
        let path = format!("{name}/kernel");
        let bias = self.values(&format!("{name}/bias"))?;
        let outputs = bias.get().len();
        let shape = self.taker.params.get(&path).map(|(shape, _)| shape);
        let inputs = shape.map_or(0, |shape| shape.iter().product::<usize>() / outputs.max(1));
        let (kernel, precision) = match laid_out_len([inputs, outputs], precision) {
            Some(len) => (Values::of(&self.products.weight(&path, &[len], Init::Zeros)?)?, precision),
            None => (self.values(&path)?, Precision::Float32),
        };
        Ok(Projection { kernel, bias, precision })
    }

    fn block(&self, i: usize, scaled: bool) -> Result<Block, ParamError> {
        let pair = |first: &str, second: &str| self.pair(first, second);
        self.either(|precision| {
            Block::take(&format!("blocks/{i}"), scaled, pair, |name| self.projection(name, precision))
        })
    }
}

impl<N, P> Block<N, P> {
    /// Its parts by their names below the trunk.
    fn take(
        at: &str,
        scaled: bool,
        pair: impl Fn(&str, &str) -> Result<N, ParamError>,
        projection: impl Fn(&str) -> Result<P, ParamError>,
    ) -> Result<Self, ParamError> {
        let norm = |name: &str| pair(&format!("{at}/{name}/scale"), &format!("{at}/{name}/bias"));
        let projection = |name: &str| projection(&format!("{at}/{name}"));
        let scales = || pair(&format!("{at}/ls1/scale"), &format!("{at}/ls2/scale"));
        Ok(Self {
            norm1: norm("norm1")?,
            qkv: projection("attn/qkv")?,
            proj: projection("attn/proj")?,
            norm2: norm("norm2")?,
            fc1: projection("mlp/fc1")?,
            fc2: projection("mlp/fc2")?,
            scales: scaled.then(scales).transpose()?,
        })
    }
}

impl Vit {
    /// A trunk of these sizes, its weights taken below [`PREFIX`], and below [`PRODUCTS`] what [`products`] gave for this precision.
    /// Above one thread, rayon's pool is used.
    pub fn new(spec: &VitSpec, source: &dyn Source, threads: usize, precision: Precision) -> Result<Self, VitError> {
        let vit = Self::until(spec, spec.depth, source, threads, precision)?;
        let norm = FrozenTaker::new(source, spec, precision).pair("norm/scale", "norm/bias")?;
        Ok(Self { norm: Some(norm), ..vit })
    }

    /// Only the embedding and the first `blocks` blocks, without the final norm.
    pub fn until(
        spec: &VitSpec,
        blocks: usize,
        source: &dyn Source,
        threads: usize,
        precision: Precision,
    ) -> Result<Self, VitError> {
        spec.validate()?;
        let learned = matches!(spec.positions, Positions::Learned { .. });
        let taker = FrozenTaker::new(source, spec, precision);
        Ok(Self {
            cls: spec.class_token.then(|| taker.values("cls")).transpose()?,
            pos: learned.then(|| taker.values("pos")).transpose()?,
            registers: (spec.registers > 0).then(|| taker.values("registers")).transpose()?,
            patch: taker.either(|precision| taker.projection("patch", precision))?,
            pre_norm: spec.pre_norm.then(|| taker.pair("pre_norm/scale", "pre_norm/bias")).transpose()?,
            norm: None,
            blocks: (0..blocks).map(|i| taker.block(i, spec.layer_scale)).collect::<Result<_, _>>()?,
            places: Mutex::default(),
            work: Mutex::default(),
            spec: spec.clone(),
            threads,
        })
    }

    /// Sizes of this trunk.
    pub fn spec(&self) -> &VitSpec {
        &self.spec
    }

    /// Hidden states after block `block` (from 0; later blocks are not run), with the final norm if `normed`:
    /// [n, prefix + patches, width], class token first, then registers, then patches row by row.
    ///
    /// Panics if pixels and sizes do not match, a side is no multiple of the patch, or there is no such block or norm.
    pub fn tokens(&self, images: Images, block: usize, normed: bool) -> Vec<f32> {
        let x = self.hidden(images, block + 1);
        if normed {
            let norm = self.norm.as_ref().expect("this part of a trunk has a final norm");
            let mut normed = vec![0.0; x.len()];
            norm.layer_norm(&x, self.spec.eps, &mut normed);
            return normed;
        }
        x
    }

    /// Hidden states after the first `blocks` blocks, none of them included, without the final norm; see [`Vit::tokens`].
    pub fn hidden(&self, images: Images, blocks: usize) -> Vec<f32> {
        let p = self.spec.patch;
        let grid = (images.height / p, images.width / p);
        assert_eq!((grid.0 * p, grid.1 * p), (images.height, images.width), "sides are no multiples of the patch {p}");
        let places = self.places(grid);
        let mut work = std::mem::take(&mut *self.work.lock());
        let mut x = self.embed(images, &places, &mut work);
        let tokens = x.len() / (images.n * self.spec.width).max(1);
        for block in &self.blocks[..blocks] {
            block.run(&self.spec, self.threads, &mut x, tokens, &places, &mut work);
        }
        *self.work.lock() = work;
        x
    }

    fn embed(&self, images: Images, places: &[f32], work: &mut Work) -> Vec<f32> {
        let w = self.spec.width;
        assert_eq!(images.pixels.len(), images.n * images.height * images.width * 3, "pixels do not match the sizes");
        let patches = images.height * images.width / self.spec.patch.pow(2);
        let mut embedded = vec![0.0; images.n * patches * w];
        work.normed.resize(images.n * patches, 3 * self.spec.patch.pow(2), self.patch.precision);
        work.normed.set(&unfold(images, self.spec.patch), self.threads);
        self.patch.linear().apply(&work.normed, &mut embedded, self.threads);
        if self.pos.is_some() {
            embedded.chunks_exact_mut(patches * w).for_each(|frame| add(frame, places, None));
        }
        let prefix = self.prefix_tokens();
        let mut x = Vec::with_capacity(images.n * (self.spec.prefix() + patches) * w);
        for frame in embedded.chunks_exact(patches * w) {
            x.extend_from_slice(&prefix);
            x.extend_from_slice(frame);
        }
        if let Some(norm) = &self.pre_norm {
            let mut normed = vec![0.0; x.len()];
            norm.layer_norm(&x, self.spec.eps, &mut normed);
            return normed;
        }
        x
    }

    /// Class token and registers, with their position embeddings where they have one.
    fn prefix_tokens(&self) -> Vec<f32> {
        let values = |part: &Option<Values>| part.as_ref().map_or(vec![], |part| part.get().to_vec());
        let mut prefix = [values(&self.cls), values(&self.registers)].concat();
        if let (Some(pos), Positions::Learned { prefix: positioned, .. }) = (&self.pos, self.spec.positions) {
            prefix.iter_mut().zip(&pos.get()[..positioned * self.spec.width]).for_each(|(x, p)| *x += p);
        }
        prefix
    }

    /// Position embeddings of a grid's patches, or the angles of their queries and keys.
    fn places(&self, to: (usize, usize)) -> Arc<Vec<f32>> {
        let (w, heads) = (self.spec.width, self.spec.heads);
        let compute = || match (self.spec.positions, &self.pos) {
            (Positions::Learned { grid, prefix, filter }, Some(pos)) => {
                resize(&pos.get()[prefix * w..], (grid, grid), to, w, filter)
            }
            (Positions::Rotary { theta }, _) => rotary::angles(to, w / heads, theta),
            (Positions::Learned { .. }, None) => vec![],
        };
        self.places.lock().entry(to).or_insert_with(|| Arc::new(compute())).clone()
    }
}

impl Pair {
    /// LayerNorm of rows `x` into `out`, with this scale and bias.
    pub fn layer_norm(&self, x: &[f32], eps: f32, out: &mut [f32]) {
        layer_norm(x, self.0.get(), self.1.get(), eps, out);
    }
}

impl Block {
    /// The block on hidden states `x` [N, tokens, width], in place. `places`: the angles of queries and keys, if they are turned.
    pub fn run(&self, spec: &VitSpec, threads: usize, x: &mut [f32], tokens: usize, places: &[f32], work: &mut Work) {
        let (w, heads, eps) = (spec.width, spec.heads, spec.eps);
        work.resize(spec, x.len() / w, self.qkv.precision);
        let size = work.normed.block(threads) * w;
        let Work { normed, attended, hidden, qkv, mixed } = work;
        let scales = self.scales.as_ref();

        let blocks = x.chunks(size).zip(mixed.chunks_mut(size)).zip(normed.blocks(threads)).collect();
        each(blocks, threads, |((x, mixed), mut normed)| {
            let bands = x.chunks(BAND * w).zip(mixed.chunks_mut(BAND * w)).zip(normed.bands(w));
            bands.for_each(|((x, mixed), mut normed)| normed.fill(mixed, |out| self.norm1.layer_norm(x, eps, out)));
        });
        self.qkv.linear().apply(normed, qkv, threads);
        if matches!(spec.positions, Positions::Rotary { .. }) {
            rotary::rotate(qkv, places, tokens, w, heads);
        }
        attention(qkv, mixed, tokens, w, heads, threads);
        attended.set(mixed, threads);
        let targets = x.chunks_mut(size).zip(normed.blocks(threads));
        self.proj.linear().then(attended, targets, threads, |(x, mut normed), branch| {
            let bands = x.chunks_mut(BAND * w).zip(branch.chunks_mut(BAND * w)).zip(normed.bands(w));
            bands.for_each(|((x, branch), mut normed)| {
                add(x, branch, scales.map(|s| s.0.get()));
                self.norm2.layer_norm(x, eps, branch);
                normed.set(branch);
            });
        });

        if spec.gated {
            self.fc1.linear().then(normed, hidden.blocks(threads), threads, |mut hidden, branch| {
                hidden.set(gate(spec.activation, spec.mlp, branch));
            });
        } else {
            self.fc1.linear().fill(normed, hidden, threads, |branch| activate(spec.activation, branch));
        }
        self.fc2.linear().then(hidden, x.chunks_mut(size), threads, |x, branch| {
            add(x, branch, scales.map(|s| s.1.get()));
        });
    }
}

/// [rows, 2 * units] to [rows, units]: each row's second half times its first half after the nonlinearity. What it gives is where the
/// first rows were.
fn gate(activation: Activation, units: usize, hidden: &mut [f32]) -> &[f32] {
    let rows = hidden.len() / (2 * units);
    for row in 0..rows {
        let (gates, values) = hidden[2 * units * row..][..2 * units].split_at_mut(units);
        activate(activation, gates);
        gates.iter_mut().zip(values).for_each(|(gate, x)| *gate *= *x);
        hidden.copy_within(2 * units * row..2 * units * row + units, units * row);
    }
    &hidden[..rows * units]
}

fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Gelu => gelu::gelu(values),
        Activation::GeluTanh => gelu::gelu_tanh(values),
        Activation::QuickGelu => gelu::swish(values, 1.702),
        Activation::Silu => gelu::swish(values, 1.0),
        Activation::Relu => values.iter_mut().for_each(|x| *x = x.max(0.0)),
    }
}

/// Buffers that every block reuses.
#[derive(Default)]
pub(super) struct Work {
    /// Hidden states after a norm.
    normed: Rows,
    attended: Rows,
    /// Between the MLP's two products.
    hidden: Rows,
    qkv: Vec<f32>,
    /// What becomes `normed` or `attended`.
    mixed: Vec<f32>,
}

impl Work {
    /// For so many rows of hidden states.
    fn resize(&mut self, spec: &VitSpec, rows: usize, precision: Precision) {
        self.normed.resize(rows, spec.width, precision);
        self.attended.resize(rows, spec.width, precision);
        self.hidden.resize(rows, spec.mlp, precision);
        self.qkv.resize(3 * rows * spec.width, 0.0);
        self.mixed.resize(rows * spec.width, 0.0);
    }
}

/// `x += scale * branch`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn add(x: &mut [f32], branch: &[f32], scale: Option<&[f32]>) {
    let Some(scale) = scale else {
        x.iter_mut().zip(branch).for_each(|(x, b)| *x += b);
        return;
    };
    for (x, branch) in x.chunks_exact_mut(scale.len()).zip(branch.chunks_exact(scale.len())) {
        x.iter_mut().zip(branch).zip(scale).for_each(|((x, b), s)| *x += b * s);
    }
}

/// Patches as rows: [n * patches, patch * patch * 3], pixels in the order of the patch kernel's [kh, kw, in].
fn unfold(images: Images, patch: usize) -> Vec<f32> {
    let (line, run) = (images.width * 3, patch * 3);
    let mut rows = Vec::with_capacity(images.pixels.len());
    for strip in images.pixels.chunks_exact((line * patch).max(1)) {
        for column in 0..images.width / patch {
            for pixels in strip.chunks_exact(line) {
                rows.extend_from_slice(&pixels[column * run..(column + 1) * run]);
            }
        }
    }
    rows
}
