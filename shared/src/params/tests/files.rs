//! Trees in files.

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};

use super::*;
use crate::array::DType;

#[test]
fn a_tree_and_its_metadata_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.safetensors");
    let mut saved = tree(&[("enc/a", &[1.5, -2.0])]);
    saved.insert("counter".into(), Array::u64(&[], &[u64::MAX]));
    saved.insert("features".into(), Array::f16(&[1, 2], &[f16::ONE, f16::NEG_ONE]));
    saved.insert("flags".into(), Array::zeros(DType::U8, &[3]));
    let metadata: Metadata = [("step".to_string(), "12".to_string())].into();
    save(&file, &saved, &metadata).unwrap();
    assert_eq!(load(&file).unwrap(), (saved, metadata));
}

#[test]
fn every_cut_of_a_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    save(&file, &tree(&[("a", &[1.0, 2.0])]), &Metadata::new()).unwrap();
    let whole = std::fs::read(&file).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&file, &whole[..length]).unwrap();
        let error = load(&file).unwrap_err();
        assert!(matches!(&error, ParamError::Damaged { .. }), "{length}: {error}");
        assert!(error.to_string().contains("weights.safetensors"));
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = load(std::path::Path::new("/nowhere/weights.safetensors")).unwrap_err();
    assert!(matches!(&error, ParamError::File { .. }));
    assert!(error.to_string().contains("/nowhere/weights.safetensors"));
}

#[test]
fn casting_pretrained_weights_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("half.safetensors");
    let bits: Vec<u8> = [1.0f32, -3.0].iter().flat_map(|&x| bf16::from_f32(x).to_bits().to_le_bytes()).collect();
    let view = TensorView::new(Dtype::BF16, vec![2], &bits).unwrap();
    std::fs::write(&file, safetensors::serialize([("w", view)], None).unwrap()).unwrap();
    assert!(matches!(load(&file), Err(ParamError::FileDtype { path, dtype, .. }) if path == "w" && dtype == "BF16"));
    assert_eq!(load_f32(&file).unwrap().0, tree(&[("w", &[1.0, -3.0])]));
}
