//! Pickles of the official code and of others: read, refused, damaged.

use std::path::Path;

use proptest::prelude::*;
use shared::array::{Array, DType};

use super::*;

/// The checkpoint in `tests/official`, written by the official code.
fn real() -> Vec<u8> {
    let ckpt = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/official/ckpt");
    let latest = std::fs::read_to_string(ckpt.join("latest")).unwrap();
    std::fs::read(ckpt.join(latest).join("agent.pkl")).unwrap()
}

/// Look at everything that a pickle has, as an import does; returns the number of arrays.
fn visit(bytes: &[u8]) -> Result<usize, PickleError> {
    let pickle = Pickle::read(bytes)?;
    let mut arrays = 0;
    let mut open = vec![(pickle.value(), 0)];
    while let Some((value, depth)) = open.pop() {
        arrays += usize::from(value.array().and_then(Stored::to_array).is_some());
        let _ = value.integer();
        let inner = value.entries().filter(|_| depth < 2).unwrap_or_default();
        open.extend(inner.into_values().map(|value| (value, depth + 1)));
    }
    Ok(arrays)
}

#[test]
fn the_official_file_is_read() {
    let bytes = real();
    let pickle = Pickle::read(&bytes).unwrap();
    let agent = pickle.value().entries().unwrap();
    assert_eq!(agent["counters"].entries().unwrap()["updates"].integer(), Some(3));
    let params = agent["params"].entries().unwrap();
    assert_eq!(params["opt/step/value"].integer(), Some(3));
    let kernel = params["dyn/dyngru/kernel"].array().unwrap().to_array().unwrap();
    assert_eq!((kernel.dtype, &kernel.shape[..]), (DType::F32, &[4, 8, 24][..]));
    assert_eq!(visit(&bytes), Ok(params.len()));
}

#[test]
fn what_is_written_is_read_back() {
    let arrays = [
        Array::f32(&[2, 2], &[1.5, -0.0, f32::MIN_POSITIVE, f32::INFINITY]),
        Array::i32(&[], &[-7]),
        Array::u8(&[3], &[0, 1, 255]),
        Array::u64(&[1], &[u64::MAX]),
        Array::zeros(DType::F16, &[0, 4]),
    ];
    let names = ["f4", "i4", "u1", "u8", "f2"];
    let entries = names.into_iter().zip(&arrays).map(|(name, array)| (name, Item::Array(array)));
    let numbers = [("low", Item::Integer(i64::MIN)), ("none", Item::Nothing)];
    let bytes = write(&Item::Dict(entries.chain(numbers).collect()));
    let pickle = Pickle::read(&bytes).unwrap();
    let found = pickle.value().entries().unwrap();
    for (name, array) in names.into_iter().zip(&arrays) {
        assert_eq!(found[name].array().unwrap().element(), name);
        assert_eq!(found[name].array().unwrap().to_array().as_ref(), Some(array));
    }
    assert_eq!((found["low"].integer(), found["none"].integer()), (Some(i64::MIN), None));
}

/// What Python writes for `{"f": asfortranarray(arange(6, dtype="f4").reshape(2, 3)), "s": int64(-2), "b": array([1, 2], "u1")}`
/// with NumPy, in protocols 3 and 5.
const PYTHON: [&[u8]; 2] = [
    b"\x80\x03}q\0(X\x01\0\0\0fq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\0\x85\
    q\x04C\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02K\x03\x86q\x08cnumpy\ndtype\nq\x09X\x02\0\0\0f4q\n\x89\x88\
    \x87q\x0bRq\x0c(K\x03X\x01\0\0\0<q\x0dNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tq\x0eb\x88C\x18\0\0\0\
    \0\0\0@@\0\0\x80?\0\0\x80@\0\0\0@\0\0\xa0@q\x0ftq\x10bX\x01\0\0\0sq\x11cnumpy.core.multiarray\nscala\
    r\nq\x12h\x09X\x02\0\0\0i8q\x13\x89\x88\x87q\x14Rq\x15(K\x03h\x0dNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff\
    K\0tq\x16bC\x08\xfe\xff\xff\xff\xff\xff\xff\xffq\x17\x86q\x18Rq\x19X\x01\0\0\0bq\x1ah\x02h\x03K\0\x85\
    q\x1bh\x05\x87q\x1cRq\x1d(K\x01K\x02\x85q\x1eh\x09X\x02\0\0\0u1q\x1f\x89\x88\x87q Rq!(K\x03X\x01\0\0\
    \0|q\"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tq#b\x89C\x02\x01\x02q$tq%bu.",
    b"\x80\x05\x954\x01\0\0\0\0\0\0}\x94(\x8c\x01f\x94\x8c\x12numpy.core.numeric\x94\x8c\x0b_frombuffer\x94\
    \x93\x94(\x96\x18\0\0\0\0\0\0\0\0\0\0\0\0\0@@\0\0\x80?\0\0\x80@\0\0\0@\0\0\xa0@\x94\x8c\x05numpy\x94\
    \x8c\x05dtype\x94\x93\x94\x8c\x02f4\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01<\x94NNNJ\xff\xff\xff\xffJ\
    \xff\xff\xff\xffK\0t\x94bK\x02K\x03\x86\x94\x8c\x01F\x94t\x94R\x94\x8c\x01s\x94\x8c\x15numpy.core.mu\
    ltiarray\x94\x8c\x06scalar\x94\x93\x94h\x08\x8c\x02i8\x94\x89\x88\x87\x94R\x94(K\x03h\x0cNNNJ\xff\xff\
    \xff\xffJ\xff\xff\xff\xffK\0t\x94bC\x08\xfe\xff\xff\xff\xff\xff\xff\xff\x94\x86\x94R\x94\x8c\x01b\x94\
    h\x04(\x96\x02\0\0\0\0\0\0\0\x01\x02\x94h\x08\x8c\x02u1\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01|\x94N\
    NNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t\x94bK\x02\x85\x94\x8c\x01C\x94t\x94R\x94u.",
];

#[test]
fn other_protocols_and_orders_are_read() {
    for bytes in PYTHON {
        let pickle = Pickle::read(bytes).unwrap();
        let found = pickle.value().entries().unwrap();
        let rows = Array::f32(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(found["f"].array().unwrap().to_array(), Some(rows));
        assert_eq!(found["s"].integer(), Some(-2));
        assert_eq!(found["b"].array().unwrap().to_array(), Some(Array::u8(&[2], &[1, 2])));
    }
}

/// Whatever the protocol and however deep it is hidden, a foreign object is named and not touched.
#[test]
fn an_object_that_is_no_array_is_refused_by_its_name() {
    let cases: [(&[u8], &str); 5] = [
        (b"cos\nsystem\n(X\x02\0\0\0idtR.", "os.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", "builtins.eval"),
        (b"\x80\x04}\x8c\x06params}\x8c\x01a\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85Rss.", "posix.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x04load\x93.", "numpy.load"),
        (b"\x80\x04\x8c\x0anumpy.core\x8c\x0bnumeric.sys\x93.", "numpy.core.numeric.sys"),
    ];
    for (bytes, name) in cases {
        assert_eq!(Pickle::read(bytes).unwrap_err(), PickleError::Object { name: name.into() });
    }
}

/// Python's unpickler would have a shell make the file that is looked for afterwards.
#[test]
fn a_pickle_that_would_run_code_is_refused_by_every_reader_and_nothing_runs() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("it-ran");
    let command = format!("touch {}", marker.display());
    let short = |text: &str| [&[0x8c, text.len() as u8][..], text.as_bytes()].concat();
    let named = |module: &str, name: &str| [&short(module)[..], &short(name), b"\x93"].concat();
    let reduced = |module: &str, name: &str| [&named(module, name)[..], &short(&command), b"\x85R"].concat();
    let dict = |value: Vec<u8>| [b"\x80\x04}", &short("a")[..], &value, b"s."].concat();
    // The same by name, by `__reduce__` within a dict, by building an object's state, and as a class that is made.
    let pickles = [
        format!("cos\nsystem\n(V{command}\ntR.").into_bytes(),
        format!("(V{command}\nios\nsystem\n.").into_bytes(),
        dict(reduced("posix", "system")),
        dict([&named("subprocess", "Popen")[..], &short(&command), b"\x85\x81"].concat()),
        dict([&reduced("builtins", "exec")[..], b"}b"].concat()),
    ];
    let beginning: &[u8] =
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00.";
    for pickle in pickles {
        for dialect in [Dialect::Arrays, Dialect::Tensors] {
            let error = Pickle::read_as(&pickle, dialect).err();
            assert!(error.is_some(), "{:?} was read", String::from_utf8_lossy(&pickle));
        }
        let archive = dir.path().join("model.pth");
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&archive).unwrap());
        zip.start_file("model/data.pkl", zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, &pickle).unwrap();
        zip.finish().unwrap();
        let old = dir.path().join("old.pt");
        std::fs::write(&old, [beginning, &pickle].concat()).unwrap();
        for file in [archive, old] {
            assert!(crate::weights::WeightsFile::open(&file).is_err(), "{}", file.display());
        }
    }
    assert!(!marker.exists(), "a reader ran what a pickle asked for");
}

#[test]
fn what_is_cut_short_or_too_much_is_refused() {
    let cases: [(&[u8], &str); 11] = [
        (b"", "cut short"),
        (b"\x80\x09.", "protocol 9"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "cut short"),
        (b"\x80\x04\x8b\xff\xff\xff\x7f.", "cut short"),
        (b"\x80\x04\x8a\x09123.", "cut short"),
        (b"\x80\x04.", "nothing on the stack"),
        (b"\x80\x04N(\x85.", "nothing on the stack"),
        (b"\x80\x04t.", "no mark"),
        (b"\x80\x04h\x05.", "kept as 5"),
        (b"\x80\x04\x8c\x02\xff\xff.", "UTF-8"),
        (b"\x80\x04\x91.", "operation 0x91"),
    ];
    for (bytes, expected) in cases {
        let error = Pickle::read(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let endless = vec![b'}'; 1 << 22];
    assert!(Pickle::read(&endless).unwrap_err().to_string().contains("operations"));
    // A dict that contains itself is only looked at as far as it is asked for.
    assert_eq!(visit(b"\x80\x04}\x94\x8c\x01ah\0s."), Ok(0));
}

#[test]
fn a_shape_that_does_not_fit_its_bytes_is_refused() {
    let bytes = write(&Item::Array(&Array::f32(&[3], &[1.0, 2.0, 3.0])));
    let side = bytes.windows(10).position(|part| part == b"\x8a\x08\x03\0\0\0\0\0\0\0").unwrap() + 2;
    for wrong in [2i64, 4, -1, i64::MAX] {
        let mut bytes = bytes.clone();
        bytes[side..side + 8].copy_from_slice(&wrong.to_le_bytes());
        assert!(Pickle::read(&bytes).unwrap_err().to_string().contains("does not fit"), "{wrong}");
    }
}

/// An operation of the machine with some operand.
fn operation() -> impl Strategy<Value = Vec<u8>> {
    let operations = b"NKMJGXCB)t]ae}su(qrhjcRb.\x88\x89\x8a\x8b\x8c\x8d\x8e\x96\x85\x86\x87\x93\x94\x95".to_vec();
    let plain = (prop::sample::select(operations), prop::collection::vec(0u8..8, 0..5))
        .prop_map(|(operation, operand)| [vec![operation], operand].concat());
    let objects = prop::sample::select(vec![
        &b"cnumpy\nndarray\n"[..],
        b"cnumpy\ndtype\n\x8c\x02f4\x89\x88\x87R",
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"cnumpy._core.multiarray\nscalar\n",
        b"cnumpy.core.numeric\n_frombuffer\n",
    ]);
    prop_oneof![4 => plain, 1 => objects.prop_map(<[u8]>::to_vec)]
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = visit(&bytes);
    }

    #[test]
    fn random_operations_never_panic(operations in prop::collection::vec(operation(), 0..60)) {
        let _ = visit(&operations.concat());
    }

    #[test]
    fn a_real_file_cut_short_is_an_error(end in any::<prop::sample::Index>()) {
        let bytes = real();
        prop_assert!(visit(&bytes[..end.index(bytes.len())]).is_err());
    }

    #[test]
    fn a_real_file_with_changed_bytes_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        early in any::<bool>(),
    ) {
        let mut bytes = real();
        // Most of the file are numbers: the beginning has more structure.
        let reach = if early { 2000 } else { bytes.len() };
        changes.iter().for_each(|(at, byte)| bytes[at.index(reach)] = *byte);
        let _ = visit(&bytes);
    }
}
