//! Snapshots: any bytes, and one that is whole but for some bytes; each also with checksums that are made to fit.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use lucid_fuzz::{patched, soon};
use shared::params::{Mapped, Params, Region, Weight};
use shared::snapshot::digest;
use shared::snapshot::format::{HEADER, SnapshotHeader, SnapshotView, encode};
use xxhash_rust::xxh3::xxh3_64;

fuzz_target!(|bytes: &[u8]| {
    soon(|| {
        let (kind, rest) = bytes.split_first().unwrap_or((&0, &[]));
        let mut bytes = if kind % 2 == 0 { rest.to_vec() } else { patched(&whole(), rest) };
        read(bytes.clone());
        if bytes.len() >= HEADER {
            let length = bytes.len() as u64;
            bytes[48..56].copy_from_slice(&length.to_le_bytes());
            let body = xxh3_64(&bytes[HEADER..]);
            bytes[64..72].copy_from_slice(&body.to_le_bytes());
            let head = xxh3_64(&bytes[..HEADER - 8]);
            bytes[HEADER - 8..HEADER].copy_from_slice(&head.to_le_bytes());
            read(bytes);
        }
    });
});

fn read(bytes: Vec<u8>) {
    let region = Arc::new(bytes);
    for view in [SnapshotView::open(region.clone()), SnapshotView::open_altered(region)].into_iter().flatten() {
        digest(&view);
        let Ok(params) = Params::read_only(&[("", &view)]) else { continue };
        for (path, tensor) in view.iter() {
            let found = params.lookup(path).expect("a path of the snapshot");
            assert_eq!(found.shape().iter().product::<usize>(), tensor.values().len());
        }
    }
}

fn whole() -> Vec<u8> {
    let numbers: Vec<f32> = vec![0.5; 24];
    let region: Region = Arc::new(bytemuck::cast_slice::<f32, u8>(&numbers).to_vec());
    let weight = |offset, shape: &[usize]| Weight::Mapped(Mapped::new(region.clone(), offset, shape).expect("numbers"));
    let params = [
        ("dyn/kernel".into(), weight(0, &[3, 4])),
        ("pol/bias".into(), weight(48, &[5])),
        ("pol/out".into(), weight(0, &[])),
    ];
    encode(&SnapshotHeader { version: 3, update: 9, published: 1 }, &params).expect("a snapshot")
}
