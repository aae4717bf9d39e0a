//! Files that are made to cost time or memory, or to pass as a trunk that computes nothing.

use std::path::{Path, PathBuf};

use shared::array::Array;
use shared::params::{Metadata, Tree, load, save};

use super::super::{Hints, inspect};

const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parity/vit/hf_dinov2.safetensors");

/// What loading says of a small trunk whose tensors and configuration were changed. Inspecting it must end too.
fn refused(change: impl FnOnce(&mut Tree), config: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vit.safetensors");
    let (mut tree, _) = load(SMALL.as_ref()).unwrap();
    change(&mut tree);
    save(&file, &tree, &Metadata::new()).unwrap();
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let _ = inspect(&file, &Hints::default());
    super::super::load(&file, &Hints::default()).unwrap_err().to_string()
}

fn reshaped(tree: &mut Tree, name: &str, shape: &[usize]) {
    let array = tree.get_mut(name).unwrap();
    *array = Array { shape: shape.to_vec(), bytes: vec![], ..array.clone() };
}

#[test]
fn vit_load_refuses_tensors_without_elements_however_many_rows_they_have() {
    for shape in [[0, 3, 1 << 31, 1 << 31], [1 << 40, 3, 0, 14]] {
        let name = "embeddings.patch_embeddings.projection.weight";
        let error = refused(|tree| reshaped(tree, name, &shape), r#"{"num_attention_heads": 2}"#);
        assert!(error.contains(name) && error.contains("shape"), "{error}");
    }
    let name = "encoder.layer.0.mlp.fc1.weight";
    let error = refused(|tree| reshaped(tree, name, &[0, 1 << 60]), r#"{"num_attention_heads": 2}"#);
    assert!(error.contains(name), "{error}");
}

#[test]
fn vit_load_refuses_more_blocks_than_any_trunk_has() {
    let deep = |tree: &mut Tree| {
        let block: Tree =
            tree.iter().filter(|(name, _)| name.contains("layer.0.")).map(|(n, a)| (n.clone(), a.clone())).collect();
        for i in 0..300 {
            tree.extend(
                block.iter().map(|(name, array)| (name.replace("layer.0.", &format!("layer.{i}.")), array.clone())),
            );
        }
    };
    let error = refused(deep, r#"{"num_attention_heads": 2}"#);
    assert!(error.contains("300 blocks"), "{error}");
}

#[test]
fn vit_load_refuses_values_that_are_not_finite() {
    let spoil = |tree: &mut Tree| {
        let bias = tree.get_mut("encoder.layer.1.mlp.fc1.bias").unwrap();
        *bias = Array::f32(&bias.shape.clone(), &vec![f32::NAN; bias.elements()]);
    };
    let error = refused(spoil, r#"{"num_attention_heads": 2}"#);
    assert!(error.contains("blocks/1/mlp/fc1/bias") && error.contains("not finite"), "{error}");
}

#[test]
fn vit_load_refuses_configurations_that_compute_nothing() {
    for (config, named) in [
        (r#"{"num_attention_heads": 0}"#, "vit.heads"),
        (r#"{"num_attention_heads": 2, "layer_norm_eps": 1e300}"#, "epsilon"),
        (r#"{"num_attention_heads": 2, "layer_norm_eps": -1}"#, "epsilon"),
        (r#"{"num_attention_heads": 2, "pretrained_cfg": {"mean": [0, 0, 0], "std": [1, 0, 1]}}"#, "deviations"),
        (r#"{"num_attention_heads": 7}"#, "7 heads"),
        (r#"{"num_attention_heads": "2"}"#, "config.json"),
        ("", "config.json"),
        ("{", "config.json"),
    ] {
        let error = refused(|_| (), config);
        assert!(error.contains(named), "{config}: {error}");
    }
    let nested = format!("{}{}", r#"{"vision_config":"#.repeat(100_000), "1");
    assert!(refused(|_| (), &nested).contains("config.json"));
    assert!(refused(|_| (), &" ".repeat(5 << 20)).contains("config.json"));
}

#[test]
fn vit_load_does_not_wait_for_a_configuration_that_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("vit.safetensors");
    std::fs::copy(SMALL, &file).unwrap();
    let pipe: &Path = &folder.path().join("config.json");
    rustix::fs::mkfifoat(rustix::fs::CWD, pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let error = super::super::load(&file, &Hints::default()).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
}
