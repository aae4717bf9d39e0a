//! Files that torch and onnx wrote (`tests/weights/generate.py`), and files that are damaged or hostile.

use std::path::PathBuf;

use proptest::prelude::*;

use super::{Format, WeightsError, WeightsFile};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/weights").join(name)
}

fn open(name: &str) -> WeightsFile {
    WeightsFile::open(&path(name)).unwrap()
}

fn refused(name: &str) -> String {
    WeightsFile::open(&path(name)).unwrap_err().to_string()
}

/// 0, 0.5, 1, …
fn halves(count: usize) -> Vec<f32> {
    (0..count).map(|i| i as f32 / 2.0).collect()
}

#[test]
fn vit_weights_of_torch_come_out_of_both_formats() {
    for name in ["checkpoint.pth", "checkpoint_old.pth"] {
        let file = open(name);
        assert_eq!(file.format(), Format::Torch);
        let is = |tensor: &str, shape: &[usize], values: &[f32]| {
            assert_eq!(file.shape(tensor), Some(shape), "{name}: {tensor}");
            assert_eq!(file.values(tensor).unwrap(), values, "{name}: {tensor}");
        };
        is("model.weight", &[2, 3], &halves(6));
        is("model.bias", &[2], &halves(2));
        is("extra.half", &[2, 2], &halves(4));
        is("extra.bfloat", &[2, 2], &halves(4));
        is("extra.double", &[3], &halves(3));
        is("extra.scalar", &[], &[2.5]);
        is("extra.empty", &[0, 3], &[]);
        is("extra.transposed", &[3, 2], &[0.0, 1.5, 0.5, 2.0, 1.0, 2.5]);
        is("extra.rows", &[2, 3], &halves(12)[3..9]);
        is("extra.every_other_column", &[4, 2], &[0.0, 1.0, 1.5, 2.5, 3.0, 4.0, 4.5, 5.5]);
        is("extra.parameter", &[3], &halves(3));
        let error = file.values("extra.count").unwrap_err();
        assert!(matches!(&error, WeightsError::Element { tensor, .. } if tensor == "extra.count"), "{error}");
        assert!(matches!(file.values("absent"), Err(WeightsError::Missing { .. })));
    }
    assert_eq!(open("protocol4.pth").values("weight").unwrap(), halves(6));
    assert_eq!(open("old_protocol4.pth").values("w").unwrap(), halves(2));
}

#[test]
fn vit_weights_that_are_code_are_refused_and_named() {
    let module = refused("module.pth");
    assert!(module.contains("module.pth") && module.contains("state_dict"), "{module}");
    let script = refused("script.pt");
    assert!(script.contains("script.pt"), "{script}");
    // protocol 2: os.system("true")
    let hostile = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.".to_vec();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("evil.pth");
    std::fs::write(&file, hostile).unwrap();
    let error = WeightsFile::open(&file).unwrap_err().to_string();
    assert!(error.contains("evil.pth"), "{error}");
}

#[test]
fn vit_weights_of_onnx_have_their_names_again() {
    let file = open("model.onnx");
    assert_eq!(file.format(), Format::Onnx);
    for name in ["float32", "float16", "float64", "field.float32", "field.float16", "field.bfloat16", "field.float64"] {
        assert_eq!(file.values(name).unwrap(), halves(6), "{name}");
    }
    assert_eq!(file.values("field.scalar").unwrap(), [2.5]);
    assert_eq!(file.shape("encoder.layer.0.fc1.weight"), Some(&[3, 2][..]), "a kernel named by its node, as [out, in]");
    assert_eq!(file.values("encoder.layer.0.fc1.weight").unwrap(), [0.0, 1.5, 0.5, 2.0, 1.0, 2.5]);
    assert!(matches!(file.values("int64"), Err(WeightsError::Element { .. })));
    assert_eq!(open("external.onnx").values("field.float32").unwrap(), halves(6));
    assert_eq!(open("external.onnx").values("float32").unwrap(), halves(6), "from the file beside");
}

#[test]
fn vit_weights_in_several_files_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let shard = |name: &str, tensor: &str, values: &[f32]| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], bytemuck::cast_slice(values));
        safetensors::serialize_to_file([(tensor, view.unwrap())], None, &at(name)).unwrap();
    };
    let index = |map: &str| std::fs::write(at("model.safetensors.index.json"), map).unwrap();
    shard("one.safetensors", "a", &[1.0, 2.0]);
    shard("two.safetensors", "b", &[3.0, 4.0]);
    index(r#"{"metadata": {}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#);
    let file = WeightsFile::open(folder.path()).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(file.values("b").unwrap(), [3.0, 4.0]);
    for (map, named) in [
        (r#"{"weight_map": {"a": "three.safetensors"}}"#, "three.safetensors"),
        (r#"{"weight_map": {"c": "one.safetensors"}}"#, "`c`"),
        (r#"{"weight_map": {"a": "../one.safetensors"}}"#, "../one.safetensors"),
    ] {
        index(map);
        let error = WeightsFile::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn vit_weights_with_hostile_headers_are_refused() {
    let header =
        |json: &str, data: usize| [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &vec![0; data]].concat();
    let tensor = |from: usize, to: usize| format!(r#"{{"dtype":"F32","shape":[2],"data_offsets":[{from},{to}]}}"#);
    let overlapping = header(&format!(r#"{{"a":{},"b":{}}}"#, tensor(0, 8), tensor(4, 12)), 12);
    let beyond = header(&format!(r#"{{"a":{}}}"#, tensor(8, 16)), 8);
    let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    for bytes in [overlapping, beyond, huge, vec![], b"{}".to_vec(), b"GIF89a".to_vec()] {
        assert!(WeightsFile::from_bytes(bytes.clone()).is_err(), "{bytes:?}");
    }
}

/// What a hostile file repeats, so that little of it becomes much, has a limit.
#[test]
fn vit_weights_that_repeat_themselves_are_refused() {
    // A dict of 300 keys in 300 places: 90,000 tensors of one.
    let key = |i: usize| [b"X\x04\0\0\0".to_vec(), format!("{i:04}").into_bytes()].concat();
    let tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000\
        X\x03\0\0\0cpuK\x01tQK\0))\x89}tRq\x01";
    let inner: Vec<u8> = (0..300).flat_map(|i| [key(i), b"h\x01".to_vec()].concat()).collect();
    let outer: Vec<u8> = (0..300).flat_map(|i| [key(i), b"h\x02".to_vec()].concat()).collect();
    let object =
        [b"\x80\x02}(X\x01\0\0\0t", &tensor[..], b"X\x01\0\0\0i}q\x02(", &inner, b"uX\x01\0\0\0o}(", &outer, b"uu."];
    let begin = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    let keys = b"\x80\x02]X\x01\0\0\x000a.";
    let bytes = [&begin[..], &object.concat(), keys, &1u64.to_le_bytes(), &1f32.to_le_bytes()].concat();
    let error = WeightsFile::from_bytes(bytes).unwrap_err().to_string();
    assert!(error.contains("too many"), "{error}");
}

/// The same for nodes of ONNX, each of which gives a tensor another name.
#[test]
fn vit_weights_of_onnx_that_have_too_many_names_are_refused() {
    let field = |number: u8, bytes: &[u8]| {
        let length = bytes.len() as u32;
        let length = [length, length >> 7, length >> 14, length >> 21].map(|part| (part & 0x7f | 0x80) as u8);
        [&[number << 3 | 2][..], &length[..3], &[length[3] & 0x7f], bytes].concat()
    };
    let tensor = [b"\x10\x01".to_vec(), field(8, b"onnx::a"), field(9, &[0; 4])].concat();
    let node = |i: usize| field(1, &[field(1, b"onnx::a"), field(3, format!("a/{i}").as_bytes())].concat());
    let model = |nodes: usize| {
        let graph = [field(5, &tensor), (0..nodes).flat_map(node).collect()].concat();
        WeightsFile::from_bytes([b"\x08\x08".to_vec(), field(7, &graph)].concat())
    };
    assert_eq!(model(3).unwrap().names().collect::<Vec<_>>(), ["a.0", "a.1", "a.2"]);
    let error = model(70_000).unwrap_err().to_string();
    assert!(error.contains("more than 65536"), "{error}");
}

/// Names of any length would be compared with others, and shown.
#[test]
fn vit_weights_with_endless_names_are_refused_in_few_words() {
    let name = "n".repeat(1 << 20);
    let info = r#"{"dtype":"F32","shape":[0],"data_offsets":[0,0]}"#;
    let long = format!(r#"{{"{name}":{info}}}"#);
    let twice = format!(r#"{{"{name}":{info},"{name}":{info}}}"#);
    let dtype = format!(r#"{{"a":{{"dtype":"{name}","shape":[0],"data_offsets":[0,0]}}}}"#);
    for json in [long, twice, dtype] {
        let bytes = [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat();
        let error = WeightsFile::from_bytes(bytes).unwrap_err().to_string();
        assert!(error.len() < 2000, "{} bytes", error.len());
    }
}

/// Open, and read all there is. Either is right; a panic is not.
fn exhaust(bytes: Vec<u8>) {
    if let Ok(file) = WeightsFile::from_bytes(bytes) {
        file.names().map(str::to_string).collect::<Vec<_>>().iter().for_each(|name| drop(file.values(name)));
    }
}

proptest! {
    #[test]
    fn vit_weights_survive_damage(
        name in prop::sample::select(vec!["checkpoint.pth", "checkpoint_old.pth", "model.onnx", "protocol4.pth"]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = std::fs::read(path(name)).unwrap();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        exhaust(bytes);
    }

    #[test]
    fn vit_weights_survive_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        exhaust(bytes);
    }
}
