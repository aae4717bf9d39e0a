//! The forward pass, over weights read in place.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::resample::resize;
use super::spec::{Activation, Positions};
use super::{PREFIX, VitError, VitSpec};
use crate::kernels::{attention::attention, gelu, layer_norm::layer_norm, matmul::linear, rotary};
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

/// Kernel and bias of a projection, or scale and bias of a norm.
pub(super) struct Pair<T = Values>(pub T, pub T);

/// The parameters of a block: handles that gradients can reach, or values.
pub(super) struct Block<T = Values> {
    pub norm1: Pair<T>,
    pub qkv: Pair<T>,
    pub proj: Pair<T>,
    pub norm2: Pair<T>,
    pub fc1: Pair<T>,
    pub fc2: Pair<T>,
    /// Of both residual branches.
    pub scales: Option<Pair<T>>,
}

impl Pair<Weight> {
    pub fn values(&self) -> Result<Pair, ParamError> {
        Ok(Pair(Values::of(&self.0)?, Values::of(&self.1)?))
    }
}

impl Block<Weight> {
    pub fn values(&self) -> Result<Block, ParamError> {
        Ok(Block {
            norm1: self.norm1.values()?,
            qkv: self.qkv.values()?,
            proj: self.proj.values()?,
            norm2: self.norm2.values()?,
            fc1: self.fc1.values()?,
            fc2: self.fc2.values()?,
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
    patch: Pair,
    pre_norm: Option<Pair>,
    norm: Option<Pair>,
    blocks: Vec<Block>,
    /// By size of the grid in patches: position embeddings of the patches, or the angles of their queries and keys.
    places: Mutex<Places>,
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

    fn values(&self, name: &str) -> Result<Values, ParamError> {
        Values::of(&self.weight(name)?)
    }

    pub fn pair(&self, name: &str, first: &str) -> Result<Pair<Weight>, ParamError> {
        Ok(Pair(self.weight(&format!("{name}/{first}"))?, self.weight(&format!("{name}/bias"))?))
    }

    pub fn block(&self, i: usize, scaled: bool) -> Result<Block<Weight>, ParamError> {
        let pair = |name: &str, first: &str| self.pair(&format!("blocks/{i}/{name}"), first);
        let scale = |name: &str| self.weight(&format!("blocks/{i}/{name}/scale"));
        Ok(Block {
            norm1: pair("norm1", "scale")?,
            qkv: pair("attn/qkv", "kernel")?,
            proj: pair("attn/proj", "kernel")?,
            norm2: pair("norm2", "scale")?,
            fc1: pair("mlp/fc1", "kernel")?,
            fc2: pair("mlp/fc2", "kernel")?,
            scales: if scaled { Some(Pair(scale("ls1")?, scale("ls2")?)) } else { None },
        })
    }
}

impl Vit {
    /// A trunk of these sizes, its weights taken below [`PREFIX`]. Above one thread, rayon's pool is used.
    pub fn new(spec: &VitSpec, source: &dyn Source, threads: usize) -> Result<Self, VitError> {
        let vit = Self::until(spec, spec.depth, source, threads)?;
        let norm = Taker::new(Scope::root(source).sub(PREFIX), spec).pair("norm", "scale")?.values()?;
        Ok(Self { norm: Some(norm), ..vit })
    }

    /// Only the embedding and the first `blocks` blocks, without the final norm.
    pub fn until(spec: &VitSpec, blocks: usize, source: &dyn Source, threads: usize) -> Result<Self, VitError> {
        spec.validate()?;
        let learned = matches!(spec.positions, Positions::Learned { .. });
        let taker = Taker::new(Scope::root(source).sub(PREFIX), spec);
        Ok(Self {
            cls: spec.class_token.then(|| taker.values("cls")).transpose()?,
            pos: learned.then(|| taker.values("pos")).transpose()?,
            registers: (spec.registers > 0).then(|| taker.values("registers")).transpose()?,
            patch: taker.pair("patch", "kernel")?.values()?,
            pre_norm: spec.pre_norm.then(|| taker.pair("pre_norm", "scale")?.values()).transpose()?,
            norm: None,
            blocks: (0..blocks).map(|i| taker.block(i, spec.layer_scale)?.values()).collect::<Result<_, _>>()?,
            places: Mutex::default(),
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
        if !normed {
            return x;
        }
        assert!(self.norm.is_some(), "this part of a trunk has no final norm");
        let mut out = vec![0.0; x.len()];
        self.norm.iter().for_each(|norm| norm.layer_norm(&x, self.spec.eps, &mut out));
        out
    }

    /// Hidden states after the first `blocks` blocks, none of them included, without the final norm; see [`Vit::tokens`].
    pub fn hidden(&self, images: Images, blocks: usize) -> Vec<f32> {
        let p = self.spec.patch;
        let grid = (images.height / p, images.width / p);
        assert_eq!((grid.0 * p, grid.1 * p), (images.height, images.width), "sides are no multiples of the patch {p}");
        let places = self.places(grid);
        let mut x = self.embed(images, &places);
        let tokens = x.len() / (images.n * self.spec.width).max(1);
        let mut work = Work::new(&self.spec, images.n * tokens);
        for block in &self.blocks[..blocks] {
            block.run(&self.spec, self.threads, &mut x, tokens, &places, &mut work);
        }
        x
    }

    fn embed(&self, images: Images, places: &[f32]) -> Vec<f32> {
        let w = self.spec.width;
        assert_eq!(images.pixels.len(), images.n * images.height * images.width * 3, "pixels do not match the sizes");
        let patches = images.height * images.width / self.spec.patch.pow(2);
        let mut embedded = vec![0.0; images.n * patches * w];
        let rows = unfold(images, self.spec.patch);
        linear(&rows, self.patch.0.get(), self.patch.1.get(), &mut embedded, self.threads);
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
        let (w, heads) = (spec.width, spec.heads);
        let project = |pair: &Pair, x: &[f32], out: &mut [f32]| {
            linear(x, pair.0.get(), pair.1.get(), out, threads);
        };
        let scales = self.scales.as_ref();
        self.norm1.layer_norm(x, spec.eps, &mut work.normed);
        project(&self.qkv, &work.normed, &mut work.qkv);
        if matches!(spec.positions, Positions::Rotary { .. }) {
            rotary::rotate(&mut work.qkv, places, tokens, w, heads);
        }
        attention(&work.qkv, &mut work.normed, tokens, w, heads, threads);
        project(&self.proj, &work.normed, &mut work.branch);
        add(x, &work.branch, scales.map(|s| s.0.get()));

        self.norm2.layer_norm(x, spec.eps, &mut work.normed);
        let rows = work.normed.len() / w;
        work.hidden.resize(rows * self.fc1.1.get().len(), 0.0);
        project(&self.fc1, &work.normed, &mut work.hidden);
        if spec.gated {
            gate(spec.activation, spec.mlp, &mut work.hidden);
        } else {
            activate(spec.activation, &mut work.hidden);
        }
        project(&self.fc2, &work.hidden, &mut work.branch);
        add(x, &work.branch, scales.map(|s| s.1.get()));
    }
}

/// [rows, 2 * units] to [rows, units]: each row's second half times its first half after the nonlinearity.
fn gate(activation: Activation, units: usize, hidden: &mut Vec<f32>) {
    let rows = hidden.len() / (2 * units);
    for row in 0..rows {
        let (gates, values) = hidden[2 * units * row..][..2 * units].split_at_mut(units);
        activate(activation, gates);
        gates.iter_mut().zip(values).for_each(|(gate, x)| *gate *= *x);
        hidden.copy_within(2 * units * row..2 * units * row + units, units * row);
    }
    hidden.truncate(rows * units);
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
pub(super) struct Work {
    normed: Vec<f32>,
    qkv: Vec<f32>,
    branch: Vec<f32>,
    hidden: Vec<f32>,
}

impl Work {
    /// For so many rows of hidden states.
    pub fn new(spec: &VitSpec, rows: usize) -> Self {
        let zeros = |width: usize| vec![0.0; rows * width];
        Self { normed: zeros(spec.width), qkv: zeros(3 * spec.width), branch: zeros(spec.width), hidden: vec![] }
    }
}

/// `x += scale * branch`.
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
