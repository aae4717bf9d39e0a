//! The frozen ViT against the libraries whose checkpoints it reads, and against files that are wrong.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use shared::config::VitConfig;
use shared::env::{Space, Spaces};
use shared::params::{Init, Mapped, ParamError, Source, Weight};
use shared::vit::{self, Filter, Images, Loaded, PREFIX, Tree, Vit, VitError, VitSpec};

/// Names of the default folder whose conventions are read.
const SUPPORTED: [&str; 4] = ["hf_dinov2", "hf_dinov2_reg", "timm_vit", "timm_vit_reg_layerscale"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/vit")
}

/// Every supported fixture: name and folder.
fn fixtures() -> Vec<(String, PathBuf)> {
    let Some(folder) = std::env::var_os("LUCID_VIT_PARITY_DIR").map(PathBuf::from) else {
        return SUPPORTED.map(|name| (name.to_string(), repository())).to_vec();
    };
    let names = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let stems = names.filter_map(|n| n.strip_suffix(".expected.safetensors").map(str::to_string));
    stems.filter(|n| SUPPORTED.iter().any(|s| n.starts_with(s))).map(|n| (n, folder.clone())).collect()
}

/// A tree in one region, as actors see it.
struct Flat(Tree);

impl Source for Flat {
    fn weight(&self, path: &str, shape: &[usize], _: Init) -> Result<Weight, ParamError> {
        let (found, values) = &self.0[path.strip_prefix(PREFIX).unwrap().trim_start_matches('/')];
        assert_eq!(found, shape, "{path}");
        // Backed by u32-aligned memory: a Vec<f32> seen as bytes.
        struct Floats(Vec<f32>);
        impl AsRef<[u8]> for Floats {
            fn as_ref(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0)
            }
        }
        Ok(Weight::Mapped(Mapped::new(Arc::new(Floats(values.clone())), 0, shape).unwrap()))
    }
}

struct Expected(Vec<u8>);

impl Expected {
    fn open(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    fn names(&self) -> Vec<String> {
        SafeTensors::deserialize(&self.0).unwrap().names().into_iter().map(str::to_string).collect()
    }

    fn get(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap();
        (view.shape().to_vec(), bytemuck::pod_collect_to_vec(view.data()))
    }

    /// [n, 3, h, w] as [n, h, w, 3], with n, h and w.
    fn image(&self, name: &str) -> (Vec<f32>, [usize; 3]) {
        let (shape, values) = self.get(name);
        let [n, c, h, w] = shape[..] else { panic!("{name} has shape {shape:?}") };
        let at = |i: usize| ((i / (h * w * c)) * c + i % c) * h * w + (i / c) % (h * w);
        ((0..values.len()).map(|i| values[at(i)]).collect(), [n, h, w])
    }
}

fn assert_close(found: &[f32], wanted: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}: lengths differ");
    let scale = wanted.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let error = found.iter().zip(wanted).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / scale;
    assert!(error <= tolerance, "{what}: relative error {error:e} above {tolerance:e}");
}

fn open(name: &str, folder: &Path) -> Loaded {
    let notes = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    let notes: serde_json::Value = serde_json::from_str(&notes).unwrap();
    let heads = notes["heads"].as_u64().unwrap() as usize;
    vit::load_with_heads(&folder.join(format!("{name}.safetensors")), Some(heads)).unwrap()
}

fn trunk(loaded: &Loaded, threads: usize) -> Vit {
    Vit::new(&loaded.spec, &Flat(loaded.tensors.clone()), threads).unwrap()
}

#[test]
fn vit_parity_tokens_and_blocks() {
    let fixtures = fixtures();
    assert!(!fixtures.is_empty(), "no fixture of a supported library");
    for (name, folder) in fixtures {
        let loaded = open(&name, &folder);
        let expected = Expected::open(&folder.join(format!("{name}.expected.safetensors")));
        for threads in [1, 2] {
            compare(&name, &trunk(&loaded, threads), &expected);
        }
    }
}

fn compare(name: &str, vit: &Vit, expected: &Expected) {
    let last = vit.spec().depth - 1;
    for kind in ["native", "resized"] {
        let (pixels, [n, height, width]) = expected.image(&format!("{kind}/image"));
        let images = Images { pixels: &pixels, n, height, width };
        let found = vit.tokens(images, last, true);
        assert_close(&found, &expected.get(&format!("{kind}/tokens")).1, 2e-5, &format!("{name} {kind}/tokens"));
        let prefix = format!("{kind}/block_");
        for key in expected.names().iter().filter(|k| k.starts_with(&prefix)) {
            let index = key[prefix.len()..].trim_end_matches("_patches").parse().unwrap();
            let mut found = vit.tokens(images, index, false);
            if key.ends_with("_patches") {
                let frame = found.len() / n;
                let skip = vit.spec().prefix() * vit.spec().width;
                found = found.chunks(frame).flat_map(|f| f[skip..].to_vec()).collect();
            }
            assert_close(&found, &expected.get(key).1, 2e-5, &format!("{name} {key}"));
        }
    }
}

#[test]
fn vit_parity_preprocessing() {
    let expected = Expected::open(&repository().join("preprocess.expected.safetensors"));
    let frame: Vec<u8> = expected.get("frame").1.iter().map(|&x| x as u8).collect();
    for side in [70, 56] {
        let found = vit::normalise(&frame, (64, 64), (side, side));
        assert_close(&found, &expected.image(&format!("resized_{side}")).0, 2e-5, &format!("{side}"));
    }
    let scaled: Vec<f32> = frame.iter().map(|&x| x as f32 / 255.0).collect();
    let large = vit::resize(&scaled, (64, 64), (224, 224), 3, Filter::BilinearAntialias);
    let mut pooled = vec![0.0; 32 * 32 * 3];
    for (i, x) in large.iter().enumerate() {
        let (y, column, c) = (i / 3 / 224, i / 3 % 224, i % 3);
        pooled[(y / 7 * 32 + column / 7) * 3 + c] += x / 49.0;
    }
    assert_close(&pooled, &expected.image("resized_224").0, 2e-5, "resized_224");
}

#[test]
fn vit_trunk_takes_the_nearest_whole_number_of_patches() {
    assert_eq!(vit::trunk_size((64, 64), 14), (70, 70));
    assert_eq!(vit::trunk_size((84, 96), 14), (84, 98));
    assert_eq!(vit::trunk_size((3, 8), 14), (14, 14));
}

#[test]
fn vit_missing_file_is_named() {
    let error = vit::load(Path::new("/nowhere/weights.safetensors")).unwrap_err();
    assert!(matches!(error, VitError::Read { .. }) && error.to_string().contains("/nowhere/weights"), "{error}");
}

#[test]
fn vit_truncated_file_is_refused_at_any_length() {
    let whole = std::fs::read(repository().join("hf_dinov2.safetensors")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.safetensors");
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = vit::load(&path).unwrap_err();
        assert!(matches!(error, VitError::Format { .. }), "{length} bytes: {error}");
    }
}

#[test]
fn vit_wrong_width_and_depth_name_both_shapes_and_the_path() {
    let loaded = open("hf_dinov2", &repository());
    let wider = VitSpec { width: 64, ..loaded.spec.clone() };
    let error = vit::check(&loaded.tensors, &wider, "file").unwrap_err().to_string();
    assert!(error.contains("enc/vit/cls") && error.contains("[32]") && error.contains("[64]"), "{error}");
    let deeper = VitSpec { depth: 3, ..loaded.spec.clone() };
    let error = vit::check(&loaded.tensors, &deeper, "file").unwrap_err();
    assert!(matches!(&error, VitError::Missing { name, .. } if name.starts_with("enc/vit/blocks/2/")), "{error}");
    let shallower = VitSpec { depth: 1, ..loaded.spec };
    let error = vit::check(&loaded.tensors, &shallower, "file").unwrap_err();
    assert!(matches!(&error, VitError::Unexpected { name, .. } if name.starts_with("enc/vit/blocks/1/")), "{error}");
}

/// A copy of a fixture with one tensor renamed.
fn renamed(from: &str, to: &str, path: &Path) {
    let bytes = std::fs::read(repository().join("timm_vit_reg_layerscale.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let rename = |name: String| if name == from { to.to_string() } else { name };
    let views = file.tensors().into_iter().map(|(name, view)| (rename(name), view));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

#[test]
fn vit_missing_and_unexpected_tensors_are_named_with_their_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    renamed("blocks.1.mlp.fc1.bias", "blocks.1.mlp.fc1.bais", &path);
    let error = vit::load_with_heads(&path, Some(4)).unwrap_err().to_string();
    assert!(error.contains("`blocks.1.mlp.fc1.bias`") && error.contains("fc1.bais"), "{error}");
    renamed("reg_token", "reg_tokn", &path);
    let error = vit::load_with_heads(&path, Some(4)).unwrap_err();
    assert!(matches!(&error, VitError::Unexpected { name, .. } if name == "reg_tokn"), "{error}");
    assert!(error.to_string().contains("reg_token"), "{error}");
    let bytes = std::fs::read(repository().join("hf_siglip_vision.safetensors")).unwrap();
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(vit::load(&path).unwrap_err(), VitError::Convention { .. }));
    renamed("cls_token", "head.bias", &path);
    assert!(matches!(vit::load(&path).unwrap_err(), VitError::Missing { name, .. } if name == "cls_token"));
}

#[test]
fn vit_random_trunk_is_the_same_for_a_seed_and_fits_its_sizes() {
    let spec = open("timm_vit_reg_layerscale", &repository()).spec;
    let tree = vit::random(&spec, 3);
    vit::check(&tree, &spec, "random").unwrap();
    assert_eq!(tree, vit::random(&spec, 3));
    assert_ne!(tree["cls"], vit::random(&spec, 4)["cls"]);
}

fn config(features: &str, pool: &str, grid: usize, decode: &str) -> VitConfig {
    let (weights, block) = ("w".into(), -1);
    let (features, pool, decode) = (features.into(), pool.into(), decode.into());
    VitConfig { weights, features, block, pool, grid, reduce: 0, calibration: 0, decode }
}

#[test]
fn vit_features_pool_tokens_and_match_their_space() {
    let loaded = open("hf_dinov2", &repository());
    let source = Flat(loaded.tensors.clone());
    let frames: Vec<u8> = (0..2 * 30 * 34 * 3).map(|i| (i * 37 % 251) as u8).collect();
    let encode = |features: &str, pool: &str, grid: usize| {
        let config = config(features, pool, grid, "features");
        let space = vit::features_space(&config, &loaded.spec, &Space::image(30, 34, 3)).unwrap();
        let found = vit::Features::new(&config, &loaded.spec, &source, 1).unwrap().encode(&frames, 2, 30, 34);
        assert_eq!(found.len(), 2 * space.elements(), "{pool} {grid}");
        found
    };
    let pixels = vit::normalise(&frames, (30, 34), (32, 32));
    let images = Images { pixels: &pixels, n: 2, height: 32, width: 32 };
    let tokens = trunk(&loaded, 1).tokens(images, 1, true);
    assert_eq!(encode("pretrained", "cls", 0)[32..], tokens[17 * 32..18 * 32]);
    assert_eq!(encode("pretrained", "grid", 0)[..16 * 32], tokens[32..17 * 32]);
    let mean: Vec<f32> = (0..32).map(|c| (1..17).map(|t| tokens[t * 32 + c] / 16.0).sum()).collect();
    assert_close(&encode("pretrained", "mean", 0)[..32], &mean, 1e-5, "mean");
    let corner: Vec<f32> = (0..32).map(|c| [1, 2, 5, 6].iter().map(|t| tokens[t * 32 + c] / 4.0).sum()).collect();
    assert_close(&encode("pretrained", "grid", 2)[..32], &corner, 1e-5, "first cell of a 2 x 2 grid");
    assert!(encode("zero", "grid", 2).iter().all(|&x| x == 0.0));
}

#[test]
fn vit_features_replace_images_in_what_the_agent_sees() {
    let spec = VitSpec::dinov2_small();
    let spaces = Spaces::from([("image".into(), Space::image(64, 64, 3)), ("speed".into(), Space::vector(&[2]))]);
    let keys = |decode: &str| {
        let seen = vit::agent_spaces(&spaces, &config("pretrained", "grid", 0, decode), &spec).unwrap();
        assert_eq!(seen["vit/image"].shape, [25, 384]);
        seen.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(keys("features"), ["vit/image", "speed"]);
    assert_eq!(keys("both"), ["vit/image", "image", "speed"]);
    assert!(vit::agent_spaces(&spaces, &config("pretrained", "max", 0, "both"), &spec).is_err());
}
