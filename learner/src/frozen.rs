//! The ViT of a run: what of it is frozen is loaded once into shared memory, and read in place by every process.

use std::fs;
use std::path::Path;

use candle_core::{Device, Var};
use shared::array::Array;
use shared::config::{Config, VitConfig};
use shared::kernels::Precision;
use shared::params::{Create, ParamError, Params, ReadOnly, Scope, Weight};
use shared::snapshot::format::{SnapshotHeader, SnapshotView, encode};
use shared::vit::{
    Features, PREFIX, PRODUCTS, Tail, TailSpec, Tree, Vit, VitSpec, check, products, random, split, trainable_blocks,
};
use shared::wire::{Bulk, SharedMemory, WireError};

use crate::RunError;
use crate::checkpoint::Frozen;
use crate::error::{io, wire};
use crate::proof::check_trunk_against;
use crate::vit::{FetchError, Hints, Loaded, Located, fetch, load, verify};

/// File in the run folder with the trunk's sizes.
const SIZES: &str = "vit.json";

/// The trunk that a run sees through.
pub struct Trunk {
    /// Sizes.
    pub spec: VitSpec,
    /// Its weights, ready to be handed to actors; none where features are replaced by zeros.
    pub region: Option<SharedMemory>,
    /// Digest and source of its weights; none where features are replaced by zeros.
    pub record: Option<Frozen>,
    /// Pretrained weights of the blocks that train, which start from them: not in the region, and not in the digest. By path below
    /// [`PREFIX`]; empty if all blocks are frozen.
    pub pretrained: shared::params::Tree,
    /// Of its products; kernels that are laid out for them are in the region too.
    pub precision: Precision,
    params: Params<ReadOnly>,
}

impl Trunk {
    /// As the config says: from its file, untrained, or only its sizes. None if images go to the convolutional encoder.
    /// The sizes must be those that the run was made with. What a checkpoint `recorded` serves to name the tensors that have changed
    /// in a damaged file.
    pub fn load(config: &Config, run: &Path, recorded: Option<&Frozen>) -> Result<Option<Self>, RunError> {
        if config.vit.weights.is_empty() {
            return Ok(None);
        }
        let (tree, spec, source) = match config.vit.features.as_str() {
            "pretrained" => {
                let loaded = read(&config.vit.weights, &Hints::of(&config.vit)?, recorded)?;
                if let Some(spec) = remembered(run)? {
                    check(&loaded.tensors, &spec, &loaded.source)?;
                }
                (loaded.tensors, loaded.spec, loaded.source)
            }
            "random" => {
                let spec = sizes(&config.vit)?;
                (random(&spec, config.run.seed), spec, format!("random, seed {}", config.run.seed))
            }
            _ => return Self::absent(sizes(&config.vit)?).map(Some),
        };
        let blocks = trainable_blocks(&config.vit, &spec)?;
        let (tree, trained) = split(tree, &blocks);
        let array = |(path, (shape, values)): (String, (Vec<usize>, Vec<f32>))| (path, Array::f32(&shape, &values));
        let pretrained = trained.into_iter().map(array).collect();
        Ok(Some(Self { pretrained, ..Self::from_tree(tree, spec, source, config.vit.products())? }))
    }

    /// Of what `vit.weights` takes, in float32.
    pub fn of_weights(weights: &str, hints: &Hints) -> Result<Self, RunError> {
        let loaded = read(weights, hints, None)?;
        Self::from_tree(loaded.tensors, loaded.spec, loaded.source, Precision::Float32)
    }

    /// The trunk itself, in float32.
    pub fn vit(&self, threads: usize) -> Result<Vit, RunError> {
        Ok(Vit::new(&self.spec, &self.params, threads, Precision::Float32)?)
    }

    /// Its parameters, below [`PREFIX`].
    pub fn params(&self) -> &Params<ReadOnly> {
        &self.params
    }

    /// Keep the sizes in the run folder, once.
    pub fn remember(&self, run: &Path) -> Result<(), RunError> {
        let file = run.join(SIZES);
        if file.exists() {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(&self.spec).map_err(std::io::Error::from);
        text.and_then(|text| fs::write(&file, text)).map_err(io("write", &file))
    }

    fn absent(spec: VitSpec) -> Result<Self, RunError> {
        let params = Params::read_only(&[])?;
        let (pretrained, precision) = Default::default();
        Ok(Self { spec, region: None, record: None, pretrained, precision, params })
    }

    fn from_tree(tree: Tree, spec: VitSpec, source: String, precision: Precision) -> Result<Self, RunError> {
        let products = products(&tree, precision).into_iter().map(|(path, values)| {
            let shape = vec![values.len()];
            (format!("{PRODUCTS}/{path}"), (shape, values))
        });
        let weight = |(path, (shape, values)): (String, (Vec<usize>, Vec<f32>))| {
            Ok((path, Weight::Var(Var::from_vec(values, shape, &Device::Cpu).map_err(ParamError::from)?)))
        };
        let own = tree.into_iter().map(|(path, values)| (format!("{PREFIX}/{path}"), values));
        let weights = own.chain(products).map(weight).collect::<Result<Vec<_>, RunError>>()?;
        let header = SnapshotHeader { version: 0, update: 0, published: 0 };
        let region = SharedMemory::copy(&encode(&header, &weights)?).map_err(WireError::from);
        let region = region.map_err(wire("sharing the frozen encoder"))?;
        let view = SnapshotView::open(Bulk::Shared(region.clone()).into_lasting_region())?;
        let params = Params::read_only(&[("", &view)])?;
        let record = Frozen { source, ..params.record(PREFIX)?.into() };
        let pretrained = Default::default();
        Ok(Self { spec, region: Some(region), record: Some(record), pretrained, precision, params })
    }

    /// What turns frames into what is recorded of them.
    pub fn features(&self, config: &VitConfig, threads: usize) -> Result<Features, RunError> {
        Ok(Features::new(config, &self.spec, &self.params, threads)?)
    }

    /// The blocks that train, as they are before they do.
    pub fn untrained(&self, tail: &TailSpec) -> Result<Tail, RunError> {
        let params = Params::<Create>::new(0);
        params.put(self.pretrained.clone(), PREFIX)?;
        Ok(Tail::new(&Scope::root(&params).sub("enc").sub("vit"), tail)?)
    }
}

/// Sizes of the trunk that untrained weights or zeros stand in for. The default's are known without its file.
fn sizes(config: &VitConfig) -> Result<VitSpec, RunError> {
    if config.weights == "dinov2-small" {
        return Ok(VitSpec::dinov2_small());
    }
    Ok(read(&config.weights, &Hints::of(config)?, None)?.spec)
}

/// The sizes that a run was made with, if it was made already.
fn remembered(run: &Path) -> Result<Option<VitSpec>, RunError> {
    let file = run.join(SIZES);
    if !file.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&file).map_err(io("read", &file))?;
    serde_json::from_str(&text).map(Some).map_err(|e| io("read", &file)(e.into()))
}

/// The trunk that `vit.weights` names, with what it was fetched from as its source, if it was. Fetched weights must still be what was
/// fetched.
fn read(weights: &str, hints: &Hints, recorded: Option<&Frozen>) -> Result<Loaded, RunError> {
    let path = match crate::vit::locate(weights)? {
        Located::Local(path) => return Ok(load(&path, hints)?),
        Located::Cached(path) => path,
        Located::Missing => fetch(weights, &mut |event| tracing::info!("{event:?}"))?,
    };
    let origin = verify(&path).map_err(|damage| name_changed(damage, &path, hints, recorded))?.origin();
    let loaded = load(&path, hints)?;
    Ok(Loaded { source: format!("{origin}, in {}", path.display()), ..loaded })
}

/// The tensors that are not the recorded ones, if the damaged file still has such; else the damage itself.
fn name_changed(damage: FetchError, path: &Path, hints: &Hints, recorded: Option<&Frozen>) -> RunError {
    let loaded = recorded.and_then(|recorded| Some((recorded, load(path, hints).ok()?)));
    let compared = loaded.map(|(recorded, Loaded { spec, mut tensors, source, .. })| {
        // What trains is not recorded.
        tensors.retain(|path, _| {
            recorded.tensors.is_empty() || recorded.tensors.contains_key(&format!("{PREFIX}/{path}"))
        });
        Trunk::from_tree(tensors, spec, source, Precision::Float32)
            .and_then(|trunk| check_trunk_against(&trunk, recorded))
    });
    match compared {
        Some(Err(changed @ RunError::Frozen { .. })) => changed,
        _ => damage.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::vit::Images;

    use super::*;
    use crate::proof::{check_region, check_trunk};

    fn trunk(precision: Precision) -> Trunk {
        let spec = VitSpec { width: 64, depth: 2, heads: 2, mlp: 128, ..VitSpec::dinov2_small() };
        Trunk::from_tree(random(&spec, 3), spec, "a test".into(), precision).unwrap()
    }

    /// The region with the lowest bit of a tensor's last number changed. The shared one itself cannot be.
    fn altered(trunk: &Trunk, path: &str) -> Vec<u8> {
        let mut bytes = trunk.region.as_ref().unwrap().to_vec();
        let values = trunk.params.lookup(path).unwrap().to_vec().unwrap();
        let values: &[u8] = bytemuck::cast_slice(&values);
        let at = (0..bytes.len()).step_by(64).find(|at| bytes[*at..].starts_with(values)).unwrap();
        bytes[at + values.len() - 4] ^= 1;
        bytes
    }

    fn is_named(mut trunk: Trunk, path: &str) {
        check_trunk(&trunk).unwrap();
        let region = altered(&trunk, path);
        let error = check_region(region.clone(), trunk.record.as_ref().unwrap(), trunk.precision).unwrap_err();
        assert!(error.to_string().contains(&format!("`{path}`")), "{error}");
        let view = SnapshotView::open_altered(Arc::new(region)).unwrap();
        trunk.params = Params::read_only(&[("", &view)]).unwrap();
        let error = check_trunk(&trunk).unwrap_err();
        assert!(error.to_string().contains(&format!("`{path}`")), "{error}");
    }

    #[test]
    fn an_altered_weight_is_named() {
        is_named(trunk(Precision::Float32), &format!("{PREFIX}/blocks/1/mlp/fc2/kernel"));
    }

    #[test]
    fn a_processor_for_which_no_kernels_are_laid_out_takes_them_as_they_are() {
        // As an actor on another host may find them.
        let trunk = trunk(Precision::Float32);
        let pixels: Vec<f32> = (0..3 * 28 * 28).map(|i| (i as f32 * 0.37).sin()).collect();
        let tokens = |precision| {
            let vit = Vit::new(&trunk.spec, &trunk.params, 1, precision).unwrap();
            vit.tokens(Images { pixels: &pixels, n: 1, height: 28, width: 28 }, 1, true)
        };
        let expected = tokens(Precision::Float32);
        [Precision::Bf16, Precision::Split].into_iter().for_each(|other| assert_eq!(tokens(other), expected));
    }

    #[test]
    fn an_altered_kernel_laid_out_for_products_is_named() {
        let trunk = trunk(Precision::Bf16);
        let path = format!("{PRODUCTS}/blocks/1/mlp/fc2/kernel");
        // A processor without units for these products has nothing laid out.
        if trunk.params.paths().contains(&path) {
            is_named(trunk, &path);
        }
    }
}
