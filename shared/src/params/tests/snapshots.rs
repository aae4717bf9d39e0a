//! Parameters that live in shared regions.

use std::sync::Arc;

use super::*;
use crate::snapshot::format::{SnapshotHeader, SnapshotView, encode};

fn region(params: &[(String, Weight)]) -> Region {
    let header = SnapshotHeader { version: 3, update: 30, published: 1 };
    Arc::new(encode(&header, params).unwrap())
}

fn policy() -> Params<Run> {
    sealed(&[("dyn/gru", &[1.0, 2.0]), ("enc/mlp/kernel", &[3.0]), ("pol/out", &[4.0]), ("val/out", &[5.0])])
}

#[test]
fn actors_read_a_subset_in_place() {
    let subset = policy().subset(&["enc/", "dyn/", "pol/"]).unwrap();
    let view = SnapshotView::open(region(&subset)).unwrap();
    let vit = SnapshotView::open(region(&sealed(&[("cls", &[9.0])]).subset(&[""]).unwrap())).unwrap();
    let params = Params::<ReadOnly>::read_only(&[("", &view), ("enc/vit", &vit)]).unwrap();
    assert_eq!(params.paths(), ["dyn/gru", "enc/mlp/kernel", "enc/vit/cls", "pol/out"]);
    let weight = params.weight("dyn/gru", &[2], Init::Zeros).unwrap();
    assert!(matches!(&weight, Weight::Mapped(mapped) if mapped.values() == [1.0, 2.0]));
    assert_eq!(view.fingerprint(), policy().fingerprint(&["enc", "dyn", "pol"]).unwrap());
    assert_eq!(params.digest("dyn").unwrap(), policy().digest("dyn").unwrap());
}

#[test]
fn a_parameter_outside_of_the_snapshot_names_the_prefix_to_add() {
    let subset = policy().subset(&["enc", "pol"]).unwrap();
    let view = SnapshotView::open(region(&subset)).unwrap();
    let params = Params::<ReadOnly>::read_only(&[("", &view)]).unwrap();
    for (path, wanted) in [("dyn/gru", "dyn"), ("enc/adapter/norm/scale", "enc/adapter")] {
        let error = params.weight(path, &[2], Init::Zeros).unwrap_err();
        assert!(matches!(&error, ParamError::NotInSnapshot { prefix, .. } if prefix == wanted), "{error}");
    }
}

#[test]
fn a_region_enters_creation_frozen_and_mapped() {
    let encoder = sealed(&[("cls", &[9.0]), ("norm/scale", &[8.0])]).subset(&[""]).unwrap();
    let params = Params::<Create>::new(0);
    params.put_region("enc/vit", region(&encoder), "a file").unwrap();
    params.get("head", &[1], Init::Ones).unwrap();
    let cls = params.get("enc/vit/cls", &[1], Init::Zeros).unwrap();
    assert!(matches!(cls, Weight::Mapped(mapped) if mapped.values() == [9.0]));
    let params = params.seal().unwrap();
    assert_eq!(params.trainable().len(), 1);
    assert!(matches!(params.set("enc/vit/cls", &array(&[0.0])), Err(ParamError::Frozen { .. })));
    let report = &params.verify().unwrap()[0];
    assert!(report.holds() && report.prefix == "enc/vit" && report.source == "a file" && report.bytes == 8);
}

#[test]
fn a_damaged_region_is_refused_and_nothing_enters() {
    let params = Params::<Create>::new(0);
    let cut: Region = Arc::new(vec![0u8; 64]);
    assert!(matches!(params.put_region("enc/vit", cut, "a file"), Err(ParamError::Region(_))));
    assert!(params.paths().is_empty() && params.seal().unwrap().frozen().is_empty());
}
