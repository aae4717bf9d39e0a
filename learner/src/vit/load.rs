//! Weights files of other libraries, read into our tree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use shared::config::VitConfig;
use shared::vit::{Activation, Positions, Tree, VitError, VitSpec, check, nearest};

use super::beside::Beside;
use super::names::{Absent, Entry, Family, Layout, TABLES, Table};
use crate::weights::{WeightsError, WeightsFile};

/// Most blocks of a trunk; the deepest published ones have about 60.
const DEEPEST: usize = 256;

/// A trunk read from a file.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Sizes, found out from the file.
    pub spec: VitSpec,
    /// Parameters by path below [`shared::vit::PREFIX`].
    pub tensors: Tree,
    /// Where they come from: the file's path.
    pub source: String,
    /// Whose names the file uses.
    pub family: Family,
}

/// What a user knows of a file and the file does not tell.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// Whose names the file uses; none: found out.
    pub family: Option<Family>,
    /// What precedes every name of the trunk; none: found out.
    pub prefix: Option<String>,
    /// Attention heads; none: as the configuration beside the file says, else as in the family's published models.
    pub heads: Option<usize>,
    /// A `config.json` that is not beside the file.
    pub config: Option<PathBuf>,
}

impl Hints {
    /// As in options: family `auto`, an empty prefix and 0 heads are found out.
    pub fn new(family: &str, prefix: &str, heads: usize) -> Result<Self, LoadError> {
        let family = match family {
            "auto" => None,
            name => Some(Family::parse(name).ok_or_else(|| {
                let known = Family::ALL.map(|(name, _)| name).join(", ");
                VitError::Option { key: "family", value: name.into(), reason: format!("use auto, {known}") }
            })?),
        };
        let prefix = (!prefix.is_empty()).then(|| prefix.to_string());
        Ok(Self { family, prefix, heads: (heads > 0).then_some(heads), config: None })
    }

    /// What `[vit]` says.
    pub fn of(config: &VitConfig) -> Result<Self, LoadError> {
        Self::new(&config.family, &config.prefix, config.heads)
    }
}

/// Why weights could not be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum LoadError {
    /// The file is no weights file.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The names belong to no known library.
    #[error("ViT weights {file}: names of no known library (first: {first}); known: {known}")]
    Unknown { file: String, first: String, known: String },
    /// More than one trunk in the file.
    #[error("ViT weights {file} hold several trunks, below {prefixes}; choose one with vit.prefix")]
    Ambiguous { file: String, prefixes: String },
    /// A configuration beside the weights that cannot be read.
    #[error("{}: {reason}; mend or remove it", path.display())]
    Config { path: PathBuf, reason: String },
    /// They are not a trunk.
    #[error(transparent)]
    Vit(#[from] VitError),
}

/// Read the trunk of a weights file, of any library of [`Family`]. Heads, epsilon, nonlinearity and the statistics of pixels come from
/// the `config.json` and `preprocessor_config.json` beside the file where there are such; without them they are those of the family's
/// published models.
pub fn load(path: &Path, hints: &Hints) -> Result<Loaded, LoadError> {
    let weights = WeightsFile::open(path)?;
    let reader = Reader::new(path.display().to_string(), &weights, hints)?;
    reader.refuse_unexpected()?;
    let tensors = reader.tree()?;
    let spec = reader.spec(&tensors, hints.heads, &Beside::read(path, hints.config.as_deref())?)?;
    check(&tensors, &spec, &reader.file)?;
    Ok(Loaded { spec, tensors, family: reader.table.family, source: reader.file })
}

/// The trunk in a file.
pub(super) struct Reader<'a> {
    file: String,
    weights: &'a WeightsFile,
    pub table: &'static Table,
    pub prefix: String,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub fn new(file: String, weights: &'a WeightsFile, hints: &Hints) -> Result<Self, LoadError> {
        let tables = TABLES.iter().filter(|table| hints.family.is_none_or(|family| family == table.family));
        let found = tables.map(|table| (table, prefixes(weights, table, hints))).find(|(_, found)| !found.is_empty());
        let Some((table, prefixes)) = found else {
            let first = weights.names().next().unwrap_or("none").to_string();
            let known = TABLES.iter().map(|t| t.name).collect::<Vec<_>>().join(", ");
            return Err(LoadError::Unknown { file, first, known });
        };
        let [prefix] = &prefixes[..] else {
            let prefixes = prefixes.iter().map(|p| format!("`{p}`")).collect::<Vec<_>>().join(" and ");
            return Err(LoadError::Ambiguous { file, prefixes });
        };
        let (before, after) = table.block.split_once('#').unwrap_or((table.block, ""));
        let rests = weights.names().filter_map(|name| name.strip_prefix(prefix.as_str())?.strip_prefix(before));
        let blocks: BTreeSet<usize> = rests.filter_map(|rest| rest.split_once(after)?.0.parse().ok()).collect();
        let depth = (0..).zip(&blocks).take_while(|(i, block)| i == *block).count();
        if depth > DEEPEST {
            let what = format!("{file}: a trunk of {depth} blocks, where {DEEPEST} are allowed");
            return Err(VitError::Spec(what).into());
        }
        Ok(Self { file, weights, table, prefix: prefix.clone(), depth })
    }

    /// Every entry with the file's names for it.
    fn entries(&self) -> impl Iterator<Item = (String, Vec<String>, &'static Entry)> {
        let whole = |names: Vec<String>| names.into_iter().map(|n| format!("{}{n}", self.prefix)).collect();
        self.table.entries(self.depth).map(move |(ours, theirs, entry)| (ours, whole(theirs), entry))
    }

    fn tree(&self) -> Result<Tree, LoadError> {
        let mut tree = Tree::new();
        for (ours, theirs, entry) in self.entries() {
            let absent = self.weights.shape(&theirs[0]).is_none() && entry.absent == Absent::Skip;
            if absent || tree.contains_key(&ours) {
                continue;
            }
            let outputs = ours.strip_suffix("/bias").and_then(|layer| tree.get(&format!("{layer}/kernel")));
            let outputs = outputs.and_then(|(shape, _)| shape.last()).copied().unwrap_or(0);
            tree.insert(ours, self.entry(&theirs, entry, outputs / theirs.len())?);
        }
        Ok(tree)
    }

    /// Names of the file below the trunk's prefix that are neither used nor known to be of no use.
    pub fn unexpected(&self) -> Vec<&'a str> {
        self.unused(false)
    }

    /// Names of other parts: outside the trunk's prefix, or known to be of no use.
    pub fn ignored(&self) -> Vec<&'a str> {
        self.unused(true)
    }

    fn unused(&self, ignored: bool) -> Vec<&'a str> {
        let known: BTreeSet<String> = self.entries().flat_map(|(_, theirs, _)| theirs).collect();
        let no_use = |name: &str| match name.strip_prefix(&self.prefix) {
            Some(own) => self.table.ignored.iter().any(|i| own.starts_with(i)),
            None => true,
        };
        self.weights.names().filter(|name| !known.contains(*name) && no_use(name) == ignored).collect()
    }

    /// Names that the trunk needs and the file lacks.
    pub fn missing(&self) -> Vec<String> {
        let there = |name: &String| self.weights.shape(name).is_some();
        let mut had = BTreeSet::new();
        let mut missing = Vec::new();
        for (ours, theirs, entry) in self.entries() {
            if had.contains(&ours) || entry.absent != Absent::Error {
                had.extend(theirs.iter().all(there).then_some(ours));
            } else {
                missing.extend(theirs.into_iter().filter(|name| !there(name)));
            }
        }
        missing
    }

    fn refuse_unexpected(&self) -> Result<(), VitError> {
        let Some(name) = self.unexpected().first().map(|name| name.to_string()) else { return Ok(()) };
        let known: Vec<String> = self.entries().flat_map(|(_, theirs, _)| theirs).collect();
        let nearest = nearest(&name, known.iter().map(String::as_str));
        Err(VitError::Unexpected { file: self.file.clone(), name, nearest })
    }

    /// One of our parameters from the tensors it is made of; `outputs` numbers for each that may be absent.
    fn entry(&self, theirs: &[String], entry: &Entry, outputs: usize) -> Result<(Vec<usize>, Vec<f32>), LoadError> {
        let part = |name: &String| match self.weights.shape(name) {
            None if entry.absent == Absent::Zeros && !self.in_another_block(entry, name) => {
                Ok((vec![outputs], vec![0.0; outputs]))
            }
            None => Err(LoadError::from(self.lacks(name))),
            Some(shape) => Ok((self.squeezed(name, shape, entry.layout)?, self.weights.values(name)?)),
        };
        let parts = theirs.iter().map(part).collect::<Result<Vec<_>, _>>()?;
        let tail = parts[0].0[1..].to_vec();
        if let Some(odd) = parts.iter().position(|(shape, _)| shape[1..] != tail[..]) {
            let wanted = [&parts[odd].0[..1], &tail[..]].concat();
            return Err(self.misshapen(&theirs[odd], &parts[odd].0, wanted).into());
        }
        let rows = parts.iter().map(|(shape, _)| shape[0]).sum();
        let values = parts.into_iter().flat_map(|(_, values)| values).collect();
        Ok(arrange(rows, &tail, values, entry.layout))
    }

    /// Whether another block has the tensor that this one lacks: then the file is not whole.
    fn in_another_block(&self, entry: &Entry, name: &str) -> bool {
        let Some(own) = entry.theirs.iter().find(|own| name.ends_with(*own)) else { return false };
        let named = |i: usize| format!("{}{}{own}", self.prefix, self.table.block_prefix(i));
        (0..self.depth).any(|i| self.weights.shape(&named(i)).is_some())
    }

    /// A tensor's shape without leading axes of length 1, as many axes as the layout wants.
    fn squeezed(&self, name: &str, shape: &[usize], layout: Layout) -> Result<Vec<usize>, VitError> {
        let axes = match layout {
            Layout::Axes(n) => n,
            Layout::Linear => 2,
            Layout::Conv => 4,
        };
        let extra = shape.len().saturating_sub(axes);
        let squeezable = matches!(layout, Layout::Axes(_)) && shape[..extra].iter().all(|&d| d == 1);
        if shape.len() < axes || (extra > 0 && !squeezable) || shape.contains(&0) {
            let sides = shape[extra..].iter().map(|side| (*side).max(1)).collect();
            let wanted = [vec![1; axes.saturating_sub(shape.len())], sides].concat();
            return Err(self.misshapen(name, shape, wanted));
        }
        Ok(shape[extra..].to_vec())
    }

    fn lacks(&self, name: &str) -> VitError {
        VitError::Missing { file: self.file.clone(), name: name.into(), nearest: nearest(name, self.weights.names()) }
    }

    fn misshapen(&self, name: &str, found: &[usize], wanted: Vec<usize>) -> VitError {
        VitError::Shape { file: self.file.clone(), name: name.into(), found: found.to_vec(), wanted }
    }

    fn spec(&self, tree: &Tree, heads: Option<usize>, beside: &Beside) -> Result<VitSpec, VitError> {
        let axis = |path: &str, i: usize| tree.get(path).and_then(|(shape, _)| shape.get(i)).copied().unwrap_or(0);
        let (width, registers, mlp) = (axis("patch/bias", 0), axis("registers", 0), axis("blocks/0/mlp/fc2/kernel", 0));
        let gated = axis("blocks/0/mlp/fc1/kernel", 1) == 2 * mlp;
        let positions = match self.table.rotary {
            Some(theta) => Positions::Rotary { theta: beside.rope_theta.unwrap_or(theta) },
            None => self.positions(axis("pos", 0), registers)?,
        };
        // The gates of DINOv2's giant models are SiLU's, whatever their configuration says.
        let own = if gated { Activation::Silu } else { self.table.activation };
        let told = beside.activation()?.filter(|_| !(gated && self.table.family == Family::Dinov2));
        Ok(VitSpec {
            patch: axis("patch/kernel", 0),
            width,
            depth: self.depth,
            heads: heads.or(beside.num_attention_heads).unwrap_or_else(|| (self.table.heads)(width)),
            mlp,
            class_token: tree.contains_key("cls"),
            registers,
            positions,
            layer_scale: tree.contains_key("blocks/0/ls1/scale"),
            activation: told.unwrap_or(own),
            gated,
            pre_norm: tree.contains_key("pre_norm/scale"),
            normed: self.table.normed,
            eps: beside.layer_norm_eps.unwrap_or(self.table.eps),
            pixels: beside.pixels().unwrap_or(self.table.pixels),
        })
    }

    /// Side of the grid of position embeddings, and how many prefix tokens precede it.
    fn positions(&self, count: usize, registers: usize) -> Result<Positions, VitError> {
        let filter = self.table.filters[usize::from(registers > 0)];
        let square = |prefix: usize| {
            let grid = count.checked_sub(prefix)?.isqrt();
            (grid > 0 && grid * grid + prefix == count).then_some(Positions::Learned { grid, prefix, filter })
        };
        let reason = || format!("{}: {count} position embeddings are no square grid with a prefix", self.file);
        (self.table.pos_prefixes)(registers).into_iter().find_map(square).ok_or_else(|| VitError::Spec(reason()))
    }
}

/// What may precede the names of a library's trunk in a file: nothing, or whole parts of a name.
fn prefixes(weights: &WeightsFile, table: &Table, hints: &Hints) -> Vec<String> {
    let mark = table.mark();
    let has = |prefix: &str| table.requires.iter().all(|n| weights.shape(&format!("{prefix}{n}")).is_some());
    let before = weights.names().filter_map(|name| name.strip_suffix(&mark));
    let whole = before.filter(|prefix| (prefix.is_empty() || prefix.ends_with('.')) && has(prefix));
    whole.filter(|p| hints.prefix.as_deref().is_none_or(|hint| hint == *p)).map(str::to_string).collect()
}

/// Values of [rows, tail…], arranged as ours.
fn arrange(rows: usize, tail: &[usize], values: Vec<f32>, layout: Layout) -> (Vec<usize>, Vec<f32>) {
    match layout {
        Layout::Axes(_) => (std::iter::once(rows).chain(tail.iter().copied()).collect(), values),
        Layout::Linear => (vec![tail[0], rows], transpose(&values, rows, tail[0])),
        Layout::Conv => {
            let (channels, pixels) = (tail[0], tail[1] * tail[2]);
            // [out, in * h * w] -> [in * h * w, out] -> [h * w, in, out]
            let turned = transpose(&values, rows, channels * pixels);
            let at = |p: usize, c: usize| (c * pixels + p) * rows;
            let pixel = |p: usize| (0..channels).flat_map(move |c| at(p, c)..at(p, c) + rows);
            let moved = (0..pixels).flat_map(pixel).map(|i| turned[i]).collect();
            (vec![tail[1], tail[2], channels, rows], moved)
        }
    }
}

fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| values[r * cols + c])).collect()
}
