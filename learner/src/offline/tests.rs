use std::fs;
use std::io::Write;

use proptest::prelude::*;
use shared::env::{Space, Spaces};
use zip::write::SimpleFileOptions;

use super::entry::convert;
use super::npy::{Kind, Npy};
use super::*;

/// As NumPy writes an array in this version of the format.
fn npy(version: u8, descr: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    let sides: String = shape.iter().map(|side| format!("{side}, ")).collect();
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sides}), }}\n");
    let length = header.len() as u32;
    let length = if version == 1 { length.to_le_bytes()[..2].to_vec() } else { length.to_le_bytes().to_vec() };
    [b"\x93NUMPY", &[version, 0][..], &length, header.as_bytes(), bytes].concat()
}

fn f32s(shape: &[usize], numbers: &[f32]) -> Vec<u8> {
    npy(1, "<f4", shape, bytemuck::cast_slice(numbers))
}

fn bools(flags: &[u8]) -> Vec<u8> {
    npy(1, "|b1", &[flags.len()], flags)
}

fn i64s(shape: &[usize], numbers: &[i64]) -> Vec<u8> {
    npy(1, "<i8", shape, bytemuck::cast_slice(numbers))
}

type Arrays = BTreeMap<String, Vec<u8>>;

/// Two episodes of three steps with `offset` in what is seen; actions are classes of three.
fn episodes(offset: f32) -> Arrays {
    let seen: Vec<f32> = (0..12).map(|i| i as f32 + offset).collect();
    [
        ("seen", f32s(&[6, 2], &seen)),
        ("reward", f32s(&[6], &[0.0, 0.5, 1.0, 0.0, -0.5, -1.0])),
        ("is_first", bools(&[1, 0, 0, 1, 0, 0])),
        ("is_last", bools(&[0, 0, 1, 0, 0, 1])),
        ("is_terminal", bools(&[0, 0, 1, 0, 0, 0])),
        ("action", i64s(&[6], &[1, 2, 0, 2, 1, 0])),
    ]
    .map(|(key, bytes)| (key.to_string(), bytes))
    .into()
}

fn write(folder: &Path, name: &str, arrays: &Arrays) {
    let mut archive = zip::ZipWriter::new(fs::File::create(folder.join(name)).unwrap());
    for (key, bytes) in arrays {
        archive.start_file(format!("{key}.npy"), SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

fn spaces() -> [Spaces; 2] {
    let mut obs = actor::env::Outcome::spaces();
    obs.insert("seen".into(), Space::bounded(&[2], -100.0, 100.0));
    [obs, [("action".to_string(), Space::discrete(&[], 3))].into()]
}

/// All steps of the folder, joined by stream, and what was noted.
fn read_all(folder: &Path) -> Result<(Vec<Vec<Steps>>, Notes), RunError> {
    let [obs, act] = spaces();
    let (mut found, mut notes) = (vec![], Notes::default());
    for stream in streams(folder)? {
        let mut steps = vec![];
        walk(&stream, &Wanted { obs: &obs, act: &act }, &mut notes, &mut |read| {
            steps.push(read);
            Ok(())
        })?;
        found.push(steps);
    }
    Ok((found, notes))
}

fn refused(change: impl FnOnce(&mut Arrays)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut arrays = episodes(0.0);
    change(&mut arrays);
    write(dir.path(), "one.npz", &arrays);
    read_all(dir.path()).map(drop).unwrap_err().to_string()
}

#[test]
fn chunks_follow_their_successors_and_other_files_their_names() {
    let dir = tempfile::tempdir().unwrap();
    // By time the second chunk of the first stream comes last.
    for (name, offset) in [("1-aa-bb-6", 1.0), ("3-bb-00-6", 2.0), ("2-cc-zz-6", 3.0), ("b", 5.0), ("a", 4.0)] {
        write(dir.path(), &format!("{name}.npz"), &episodes(offset));
    }
    let (found, notes) = read_all(dir.path()).unwrap();
    let starts = |steps: &Vec<Steps>| steps.iter().map(|steps| steps.columns["seen"].to_f32()[0]).collect::<Vec<_>>();
    assert_eq!(found.iter().map(starts).collect::<Vec<_>>(), [vec![1.0, 2.0], vec![3.0], vec![4.0, 5.0]]);
    assert_eq!(notes, Notes::default());
    let first = &found[0][0];
    assert_eq!(first.columns["action"], Array::i32(&[6], &[1, 2, 0, 2, 1, 0]));
    assert_eq!(first.flags, [vec![1, 0, 0, 1, 0, 0], vec![0, 0, 1, 0, 0, 1], vec![0, 0, 1, 0, 0, 0]]);
}

#[test]
fn chunks_that_cannot_be_put_in_order_are_refused() {
    for (names, said) in [
        (["1-aa-bb-6", "2-bb-aa-6"], "in a circle"),
        (["1-aa-cc-6", "2-cc-cc-6"], "followed by cc"),
        (["1-aa-00-6", "2-aa-00-6"], "is the chunk aa too"),
        (["1-aa-00-6", "2-bb-00-7"], "holds 6 steps, its name says 7"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| write(dir.path(), &format!("{name}.npz"), &episodes(0.0)));
        let error = read_all(dir.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("replay")).unwrap();
    assert!(read_all(dir.path()).map(drop).unwrap_err().to_string().contains("no .npz files; did you mean"));
    assert!(read_all(&dir.path().join("none")).is_err());
}

#[test]
fn episodes_begin_and_end_where_they_say_or_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut cut = episodes(0.0);
    // Amid an episode, then one without an end.
    cut.insert("is_first".into(), bools(&[0, 0, 1, 0, 1, 0]));
    cut.insert("is_last".into(), bools(&[0, 0, 0, 0, 0, 0]));
    cut.insert("is_terminal".into(), bools(&[0; 6]));
    write(dir.path(), "1-aa-bb-6.npz", &cut);
    write(dir.path(), "2-bb-cc-6.npz", &episodes(0.0));
    let (found, notes) = read_all(dir.path()).unwrap();
    assert_eq!(found[0][0].flags[..2], [[1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]]);
    assert_eq!((notes.amid, notes.abandoned), (1, 3));

    let text = refused(|arrays| drop(arrays.insert("is_first".into(), bools(&[1, 0, 0, 0, 0, 0]))));
    assert!(
        text.contains("one.npz") && text.contains("`is_first` at step 3 is 0 after a step with `is_last`"),
        "{text}"
    );
    let text = refused(|arrays| drop(arrays.insert("is_terminal".into(), bools(&[0, 1, 0, 0, 0, 0]))));
    assert!(text.contains("`is_terminal` at step 1 is 1 without `is_last`"), "{text}");
}

#[test]
fn what_does_not_fit_is_refused_by_file_key_and_step() {
    let cases: [(&str, Option<Vec<u8>>, &str); 9] = [
        ("seen", None, "`seen` is missing"),
        ("reward", None, "`reward` is missing"),
        ("action", None, "`action` is missing"),
        ("seen", Some(f32s(&[6], &[0.0; 6])), "`seen` has the shape [6], must have [6, 2]"),
        ("seen", Some(f32s(&[6, 2], &[[0.0; 7].as_slice(), &[f32::NAN; 5]].concat())), "`seen` at step 3 is NaN"),
        ("seen", Some(f32s(&[6, 2], &[[0.0; 2].as_slice(), &[101.0; 10]].concat())), "`seen` at step 1 is 101"),
        ("action", Some(i64s(&[6], &[0, 1, 2, 3, 0, 0])), "`action` at step 3 is 3, must be a class from 0 to 2"),
        ("action", Some(f32s(&[6], &[0.5; 6])), "`action` at step 0 is 0.5, must be a class"),
        ("is_last", Some(i64s(&[6], &[0, 0, 2, 0, 0, 1])), "`is_last` at step 2 is 2"),
    ];
    for (key, value, said) in cases {
        let text = refused(|arrays| match value {
            Some(bytes) => drop(arrays.insert(key.into(), bytes)),
            None => drop(arrays.remove(key)),
        });
        assert!(text.contains("one.npz cannot be imported: ") && text.contains(said), "{text}");
    }
}

#[test]
fn damaged_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one.npz");
    write(dir.path(), "one.npz", &episodes(0.0));
    let whole = fs::read(&path).unwrap();
    let text = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        read_all(dir.path()).map(drop).unwrap_err().to_string()
    };
    assert!(text(&whole[..whole.len() / 2]).contains("one.npz cannot be imported: it is no whole .npz file"));
    assert!(text(b"").contains("one.npz cannot be imported"));
    // Any byte of the packed numbers: its checksum tells, or what it unpacks to.
    let at = whole.windows(8).position(|w| w == b"seen.npy").unwrap() + 30;
    let mut changed = whole.clone();
    changed[at] ^= 0xff;
    assert!(text(&changed).contains("one.npz cannot be imported: `seen`"));
    assert!(Npy::read(&b"\x93NUMPY\x01\x00\xff\xff"[..]).unwrap_err().contains("cut short"));
    assert!(Npy::read(&f32s(&[3], &[0.0; 2])[..]).unwrap_err().contains("takes 12 bytes; there are 8"));
    assert!(Npy::read(&f32s(&[1], &[0.0; 2])[..]).unwrap_err().contains("there are more"));
    assert!(Npy::read(&f32s(&[usize::MAX, 9], &[])[..]).unwrap_err().contains("more than"));
    assert!(Npy::read(&npy(1, ">f4", &[1], &[0; 4])[..]).unwrap_err().contains("has the type >f4; these are read"));
    assert!(Npy::read(&npy(9, "<f4", &[1], &[0; 4])[..]).unwrap_err().contains("version 9"));
    let fortran = String::from_utf8_lossy(&f32s(&[1], &[0.0])[10..]).replace("False", "True ");
    let fortran = [&f32s(&[1], &[0.0])[..10], fortran.as_bytes()].concat();
    assert!(Npy::read(&fortran[..]).unwrap_err().contains("np.ascontiguousarray"));
}

#[test]
fn actions_are_taken_as_classes_or_one_hot_and_where_they_were_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let one_hot = |classes: &[Option<usize>]| {
        let numbers: Vec<f32> =
            classes.iter().flat_map(|c| (0..3).map(move |k| if *c == Some(k) { 1.0 } else { 0.0 })).collect();
        f32s(&[classes.len(), 3], &numbers)
    };
    let with = |classes: &[Option<usize>]| {
        let mut arrays = episodes(0.0);
        arrays.insert("action".into(), one_hot(classes));
        arrays
    };
    let actions = |name: &str, classes: &[Option<usize>]| {
        fs::remove_dir_all(dir.path()).unwrap();
        fs::create_dir(dir.path()).unwrap();
        write(dir.path(), name, &with(classes));
        read_all(dir.path()).map(|(found, notes)| (found[0][0].columns["action"].values::<i32>(), notes.shifted))
    };
    // The action of a last step is nothing.
    let chosen = [Some(1), Some(2), None, Some(2), Some(1), None];
    assert_eq!(actions("a.npz", &chosen).unwrap(), (vec![1, 2, 0, 2, 1, 0], 0));
    assert_eq!(actions("1-aa-bb-6.npz", &chosen).unwrap(), (vec![1, 2, 0, 2, 1, 0], 0));
    // That of a first step is nothing: each stands at the step that it led to.
    let led = [None, Some(1), Some(2), None, Some(2), Some(1)];
    assert_eq!(actions("a.npz", &led).unwrap(), (vec![1, 2, 0, 2, 1, 0], 1));
    let text = actions("1-aa-bb-6.npz", &led).unwrap_err().to_string();
    assert!(text.contains("`action` at step 0 is [0.0, 0.0, 0.0], must be one-hot"), "{text}");
}

#[test]
fn images_must_be_bytes_of_the_runs_size() {
    let space = Space::image(2, 2, 3);
    let array = |kind, shape: &[usize], bytes: usize| Npy { kind, shape: shape.to_vec(), bytes: vec![7; bytes] };
    let taken = convert(&array(Kind::U8, &[4, 2, 2, 3], 48), &space, 4, true, &[]).unwrap();
    assert_eq!(taken, Array::u8(&[4, 2, 2, 3], &[7; 48]));
    let (_, what) = convert(&array(Kind::F32, &[4, 2, 2, 3], 192), &space, 4, true, &[]).unwrap_err();
    assert!(what.contains("must hold U8"), "{what}");
    let (_, what) = convert(&array(Kind::U8, &[4, 3, 3, 3], 108), &space, 4, true, &[]).unwrap_err();
    assert_eq!(what, "has the shape [4, 3, 3, 3], must have [4, 2, 2, 3]");
}

/// Reads one number.
type Number = fn(&[u8]) -> f64;

proptest! {
    /// Numbers of every type come back as they were written.
    #[test]
    fn numbers_come_back(
        version in 1u8..=3,
        bytes in proptest::collection::vec(any::<u8>(), 48),
        rows in proptest::sample::select(vec![1usize, 2, 3, 6]),
    ) {
        let types: [(&str, usize, Number); 11] = [
            ("|i1", 1, |b| b[0] as i8 as f64),
            ("|u1", 1, |b| b[0] as f64),
            ("<i2", 2, |b| i16::from_le_bytes(b.try_into().unwrap()) as f64),
            ("<u2", 2, |b| u16::from_le_bytes(b.try_into().unwrap()) as f64),
            ("<f2", 2, |b| half::f16::from_le_bytes(b.try_into().unwrap()).to_f64()),
            ("<i4", 4, |b| i32::from_le_bytes(b.try_into().unwrap()) as f64),
            ("<u4", 4, |b| u32::from_le_bytes(b.try_into().unwrap()) as f64),
            ("<f4", 4, |b| f32::from_le_bytes(b.try_into().unwrap()) as f64),
            ("<i8", 8, |b| i64::from_le_bytes(b.try_into().unwrap()) as f64),
            ("<u8", 8, |b| u64::from_le_bytes(b.try_into().unwrap()) as f64),
            ("<f8", 8, |b| f64::from_le_bytes(b.try_into().unwrap())),
        ];
        for (descr, width, number) in types {
            let shape = [rows, 48 / width / rows];
            prop_assume!(shape[1] * rows * width == 48);
            let read = Npy::read(&npy(version, descr, &shape, &bytes)[..]).unwrap();
            prop_assert_eq!(&read.shape[..], &shape[..]);
            let expected: Vec<u64> = bytes.chunks(width).map(|b| number(b).to_bits()).collect();
            let found: Vec<u64> = read.numbers().into_iter().map(f64::to_bits).collect();
            prop_assert_eq!(found, expected, "{}", descr);
        }
    }

    /// Whatever the bytes are, an array or an error comes of them.
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), start in any::<bool>()) {
        let bytes = if start { [b"\x93NUMPY\x01\x00", &bytes[..]].concat() } else { bytes };
        let _ = Npy::read(&bytes[..]);
    }
}
