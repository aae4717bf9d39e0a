//! Weights files of other libraries, read into our tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::names::{Entry, Layout, TABLES, Table};
use super::spec::{Convention, VitSpec};
use super::{PREFIX, VitError};

/// Parameters by path below the trunk's prefix: shape and values.
pub type Tree = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A trunk read from a file.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Sizes, inferred from the file.
    pub spec: VitSpec,
    /// Parameters by path below [`PREFIX`].
    pub tensors: Tree,
    /// Where they come from: the file's path.
    pub source: String,
    /// Whose names the file uses.
    pub names: Convention,
}

/// Read a safetensors file with names of Hugging Face or timm. Heads and epsilon come from a `config.json` beside the
/// file where there is one; without it heads are 64 wide, as in every published ViT of these families.
pub fn load(path: &Path) -> Result<Loaded, VitError> {
    load_with_heads(path, None)
}

/// [`load`] for a file that tells the number of heads neither by a `config.json` nor by the usual width.
pub fn load_with_heads(path: &Path, heads: Option<usize>) -> Result<Loaded, VitError> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| VitError::Read { file: file.clone(), error })?;
    let tensors =
        SafeTensors::deserialize(&bytes).map_err(|e| VitError::Format { file: file.clone(), reason: e.to_string() })?;
    let reader = Reader::new(&file, &tensors)?;
    let beside = Beside::read(path)?;
    let tree = reader.tree()?;
    let spec = reader.spec(&tree, heads.or(beside.num_attention_heads), beside.layer_norm_eps)?;
    check(&tree, &spec, &file)?;
    let names = reader.table.convention;
    Ok(Loaded { spec, tensors: tree, source: file, names })
}

/// An untrained trunk of these sizes: the control that says what pretraining is worth.
pub fn random(spec: &VitSpec, seed: u64) -> Tree {
    let fill = |(path, shape, init): (String, Vec<usize>, crate::params::Init)| {
        let values = init.values(seed, &format!("{PREFIX}/{path}"), shape.iter().product());
        (path, (shape, values))
    };
    spec.params().into_iter().map(fill).collect()
}

/// Whether a tree is a trunk of these sizes; the error names the first parameter that is not, with both shapes.
pub fn check(tree: &Tree, spec: &VitSpec, file: &str) -> Result<(), VitError> {
    spec.validate()?;
    let wanted = spec.params();
    for (path, shape, _) in &wanted {
        let name = format!("{PREFIX}/{path}");
        let Some((found, _)) = tree.get(path) else {
            let nearest = nearest(path, tree.keys().map(String::as_str));
            return Err(VitError::Missing { file: file.into(), name, nearest });
        };
        if found != shape {
            return Err(VitError::Shape { file: file.into(), name, found: found.clone(), wanted: shape.clone() });
        }
    }
    let known: BTreeSet<&str> = wanted.iter().map(|(path, ..)| path.as_str()).collect();
    match tree.keys().find(|path| !known.contains(path.as_str())) {
        None => Ok(()),
        Some(path) => Err(VitError::Unexpected {
            file: file.into(),
            name: format!("{PREFIX}/{path}"),
            nearest: nearest(path, known.into_iter()),
        }),
    }
}

/// The three names most like `name`, comma separated.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut ranked: Vec<(usize, &str)> = names.map(|n| (strsim::damerau_levenshtein(name, n), n)).collect();
    ranked.sort();
    ranked.iter().take(3).map(|(_, n)| *n).collect::<Vec<_>>().join(", ")
}

/// What we read of a Hugging Face `config.json`.
#[derive(Default, serde::Deserialize)]
struct Beside {
    num_attention_heads: Option<usize>,
    layer_norm_eps: Option<f32>,
}

impl Beside {
    fn read(weights: &Path) -> Result<Self, VitError> {
        let path = weights.with_file_name("config.json");
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(Self::default()) };
        let reason = |e: serde_json::Error| VitError::Spec(format!("{}: {e}", path.display()));
        serde_json::from_str(&text).map_err(reason)
    }
}

struct Reader<'a> {
    file: &'a str,
    tensors: &'a SafeTensors<'a>,
    names: Vec<&'a str>,
    table: &'static Table,
    prefix: &'static str,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn new(file: &'a str, tensors: &'a SafeTensors<'a>) -> Result<Self, VitError> {
        let mut names = tensors.names();
        names.sort_unstable();
        let candidates = TABLES.iter().flat_map(|t| t.prefixes.iter().map(move |p| (t, *p)));
        let found = candidates.into_iter().find(|(t, p)| tensors.tensor(&format!("{p}{}", t.mark())).is_ok());
        let Some((table, prefix)) = found else {
            return Err(VitError::Convention {
                file: file.into(),
                first: names.first().unwrap_or(&"none").to_string(),
                known: TABLES.iter().map(|t| t.name).collect::<Vec<_>>().join(", "),
            });
        };
        let has_block = |i: usize| {
            let block = format!("{prefix}{}", table.block_prefix(i));
            names.iter().any(|n| n.starts_with(&block))
        };
        let depth = (0..).take_while(|&i| has_block(i)).count();
        Ok(Self { file, tensors, names, table, prefix, depth })
    }

    fn tree(&self) -> Result<Tree, VitError> {
        let mut tree = Tree::new();
        let mut used = BTreeSet::new();
        for (ours, theirs, entry) in self.table.entries(self.depth) {
            let theirs: Vec<String> = theirs.into_iter().map(|n| format!("{}{n}", self.prefix)).collect();
            if entry.optional && !self.names.contains(&theirs[0].as_str()) {
                used.extend(theirs);
                continue;
            }
            tree.insert(ours, self.entry(&theirs, entry)?);
            used.extend(theirs);
        }
        self.refuse_unexpected(&used)?;
        Ok(tree)
    }

    fn refuse_unexpected(&self, used: &BTreeSet<String>) -> Result<(), VitError> {
        let ignored = |name: &str| {
            let own = name.strip_prefix(self.prefix);
            own.is_none_or(|own| self.table.ignored.iter().any(|i| own.starts_with(i)))
        };
        match self.names.iter().find(|n| !used.contains(**n) && !ignored(n)) {
            None => Ok(()),
            Some(name) => Err(VitError::Unexpected {
                file: self.file.into(),
                name: name.to_string(),
                nearest: nearest(name, used.iter().map(String::as_str)),
            }),
        }
    }

    /// One of our parameters from the tensors it is made of.
    fn entry(&self, theirs: &[String], entry: &Entry) -> Result<(Vec<usize>, Vec<f32>), VitError> {
        let parts = theirs.iter().map(|name| self.tensor(name)).collect::<Result<Vec<_>, _>>()?;
        for (name, (shape, _)) in theirs.iter().zip(&parts) {
            let axes = match entry.layout {
                Layout::Axes(n) => n,
                Layout::Linear => 2,
                Layout::Conv => 4,
            };
            let extra = shape.len().saturating_sub(axes);
            let squeezable = matches!(entry.layout, Layout::Axes(_)) && shape.iter().take(extra).all(|&d| d == 1);
            if shape.len() < axes || (extra > 0 && !squeezable) || shape[1..] != parts[0].0[1..] {
                let wanted = [vec![1; axes.saturating_sub(shape.len())], shape[extra..].to_vec()].concat();
                return Err(VitError::Shape {
                    file: self.file.into(),
                    name: name.clone(),
                    found: shape.clone(),
                    wanted,
                });
            }
        }
        let rows: usize = parts.iter().map(|(shape, _)| shape[0]).sum();
        let tail = parts[0].0[1..].to_vec();
        let values: Vec<f32> = parts.into_iter().flat_map(|(_, values)| values).collect();
        Ok(arrange(rows, &tail, values, entry.layout))
    }

    fn tensor(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), VitError> {
        let view = self.tensors.tensor(name).map_err(|_| VitError::Missing {
            file: self.file.into(),
            name: name.into(),
            nearest: nearest(name, self.names.iter().copied()),
        })?;
        let bytes = view.data();
        let two = |f: fn([u8; 2]) -> f32| bytes.as_chunks::<2>().0.iter().map(|b| f(*b)).collect();
        let values = match view.dtype() {
            Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => two(|b| half::f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => two(|b| half::bf16::from_le_bytes(b).to_f32()),
            other => {
                let (file, name, dtype) = (self.file.into(), name.into(), format!("{other:?}"));
                return Err(VitError::Type { file, name, dtype });
            }
        };
        Ok((view.shape().to_vec(), values))
    }

    fn spec(&self, tree: &Tree, heads: Option<usize>, eps: Option<f32>) -> Result<VitSpec, VitError> {
        let axis = |path: &str, i: usize| tree.get(path).and_then(|(shape, _)| shape.get(i)).copied().unwrap_or(0);
        let (width, registers) = (axis("cls", 0), axis("registers", 0));
        let (grid, pos_prefix) = self.positions(axis("pos", 0), registers)?;
        Ok(VitSpec {
            patch: axis("patch/kernel", 0),
            width,
            depth: self.depth,
            heads: heads.unwrap_or(width / 64),
            mlp: axis("blocks/0/mlp/fc1/bias", 0),
            registers,
            layer_scale: tree.contains_key("blocks/0/ls1/scale"),
            grid,
            pos_prefix,
            eps: eps.unwrap_or(self.table.eps),
            pos_filter: self.table.filters[usize::from(registers > 0)],
        })
    }

    /// Side of the grid of position embeddings, and how many prefix tokens precede it.
    fn positions(&self, count: usize, registers: usize) -> Result<(usize, usize), VitError> {
        let square = |prefix: usize| {
            let side = count.checked_sub(prefix)?.isqrt();
            (side * side + prefix == count).then_some((side, prefix))
        };
        let reason = || format!("{}: {count} position embeddings are no square grid with a prefix", self.file);
        (self.table.pos_prefixes)(registers).into_iter().find_map(square).ok_or_else(|| VitError::Spec(reason()))
    }
}

/// Values of [rows, tail…], arranged as ours; leading axes of length 1 go.
fn arrange(rows: usize, tail: &[usize], values: Vec<f32>, layout: Layout) -> (Vec<usize>, Vec<f32>) {
    match layout {
        Layout::Axes(axes) => {
            let shape: Vec<usize> = std::iter::once(rows).chain(tail.iter().copied()).collect();
            (shape[shape.len() - axes..].to_vec(), values)
        }
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
