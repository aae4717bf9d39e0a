//! A region is read back whole or refused; bad bytes never panic.

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use proptest::prelude::*;

use super::*;
use crate::snapshot::PolicySnapshot;

fn param(path: &str, shape: &[usize], first: f32) -> (String, Weight) {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i| first + i as f32).collect();
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    (path.to_string(), Weight::Var(Var::from_tensor(&tensor).unwrap()))
}

fn params() -> Vec<(String, Weight)> {
    vec![
        param("pol/out", &[3, 5], 1.0),
        param("dyn/empty", &[0, 4], 0.0),
        param("dyn/scalar", &[], 7.0),
        param("enc", &[17], -4.0),
    ]
}

const HEAD: SnapshotHeader = SnapshotHeader { version: 12, update: 340, published: 56 };

fn open(bytes: &[u8]) -> Result<SnapshotView, FormatError> {
    SnapshotView::open(Arc::new(bytes.to_vec()))
}

/// Recompute both checksums, so that what lies behind them is tested.
fn sign(bytes: &mut [u8]) {
    let body = xxh3_64(&bytes[HEADER..]);
    bytes[64..72].copy_from_slice(&body.to_le_bytes());
    let head = xxh3_64(&bytes[..HEADER - 8]);
    bytes[HEADER - 8..HEADER].copy_from_slice(&head.to_le_bytes());
}

#[test]
fn what_is_written_is_read_in_place() {
    let bytes = encode(&HEAD, &params()).unwrap();
    let view = open(&bytes).unwrap();
    assert_eq!((view.header(), view.bytes()), (HEAD, bytes.len()));
    assert_eq!(view.fingerprint(), crate::params::fingerprint(&params()));
    let mut expected = params();
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(view.iter().count(), expected.len());
    for ((path, mapped), (wanted, weight)) in view.iter().zip(&expected) {
        assert_eq!((path, mapped.shape()), (wanted.as_str(), weight.shape()));
        assert_eq!(mapped.values(), weight.to_vec().unwrap());
    }
}

#[test]
fn tensors_start_at_multiples_of_64() {
    let bytes = encode(&HEAD, &params()).unwrap();
    let region: Region = Arc::new(bytes);
    let start = (*region).as_ref().as_ptr() as usize;
    for (path, mapped) in SnapshotView::open(region).unwrap().iter() {
        assert!((mapped.values().as_ptr() as usize - start).is_multiple_of(ALIGN), "{path}");
    }
}

#[test]
fn every_flipped_byte_and_every_cut_is_detected() {
    let bytes = encode(&HEAD, &params()).unwrap();
    for at in 0..bytes.len() {
        assert!(open(&bytes[..at]).is_err(), "cut to {at}");
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        assert!(open(&flipped).is_err(), "flipped {at}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(open(&longer), Err(FormatError::Length { .. })));
}

#[test]
fn altered_values_can_be_looked_at_and_an_altered_table_cannot() {
    let mut bytes = encode(&HEAD, &params()).unwrap();
    let last = bytes.len() - ALIGN;
    bytes[last] ^= 1;
    assert!(matches!(open(&bytes), Err(FormatError::Checksum { part: "body" })));
    assert!(SnapshotView::open_altered(Arc::new(bytes.clone())).is_ok());
    bytes[HEADER + 4] ^= 1;
    assert!(SnapshotView::open_altered(Arc::new(bytes)).is_err());
}

#[test]
fn errors_tell_other_bytes_from_other_versions() {
    let mut bytes = encode(&HEAD, &params()).unwrap();
    assert_eq!(open(&[1; 256]).unwrap_err(), FormatError::Magic);
    bytes[8] = 99;
    assert_eq!(open(&bytes).unwrap_err(), FormatError::Format { found: 99 });
}

#[test]
fn parameters_that_do_not_fit_the_format_are_refused() {
    let refused = |params: &[(String, Weight)]| matches!(encode(&HEAD, params), Err(FormatError::Table { .. }));
    assert!(refused(&[param("a", &[1], 0.0), param("a", &[1], 0.0)]));
    assert!(refused(&[param("", &[1], 0.0)]));
    assert!(refused(&[param(&"x".repeat(MAX_PATH + 1), &[1], 0.0)]));
    assert!(refused(&[param("a", &[1; MAX_DIMS + 1], 0.0)]));
}

#[test]
fn a_signed_table_of_another_layout_is_refused() {
    let mut bytes = encode(&HEAD, &params()).unwrap();
    let at = bytes.windows(3).position(|w| w == b"enc").unwrap();
    bytes[at..at + 3].copy_from_slice(b"end");
    sign(&mut bytes);
    assert!(matches!(open(&bytes), Err(FormatError::Fingerprint { .. })));
    bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    sign(&mut bytes);
    assert!(matches!(open(&bytes), Err(FormatError::Table { .. })));
}

#[test]
fn the_first_value_that_is_not_finite_is_named() {
    let publish = |list: &[(String, Weight)]| PolicySnapshot::publish(&encode(&HEAD, list).unwrap());
    let mut list = params();
    assert!(publish(&list).is_ok());
    list.push(param("bad", &[2], f32::NAN));
    list.push(param("worse", &[2], f32::INFINITY));
    assert!(matches!(publish(&list), Err(FormatError::NotFinite { path }) if path == "bad"));
}

proptest! {
    #[test]
    fn a_signed_region_with_any_changed_words_never_panics(
        changes in prop::collection::vec((8usize..400, any::<u8>()), 1..8)
    ) {
        let mut bytes = encode(&HEAD, &params()).unwrap();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        sign(&mut bytes);
        if let Ok(view) = open(&bytes) {
            // Whatever is accepted lies inside the region.
            prop_assert!(view.iter().map(|(_, mapped)| 4 * mapped.values().len()).sum::<usize>() <= bytes.len());
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600), magic in any::<bool>()) {
        if magic && bytes.len() > HEADER {
            bytes[..8].copy_from_slice(MAGIC);
        }
        prop_assert!(open(&bytes).is_err());
    }
}
