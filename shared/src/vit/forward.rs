//! The forward pass, over weights read in place.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::resample::resize;
use super::spec::{Activation, Positions};
use super::{PREFIX, PRODUCTS, Tree, VitError, VitSpec};
use crate::kernels::factor::{laid_out, laid_out_len, laid_out_linear};
use crate::kernels::{Precision, attention::attention, gelu, layer_norm::layer_norm, matmul::linear, rotary};
use crate::params::{Init, Mapped, ParamError, Scope, Source, Weight};

/// Values of one weight: in place where it is mapped, a copy where it is a variable.
enum Values {
    Mapped(Mapped),
    Copied(Vec<f32>),
}

impl Values {
    fn get(&self) -> &[f32] {
        match self {
            Values::Mapped(mapped) => mapped.values(),
            Values::Copied(values) => values,
        }
    }
}

/// Scale and bias of a norm, or of the two branches.
struct Pair(Values, Values);

struct Projection {
    /// As it is, or laid out for products in another precision.
    kernel: Values,
    bias: Values,
    precision: Precision,
}

impl Projection {
    fn apply(&self, x: &[f32], out: &mut [f32], threads: usize) {
        match self.precision {
            Precision::Float32 => linear(x, self.kernel.get(), self.bias.get(), out, threads),
            precision => laid_out_linear(x, self.kernel.get(), self.bias.get(), out, precision, threads),
        }
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

struct Block {
    norm1: Pair,
    qkv: Projection,
    proj: Projection,
    norm2: Pair,
    fc1: Projection,
    fc2: Projection,
    scales: Option<Pair>,
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

/// A frozen Vision Transformer.
pub struct Vit {
    spec: VitSpec,
    threads: usize,
    cls: Option<Values>,
    pos: Option<Values>,
    registers: Option<Values>,
    patch: Projection,
    pre_norm: Option<Pair>,
    norm: Pair,
    blocks: Vec<Block>,
    /// By size of the grid in patches: position embeddings of the patches, or the angles of their queries and keys.
    places: Mutex<Places>,
    /// Of an earlier pass: memory that is there already.
    work: Mutex<Work>,
}

/// Takes weights by name, with the shapes and initialisers that the sizes give.
struct Taker<'a> {
    scope: Scope<'a>,
    products: Scope<'a>,
    params: HashMap<String, (Vec<usize>, Init)>,
    precision: Precision,
}

impl Taker<'_> {
    fn values(&self, name: &str) -> Result<Values, VitError> {
        let Some((shape, init)) = self.params.get(name) else {
            return Err(VitError::Spec(format!("no parameter `{name}` in this architecture")));
        };
        Self::of(self.scope.weight(name, shape, *init)?)
    }

    fn of(weight: Weight) -> Result<Values, VitError> {
        Ok(match weight {
            Weight::Mapped(mapped) => Values::Mapped(mapped),
            weight => Values::Copied(weight.to_vec().map_err(ParamError::from)?),
        })
    }

    fn projection(&self, name: &str) -> Result<Projection, VitError> {
        let path = format!("{name}/kernel");
        let bias = self.values(&format!("{name}/bias"))?;
        let outputs = bias.get().len();
        let inputs = self.params.get(&path).map_or(0, |(shape, _)| shape.iter().product::<usize>() / outputs.max(1));
        let (kernel, precision) = match laid_out_len([inputs, outputs], self.precision) {
            Some(len) => (Self::of(self.products.weight(&path, &[len], Init::Zeros)?)?, self.precision),
            None => (self.values(&path)?, Precision::Float32),
        };
        Ok(Projection { kernel, bias, precision })
    }

    fn pair(&self, name: &str, first: &str) -> Result<Pair, VitError> {
        Ok(Pair(self.values(&format!("{name}/{first}"))?, self.values(&format!("{name}/bias"))?))
    }

    fn block(&self, i: usize, scaled: bool) -> Result<Block, VitError> {
        let pair = |name: &str, first: &str| self.pair(&format!("blocks/{i}/{name}"), first);
        let projection = |name: &str| self.projection(&format!("blocks/{i}/{name}"));
        let scale = |name: &str| self.values(&format!("blocks/{i}/{name}/scale"));
        Ok(Block {
            norm1: pair("norm1", "scale")?,
            qkv: projection("attn/qkv")?,
            proj: projection("attn/proj")?,
            norm2: pair("norm2", "scale")?,
            fc1: projection("mlp/fc1")?,
            fc2: projection("mlp/fc2")?,
            scales: if scaled { Some(Pair(scale("ls1")?, scale("ls2")?)) } else { None },
        })
    }
}

impl Vit {
    /// A trunk of these sizes, its weights taken below [`PREFIX`], and below [`PRODUCTS`] what [`products`] gave for this precision.
    /// Above one thread, rayon's pool is used.
    pub fn new(spec: &VitSpec, source: &dyn Source, threads: usize, precision: Precision) -> Result<Self, VitError> {
        spec.validate()?;
        let params = spec.params().into_iter().map(|(path, shape, init)| (path, (shape, init))).collect();
        let learned = matches!(spec.positions, Positions::Learned { .. });
        let root = Scope::root(source);
        let taker = Taker { scope: root.sub(PREFIX), products: root.sub(PRODUCTS), params, precision };
        Ok(Self {
            cls: spec.class_token.then(|| taker.values("cls")).transpose()?,
            pos: learned.then(|| taker.values("pos")).transpose()?,
            registers: (spec.registers > 0).then(|| taker.values("registers")).transpose()?,
            patch: taker.projection("patch")?,
            pre_norm: spec.pre_norm.then(|| taker.pair("pre_norm", "scale")).transpose()?,
            norm: taker.pair("norm", "scale")?,
            blocks: (0..spec.depth).map(|i| taker.block(i, spec.layer_scale)).collect::<Result<_, _>>()?,
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
    /// Panics if pixels and sizes do not match, a side is no multiple of the patch, or there is no such block.
    pub fn tokens(&self, images: Images, block: usize, normed: bool) -> Vec<f32> {
        let p = self.spec.patch;
        let grid = (images.height / p, images.width / p);
        assert_eq!((grid.0 * p, grid.1 * p), (images.height, images.width), "sides are no multiples of the patch {p}");
        let places = self.places(grid);
        let mut x = self.embed(images, &places);
        let tokens = x.len() / (images.n * self.spec.width).max(1);
        let mut work = std::mem::take(&mut *self.work.lock());
        work.resize(&self.spec, images.n * tokens);
        for block in &self.blocks[..=block] {
            self.run(block, &mut x, tokens, &places, &mut work);
        }
        if normed {
            self.layer_norm(&self.norm, &x, &mut work.normed);
            x.copy_from_slice(&work.normed);
        }
        *self.work.lock() = work;
        x
    }

    fn embed(&self, images: Images, places: &[f32]) -> Vec<f32> {
        let w = self.spec.width;
        assert_eq!(images.pixels.len(), images.n * images.height * images.width * 3, "pixels do not match the sizes");
        let patches = images.height * images.width / self.spec.patch.pow(2);
        let mut embedded = vec![0.0; images.n * patches * w];
        let rows = unfold(images, self.spec.patch);
        self.patch.apply(&rows, &mut embedded, self.threads);
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
            self.layer_norm(norm, &x, &mut normed);
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

    fn layer_norm(&self, norm: &Pair, x: &[f32], out: &mut [f32]) {
        layer_norm(x, norm.0.get(), norm.1.get(), self.spec.eps, out);
    }

    fn run(&self, block: &Block, x: &mut [f32], tokens: usize, places: &[f32], work: &mut Work) {
        let (w, heads) = (self.spec.width, self.spec.heads);
        let scales = block.scales.as_ref();
        self.layer_norm(&block.norm1, x, &mut work.normed);
        block.qkv.apply(&work.normed, &mut work.qkv, self.threads);
        if matches!(self.spec.positions, Positions::Rotary { .. }) {
            rotary::rotate(&mut work.qkv, places, tokens, w, heads);
        }
        attention(&work.qkv, &mut work.normed, tokens, w, heads, self.threads);
        block.proj.apply(&work.normed, &mut work.branch, self.threads);
        add(x, &work.branch, scales.map(|s| s.0.get()));

        self.layer_norm(&block.norm2, x, &mut work.normed);
        let rows = work.normed.len() / w;
        work.hidden.resize(rows * block.fc1.bias.get().len(), 0.0);
        block.fc1.apply(&work.normed, &mut work.hidden, self.threads);
        self.activate(&mut work.hidden);
        block.fc2.apply(&work.hidden, &mut work.branch, self.threads);
        add(x, &work.branch, scales.map(|s| s.1.get()));
    }

    /// Apply the nonlinearity to [rows, hidden]; if the MLP is gated, multiply with the gates, which are the first half of each row.
    fn activate(&self, hidden: &mut Vec<f32>) {
        if !self.spec.gated {
            return activate(self.spec.activation, hidden);
        }
        let m = self.spec.mlp;
        let rows = hidden.len() / (2 * m);
        for row in 0..rows {
            let (gates, units) = hidden[2 * m * row..][..2 * m].split_at_mut(m);
            activate(self.spec.activation, gates);
            gates.iter_mut().zip(units).for_each(|(gate, x)| *gate *= *x);
            hidden.copy_within(2 * m * row..2 * m * row + m, m * row);
        }
        hidden.truncate(rows * m);
    }
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
struct Work {
    normed: Vec<f32>,
    qkv: Vec<f32>,
    branch: Vec<f32>,
    hidden: Vec<f32>,
}

impl Work {
    fn resize(&mut self, spec: &VitSpec, rows: usize) {
        self.normed.resize(rows * spec.width, 0.0);
        self.qkv.resize(3 * rows * spec.width, 0.0);
        self.branch.resize(rows * spec.width, 0.0);
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
