//! The fetched DINOv2 against what another implementation computes with the same weights.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::Path;
use std::sync::Arc;

use learner::vit::{Hints, fetch, load};
use safetensors::SafeTensors;
use shared::kernels::Precision;
use shared::params::{Init, Mapped, ParamError, Source, Weight};
use shared::vit::{self, Images, PREFIX, PRODUCTS, Tree, Vit, VitSpec};

/// Float32 in another order of summation; the reference itself is as far from a second implementation.
const TOLERANCE: f32 = 5e-5;

/// A loaded file as a source of parameters, with kernels laid out.
struct Loaded {
    trunk: Tree,
    products: Tree,
}

impl Source for Loaded {
    fn weight(&self, path: &str, shape: &[usize], _: Init) -> Result<Weight, ParamError> {
        let below = |prefix: &str| path.strip_prefix(prefix).map(|path| path.trim_start_matches('/'));
        let (found, values) = match below(PREFIX) {
            Some(path) => &self.trunk[path],
            None => &self.products[below(PRODUCTS).unwrap()],
        };
        assert_eq!(found, shape, "{path}");
        Ok(Weight::Mapped(Mapped::new(Arc::new(Floats(values.clone())), 0, shape).unwrap()))
    }
}

/// Floats seen as bytes, so that they are aligned.
struct Floats(Vec<f32>);

impl AsRef<[u8]> for Floats {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

struct Reference(Vec<u8>);

impl Reference {
    fn open() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/vit");
        Self(std::fs::read(folder.join("dinov2_small_reference.safetensors")).unwrap())
    }

    fn get(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap();
        (view.shape().to_vec(), bytemuck::pod_collect_to_vec(view.data()))
    }

    /// [1, 3, side, side] as [1, side, side, 3], with the side.
    fn image(&self, name: &str) -> (Vec<f32>, usize) {
        let (shape, values) = self.get(name);
        let (side, area) = (shape[2], shape[2] * shape[3]);
        ((0..values.len()).map(|i| values[i % 3 * area + i / 3]).collect(), side)
    }
}

fn assert_close(found: &[f32], wanted: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}: lengths differ");
    let scale = wanted.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let error = found.iter().zip(wanted).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / scale;
    let (difference, size) =
        found.iter().zip(wanted).fold((0.0, 0.0), |(d, s), (a, b)| (d + (a - b).powi(2), s + b * b));
    println!("{what}: largest error {error:e} of the largest number, {:e} of the norm", (difference / size).sqrt());
    assert!(error <= tolerance, "{what}: relative error {error:e} above {tolerance:e}");
}

/// Needs the network the first time.
#[test]
fn vit_dinov2_small_reference() {
    let path = fetch("dinov2-small", &mut |event| println!("{event:?}")).unwrap();
    let loaded = load(&path, &Hints::default()).unwrap();
    vit::check(&loaded.tensors, &VitSpec::dinov2_small(), &loaded.source).unwrap();
    assert_eq!(loaded.spec, VitSpec::dinov2_small());
    // Split products are float32's to a few in a million; bf16 has 8 bits of mantissa in every product of twelve blocks.
    for (precision, tolerance) in
        [(Precision::Float32, TOLERANCE), (Precision::Split, 2.0 * TOLERANCE), (Precision::Bf16, 0.02)]
    {
        let products = vit::products(&loaded.tensors, precision);
        let products = products.into_iter().map(|(path, values)| (path, (vec![values.len()], values))).collect();
        let source = Loaded { trunk: loaded.tensors.clone(), products };
        compare(&Vit::new(&loaded.spec, &source, 1, precision).unwrap(), precision, tolerance);
    }
}

fn compare(trunk: &Vit, precision: Precision, tolerance: f32) {
    let reference = Reference::open();
    let tokens = |image: &str, block: usize, normed: bool| {
        let (pixels, side) = reference.image(image);
        trunk.tokens(Images { pixels: &pixels, n: 1, height: side, width: side }, block, normed)
    };
    for (image, block, normed, wanted) in [
        ("input_nchw", 0, false, "block0_out"),
        ("input_nchw", 11, true, "last_hidden_state"),
        ("input_nchw_112", 11, true, "last_hidden_state_112_numpy"),
        ("input_nchw_56", 11, true, "last_hidden_state_56_numpy"),
    ] {
        let what = format!("{wanted}, {precision:?}");
        assert_close(&tokens(image, block, normed), &reference.get(wanted).1, tolerance, &what);
    }
}
