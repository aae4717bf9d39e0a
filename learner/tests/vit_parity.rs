//! The frozen ViT against the libraries whose checkpoints it reads, and against files that are wrong.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::{Path, PathBuf};
use std::sync::Arc;

use learner::vit::{Family, Hints, LoadError, Loaded, load};
use safetensors::SafeTensors;
use shared::config::{Config, VitConfig};
use shared::env::{Space, Spaces};
use shared::kernels::Precision;
use shared::params::{Init, Mapped, ParamError, Source, Weight};
use shared::vit::{self, Filter, Images, PREFIX, Pixels, Tree, Vit, VitError, VitSpec};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/vit")
}

/// Every pair of weights and expected tokens: name and folder.
fn fixtures() -> Vec<(String, PathBuf)> {
    let folder = std::env::var_os("LUCID_VIT_PARITY_DIR").map_or_else(repository, PathBuf::from);
    let names = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let stems = names.filter_map(|n| n.strip_suffix(".expected.safetensors").map(str::to_string));
    stems.map(|n| (n, folder.clone())).filter(|(n, f)| f.join(format!("{n}.safetensors")).exists()).collect()
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
    load(&folder.join(format!("{name}.safetensors")), &hints(name, folder)).unwrap()
}

/// Heads of the fixtures are narrower than those of published models.
fn hints(name: &str, folder: &Path) -> Hints {
    let notes = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    let notes: serde_json::Value = serde_json::from_str(&notes).unwrap();
    let heads = notes["heads"].as_u64().map(|heads| heads as usize);
    let config = folder.join(format!("{name}_config/config.json"));
    Hints { heads, config: config.exists().then_some(config), ..Hints::default() }
}

fn trunk(loaded: &Loaded, threads: usize) -> Vit {
    Vit::new(&loaded.spec, &Flat(loaded.tensors.clone()), threads, Precision::Float32).unwrap()
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
        let found = vit.tokens(images, last, vit.spec().normed);
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
        let found = vit::normalise(&frame, (64, 64), (side, side), Pixels::IMAGENET);
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
    assert_eq!(vit::whole_patches((64, 64), 14), (70, 70));
    assert_eq!(vit::whole_patches((84, 96), 14), (84, 98));
    assert_eq!(vit::whole_patches((3, 8), 14), (14, 14));
}

#[test]
fn vit_missing_file_is_named() {
    let error = load(Path::new("/nowhere/weights.safetensors"), &Hints::default()).unwrap_err();
    assert!(matches!(error, LoadError::Weights(_)) && error.to_string().contains("/nowhere/weights"), "{error}");
}

#[test]
fn vit_truncated_file_is_refused_at_any_length() {
    let whole = std::fs::read(repository().join("hf_dinov2.safetensors")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.safetensors");
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = load(&path, &Hints::default()).unwrap_err();
        assert!(matches!(error, LoadError::Weights(_)), "{length} bytes: {error}");
        assert!(error.to_string().contains("cut.safetensors"), "{error}");
    }
}

#[test]
fn vit_wrong_width_and_depth_name_both_shapes_and_the_path() {
    let loaded = open("hf_dinov2", &repository());
    let wider = VitSpec { width: 64, ..loaded.spec.clone() };
    let error = vit::check(&loaded.tensors, &wider, "file").unwrap_err().to_string();
    assert!(error.contains("enc/vit/patch/kernel") && error.contains("3, 32]") && error.contains("3, 64]"), "{error}");
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
    renamed("blocks.1.mlp.fc1.bias", "head.bias", &path);
    let error = load(&path, &Hints { heads: Some(4), ..Hints::default() }).unwrap_err().to_string();
    assert!(error.contains("no tensor `blocks.1.mlp.fc1.bias`; nearest: blocks.0.mlp.fc1.bias"), "{error}");
    renamed("reg_token", "reg_tokn", &path);
    let error = load(&path, &Hints { heads: Some(4), ..Hints::default() }).unwrap_err();
    assert!(matches!(&error, LoadError::Vit(VitError::Unexpected { name, .. }) if name == "reg_tokn"), "{error}");
    assert!(error.to_string().contains("reg_token"), "{error}");
    renamed("norm.weight", "head.bias", &path);
    let error = load(&path, &Hints::default()).unwrap_err();
    assert!(matches!(&error, LoadError::Vit(VitError::Missing { name, .. }) if name == "norm.weight"), "{error}");
    with_names("timm_vit", &path, |name| if name.ends_with("mlp.fc1.bias") { vec![] } else { vec![name.into()] });
    let without = load(&path, &Hints { heads: Some(4), ..Hints::default() }).unwrap();
    assert_eq!(
        without.tensors["blocks/1/mlp/fc1/bias"],
        (vec![128], vec![0.0; 128]),
        "models without biases have zeros"
    );
    renamed("pos_embed", "where", &path);
    let error = load(&path, &Hints::default()).unwrap_err();
    assert!(matches!(error, LoadError::Unknown { .. }) && error.to_string().contains("torchvision"), "{error}");
}

#[test]
fn vit_family_is_found_out_and_can_be_named() {
    let families = [
        ("hf_dinov2", Family::Dinov2),
        ("hf_dinov2_reg", Family::Dinov2),
        ("hf_dinov3", Family::Dinov3),
        ("hf_vit", Family::Vit),
        ("hf_clip_vision", Family::Clip),
        ("hf_siglip_vision", Family::Siglip),
        ("timm_vit", Family::Timm),
        ("torchvision_vit", Family::Torchvision),
    ];
    for (name, family) in families {
        let hints = hints(name, &repository());
        let path = repository().join(format!("{name}.safetensors"));
        assert_eq!(load(&path, &hints).unwrap().family, family, "{name}");
        assert_eq!(load(&path, &Hints { family: Some(family), ..hints.clone() }).unwrap().family, family);
        let other = if family == Family::Timm { Family::Clip } else { Family::Timm };
        let error = load(&path, &Hints { family: Some(other), ..hints }).unwrap_err();
        assert!(matches!(error, LoadError::Unknown { .. }), "{name}: {error}");
    }
}

/// A copy of a fixture with every name changed.
fn with_names(fixture: &str, path: &Path, name: impl Fn(&str) -> Vec<String>) {
    let bytes = std::fs::read(repository().join(format!("{fixture}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors();
    let views = tensors.iter().flat_map(|(own, view)| name(own).into_iter().map(move |name| (name, view)));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

#[test]
fn vit_prefixes_are_found_out_and_of_several_trunks_one_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    for fixture in ["hf_dinov3", "hf_siglip_vision", "timm_vit", "torchvision_vit"] {
        let plain = open(fixture, &repository());
        for prefix in ["module.", "backbone.", "model.vision_model."] {
            with_names(fixture, &path, |name| vec![format!("{prefix}{name}")]);
            let loaded = load(&path, &hints(fixture, &repository())).unwrap();
            assert_eq!((&loaded.tensors, &loaded.spec), (&plain.tensors, &plain.spec), "{fixture} below {prefix}");
        }
    }
    with_names("timm_vit", &path, |name| ["student.", "teacher."].map(|prefix| format!("{prefix}{name}")).to_vec());
    let hints = Hints { heads: Some(4), ..Hints::default() };
    let error = load(&path, &hints).unwrap_err();
    assert!(matches!(error, LoadError::Ambiguous { .. }), "{error}");
    assert!(error.to_string().contains("`student.` and `teacher.`; choose one with vit.prefix"), "{error}");
    let chosen = load(&path, &Hints { prefix: Some("teacher.".into()), ..hints }).unwrap();
    assert_eq!(chosen.tensors, open("timm_vit", &repository()).tensors);
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
    let defaults = Config::load::<&str, &str>(&[], &[]).unwrap().vit;
    let (features, pool, decode) = (features.into(), pool.into(), decode.into());
    VitConfig { weights: "w".into(), features, pool, grid, decode, reduce: 0, ..defaults }
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
    let pixels = vit::normalise(&frames, (30, 34), (32, 32), Pixels::IMAGENET);
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
