//! Creation and the ways in.

use std::cell::Cell;
use std::sync::Arc;

use super::*;
use crate::array::DType;
use crate::config::Config;
use crate::snapshot::format::{SnapshotHeader, SnapshotView, encode};
use crate::vit::{self, VitSpec};

const NORMAL: Init = Init::Normal { std: 1.0 };

#[test]
fn get_creates_once_and_never_overwrites() {
    let params = Params::<Create>::new(1);
    let first = params.get("enc/mlp0/kernel", &[2, 3], NORMAL).unwrap();
    let again = params.get("enc/mlp0/kernel", &[2, 3], Init::Zeros).unwrap();
    assert_eq!(first.to_vec().unwrap(), again.to_vec().unwrap());
    let (Weight::Var(first), Weight::Var(again)) = (first, again) else { panic!("creation gives variables") };
    first.set(&first.ones_like().unwrap()).unwrap();
    assert_eq!(again.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0; 6]);
}

#[test]
fn another_shape_is_refused_with_both_shapes_and_the_phase() {
    let params = Params::<Create>::new(1);
    params.get("enc/mlp0/kernel", &[2, 3], NORMAL).unwrap();
    let text = params.get("enc/mlp0/kernel", &[3, 3], NORMAL).unwrap_err().to_string();
    for part in ["enc/mlp0/kernel", "[2, 3]", "[3, 3]", "create"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn adding_a_layer_changes_no_other() {
    let (small, large) = (Params::<Create>::new(3), Params::<Create>::new(3));
    large.get("enc/added", &[7], NORMAL).unwrap();
    let values = |params: &Params<Create>| params.get("enc/kernel", &[5], NORMAL).unwrap().to_vec().unwrap();
    assert_eq!(values(&small), values(&large));
    assert_ne!(values(&small), values(&Params::<Create>::new(4)));
}

#[test]
fn a_name_is_a_parameter_or_a_module_never_both() {
    let params = Params::<Create>::new(0);
    params.get("a/b", &[1], NORMAL).unwrap();
    for path in ["a", "a/b/c", "a//c", "", "/a"] {
        assert!(matches!(params.get(path, &[1], NORMAL), Err(ParamError::Path { .. })), "{path}");
    }
}

#[test]
fn put_is_all_or_nothing_and_overwrites_nothing() {
    let params = Params::<Create>::new(0);
    params.put(tree(&[("b", &[1.0])]), "enc").unwrap();
    let clash = params.put(tree(&[("a", &[2.0]), ("b", &[2.0])]), "enc");
    assert!(matches!(clash, Err(ParamError::Exists { path }) if path == "enc/b"));
    assert_eq!(params.find("enc").unwrap(), tree(&[("b", &[1.0])]));
    let half: Tree = [("c".to_string(), Array::zeros(DType::F16, &[1]))].into();
    assert!(matches!(params.put(half, "enc"), Err(ParamError::Dtype { .. })));
    assert_eq!(params.paths(), ["enc/b"]);
}

/// The case that people ask about most: 70-pixel frames, 384 wide, 6 heads, 12 blocks.
#[test]
fn a_whole_vit_goes_in_by_put_and_comes_out_by_find_as_it_was() {
    let spec = VitSpec::dinov2_small();
    assert_eq!((spec.width, spec.heads, spec.depth), (384, 6, 12));
    let vit: Tree =
        vit::random(&spec, 0).into_iter().map(|(k, (shape, values))| (k, Array::f32(&shape, &values))).collect();
    let params = Params::<Create>::new(0);
    params.put(vit.clone(), "enc/vit").unwrap();
    assert!(params.find("enc/vit").unwrap() == vit);
    assert_eq!(params.find("enc/vit/blocks/11").unwrap()["attn/qkv/kernel"].shape, [384, 3 * 384]);
    let text = params.find("enc/vit/blocks/12/attn/qkv/kernel").unwrap_err().to_string();
    assert!(text.contains("create") && text.contains("enc/vit/blocks/1"), "{text}");

    params.freeze("enc/vit").unwrap();
    let params = params.seal().unwrap();
    let below = params.subset(&["enc/vit"]).unwrap();
    let own = |(path, weight): (String, Weight)| (path["enc/vit/".len()..].to_string(), weight);
    let own: Vec<(String, Weight)> = below.into_iter().map(own).collect();
    let header = SnapshotHeader { version: 0, update: 0, published: 0 };
    let view = SnapshotView::open(Arc::new(encode(&header, &own).unwrap())).unwrap();
    let mapped = Params::read_only(&[("enc/vit", &view)]).unwrap();
    let config = Config::load(&["dummy"], &["vit.pool=grid"]).unwrap().vit;
    let features = vit::Features::new(&config, &spec, &mapped, 1).unwrap();
    assert_eq!(features.encode(&[128; 70 * 70 * 3], 1, 70, 70).len(), 5 * 5 * 384);
}

#[test]
fn find_names_the_neighbours_of_a_mistyped_path() {
    let params = sealed(&[("enc/vit/cls", &[1.0]), ("dyn/gru", &[1.0])]);
    let text = params.find("enc/vti/cls").unwrap_err().to_string();
    assert!(text.contains("enc/vti/cls") && text.contains("run") && text.contains("enc/vit/cls"), "{text}");
    assert_eq!(params.find("enc/vit/cls").unwrap(), tree(&[("cls", &[1.0])]));
}

#[test]
fn a_loader_runs_once_even_after_another_failed() {
    let params = Params::<Create>::new(0);
    let failed = params.get_with("w", || Err(ParamError::Load { path: "w".into(), message: "no file".into() }));
    assert!(failed.is_err() && params.paths().is_empty());
    let runs = Cell::new(0);
    for _ in 0..3 {
        let load = || {
            runs.set(runs.get() + 1);
            Ok(array(&[5.0]))
        };
        assert_eq!(params.get_with("w", load).unwrap().to_vec().unwrap(), [5.0]);
    }
    assert_eq!(runs.get(), 1);
}

/// A module of two parameters.
fn build(scope: &Scope) -> Result<(), ParamError> {
    scope.weight("a", &[2], NORMAL)?;
    scope.weight("b", &[2], NORMAL).map(|_| ())
}

#[test]
fn wrap_keeps_nothing_of_a_hook_that_returns_another_tree() {
    let f16 = Array::zeros(DType::F16, &[2]);
    let bad: [Tree; 4] = [
        tree(&[("a", &[1.0, 2.0])]),
        tree(&[("a", &[1.0, 2.0]), ("b", &[1.0, 2.0]), ("c", &[1.0])]),
        tree(&[("a", &[1.0, 2.0]), ("b", &[1.0])]),
        [("a".to_string(), array(&[1.0, 2.0])), ("b".to_string(), f16)].into(),
    ];
    let params = Params::<Create>::new(0);
    params.get("enc/other", &[1], NORMAL).unwrap();
    for wrong in bad {
        assert!(params.wrap("enc/vit", build, |_| Ok(wrong.clone())).is_err(), "{wrong:?}");
        assert_eq!(params.paths(), ["enc/other"]);
    }
    let good = tree(&[("a", &[1.0, 2.0]), ("b", &[3.0, 4.0])]);
    params.wrap("enc/vit", build, |_| Ok(good.clone())).unwrap();
    assert_eq!(params.find("enc/vit").unwrap(), good);
    params.wrap("enc/vit", build, |_| panic!("nothing was created")).unwrap();
}

#[test]
fn nothing_is_loaded_again_on_restore() {
    let saved = tree(&[("enc/vit/a", &[1.0, 2.0]), ("enc/vit/b", &[3.0, 4.0]), ("head/w", &[5.0]), ("put/x", &[6.0])]);
    let params = Params::<Create>::restoring(0, saved.clone());
    params.wrap("enc/vit", build, |_| panic!("the hook ran")).unwrap();
    params.get_with("head/w", || panic!("the loader ran")).unwrap();
    params.put(tree(&[("x", &[0.0])]), "put").unwrap();
    assert_eq!(params.seal().unwrap().find("").unwrap(), saved);
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused() {
    let restoring = || Params::<Create>::restoring(0, tree(&[("a", &[1.0]), ("b", &[1.0])]));
    let params = restoring();
    params.get("a", &[1], NORMAL).unwrap();
    params.get("c", &[1], NORMAL).unwrap();
    let Err(ParamError::Keys { missing, unexpected, .. }) = params.seal() else { panic!("sealed") };
    assert_eq!((missing, unexpected), (vec!["c".to_string()], vec!["b".to_string()]));
    assert!(matches!(restoring().get("a", &[2], NORMAL), Err(ParamError::Shape { .. })));
}
