//! The forward pass, over weights read in place.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::resample::resize;
use super::{PREFIX, VitError, VitSpec};
use crate::kernels::{attention::attention, gelu::gelu, layer_norm::layer_norm, matmul::linear};
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

/// Kernel and bias of a projection, or scale and bias of a norm.
struct Pair(Values, Values);

struct Block {
    norm1: Pair,
    qkv: Pair,
    proj: Pair,
    norm2: Pair,
    fc1: Pair,
    fc2: Pair,
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

type Positions = HashMap<(usize, usize), Arc<Vec<f32>>>;

/// A frozen Vision Transformer.
pub struct Vit {
    spec: VitSpec,
    threads: usize,
    cls: Values,
    pos: Values,
    registers: Option<Values>,
    patch: Pair,
    norm: Pair,
    blocks: Vec<Block>,
    /// Position embeddings of the patches, by size of the grid in patches.
    positions: Mutex<Positions>,
}

/// Takes weights by name, with the shapes and initialisers that the sizes give.
struct Taker<'a> {
    scope: Scope<'a>,
    params: HashMap<String, (Vec<usize>, Init)>,
}

impl Taker<'_> {
    fn values(&self, name: &str) -> Result<Values, VitError> {
        let Some((shape, init)) = self.params.get(name) else {
            return Err(VitError::Spec(format!("no parameter `{name}` in this architecture")));
        };
        Ok(match self.scope.weight(name, shape, *init)? {
            Weight::Mapped(mapped) => Values::Mapped(mapped),
            weight => Values::Copied(weight.to_vec().map_err(ParamError::from)?),
        })
    }

    fn pair(&self, name: &str, first: &str) -> Result<Pair, VitError> {
        Ok(Pair(self.values(&format!("{name}/{first}"))?, self.values(&format!("{name}/bias"))?))
    }

    fn block(&self, i: usize, scaled: bool) -> Result<Block, VitError> {
        let pair = |name: &str, first: &str| self.pair(&format!("blocks/{i}/{name}"), first);
        let scale = |name: &str| self.values(&format!("blocks/{i}/{name}/scale"));
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
        spec.validate()?;
        let params = spec.params().into_iter().map(|(path, shape, init)| (path, (shape, init))).collect();
        let taker = Taker { scope: Scope::root(source).sub(PREFIX), params };
        Ok(Self {
            cls: taker.values("cls")?,
            pos: taker.values("pos")?,
            registers: if spec.registers > 0 { Some(taker.values("registers")?) } else { None },
            patch: taker.pair("patch", "kernel")?,
            norm: taker.pair("norm", "scale")?,
            blocks: (0..spec.depth).map(|i| taker.block(i, spec.layer_scale)).collect::<Result<_, _>>()?,
            positions: Mutex::default(),
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
        let mut x = self.embed(images);
        let tokens = x.len() / (images.n * self.spec.width).max(1);
        let mut work = Work::new(&self.spec, images.n * tokens);
        for block in &self.blocks[..=block] {
            self.run(block, &mut x, tokens, &mut work);
        }
        if normed {
            self.layer_norm(&self.norm, &x, &mut work.normed);
            return work.normed;
        }
        x
    }

    fn embed(&self, images: Images) -> Vec<f32> {
        let (p, w) = (self.spec.patch, self.spec.width);
        let grid = (images.height / p, images.width / p);
        assert_eq!((grid.0 * p, grid.1 * p), (images.height, images.width), "sides are no multiples of the patch {p}");
        assert_eq!(images.pixels.len(), images.n * images.height * images.width * 3, "pixels do not match the sizes");
        let patches = grid.0 * grid.1;
        let mut embedded = vec![0.0; images.n * patches * w];
        linear(&unfold(images, p), self.patch.0.get(), self.patch.1.get(), &mut embedded, self.threads);
        let (prefix, positions) = (self.prefix_tokens(), self.patch_positions(grid));
        let mut x = Vec::with_capacity(images.n * (self.spec.prefix() + patches) * w);
        for frame in embedded.chunks_exact(patches * w) {
            x.extend_from_slice(&prefix);
            x.extend(frame.iter().zip(positions.iter()).map(|(a, b)| a + b));
        }
        x
    }

    /// Class token and registers, with their position embeddings where they have one.
    fn prefix_tokens(&self) -> Vec<f32> {
        let mut prefix = self.cls.get().to_vec();
        prefix.extend_from_slice(self.registers.as_ref().map_or(&[], Values::get));
        let positioned = self.spec.pos_prefix * self.spec.width;
        prefix.iter_mut().zip(&self.pos.get()[..positioned]).for_each(|(x, p)| *x += p);
        prefix
    }

    fn patch_positions(&self, grid: (usize, usize)) -> Arc<Vec<f32>> {
        let spec = &self.spec;
        let own = || &self.pos.get()[spec.pos_prefix * spec.width..];
        let resized = || Arc::new(resize(own(), (spec.grid, spec.grid), grid, spec.width, spec.pos_filter));
        self.positions.lock().entry(grid).or_insert_with(resized).clone()
    }

    fn layer_norm(&self, norm: &Pair, x: &[f32], out: &mut [f32]) {
        layer_norm(x, norm.0.get(), norm.1.get(), self.spec.eps, out);
    }

    fn run(&self, block: &Block, x: &mut [f32], tokens: usize, work: &mut Work) {
        let project = |pair: &Pair, x: &[f32], out: &mut [f32]| {
            linear(x, pair.0.get(), pair.1.get(), out, self.threads);
        };
        let scales = block.scales.as_ref();
        self.layer_norm(&block.norm1, x, &mut work.normed);
        project(&block.qkv, &work.normed, &mut work.qkv);
        attention(&work.qkv, &mut work.normed, tokens, self.spec.width, self.spec.heads, self.threads);
        project(&block.proj, &work.normed, &mut work.branch);
        add(x, &work.branch, scales.map(|s| s.0.get()));

        self.layer_norm(&block.norm2, x, &mut work.normed);
        project(&block.fc1, &work.normed, &mut work.hidden);
        gelu(&mut work.hidden);
        project(&block.fc2, &work.hidden, &mut work.branch);
        add(x, &work.branch, scales.map(|s| s.1.get()));
    }
}

/// Buffers that every block reuses.
struct Work {
    normed: Vec<f32>,
    qkv: Vec<f32>,
    branch: Vec<f32>,
    hidden: Vec<f32>,
}

impl Work {
    fn new(spec: &VitSpec, rows: usize) -> Self {
        let zeros = |width: usize| vec![0.0; rows * width];
        Self {
            normed: zeros(spec.width),
            qkv: zeros(3 * spec.width),
            branch: zeros(spec.width),
            hidden: zeros(spec.mlp),
        }
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
