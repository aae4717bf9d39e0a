use std::collections::BTreeMap;

use super::record::{crc32c, masked};
use super::*;

/// A field of a message as it lies in the file.
#[derive(Clone, Debug, PartialEq)]
enum Field {
    Integer(u64),
    Eight([u8; 8]),
    Four([u8; 4]),
    Bytes(Vec<u8>),
}

impl Field {
    fn double(&self) -> f64 {
        let Self::Eight(bytes) = self else { panic!("{self:?}") };
        f64::from_le_bytes(*bytes)
    }

    fn float(&self) -> f32 {
        let Self::Four(bytes) = self else { panic!("{self:?}") };
        f32::from_le_bytes(*bytes)
    }

    fn bytes(&self) -> &[u8] {
        let Self::Bytes(bytes) = self else { panic!("{self:?}") };
        bytes
    }

    fn doubles(&self) -> Vec<f64> {
        self.bytes().chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
    }
}

/// The records of a file; lengths and checksums must be right.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = vec![];
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(bytes[8..12], masked(&bytes[..8]).to_le_bytes());
        let (data, rest) = bytes[12..].split_at(length);
        assert_eq!(rest[..4], masked(data).to_le_bytes());
        records.push(data.to_vec());
        bytes = &rest[4..];
    }
    records
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let end = bytes.iter().position(|b| *b < 0x80).unwrap() + 1;
    let (number, rest) = bytes.split_at(end);
    *bytes = rest;
    number.iter().rev().fold(0, |value, byte| (value << 7) | u64::from(byte & 0x7f))
}

/// Fields of a message by their numbers, in the order of the file.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut fields = vec![];
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Integer(varint(&mut bytes)),
            1 => Field::Eight(bytes.split_off(..8).unwrap().try_into().unwrap()),
            2 => {
                let length = varint(&mut bytes) as usize;
                Field::Bytes(bytes.split_off(..length).unwrap().to_vec())
            }
            5 => Field::Four(bytes.split_off(..4).unwrap().try_into().unwrap()),
            kind => panic!("kind {kind}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

/// The events of a file, each with its fields.
fn read(path: &Path) -> Vec<BTreeMap<u64, Field>> {
    records(&std::fs::read(path).unwrap()).iter().map(|record| fields(record).into_iter().collect()).collect()
}

/// Fields of the values of an event's summary, by tag.
fn values(event: &BTreeMap<u64, Field>) -> BTreeMap<String, BTreeMap<u64, Field>> {
    let values = fields(event[&field::event::SUMMARY].bytes()).into_iter();
    let values = values.map(|(_, value)| fields(value.bytes()).into_iter().collect::<BTreeMap<_, _>>());
    values.map(|value| (String::from_utf8(value[&field::value::TAG].bytes().to_vec()).unwrap(), value)).collect()
}

#[test]
fn checksums_are_those_of_rfc_3720() {
    let ascending: Vec<u8> = (0..32).collect();
    let descending: Vec<u8> = (0..32).rev().collect();
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(crc32c(&ascending), 0x46dd_794e);
    assert_eq!(crc32c(&descending), 0x113f_db5c);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    // Turned and masked by hand: 0xe3069283 turned right by 15 bits is 0x2507c60d.
    assert_eq!(masked(b"123456789"), 0x2507_c60du32.wrapping_add(0xa282_ead8));
}

#[test]
fn what_is_written_is_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut events = EventFile::create(&folder.path().join("tensorboard"), 40, 1000.5).unwrap();
    let name = events.path.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("events.out.tfevents.0000001000.") && name.ends_with(&std::process::id().to_string()));
    let numbers = Numbers::from([("episode/return".into(), -0.1), ("train/loss/dyn".into(), f64::NAN)]);
    let lag: Vec<f64> = (0..=60).map(f64::from).collect();
    events.append(300, 1001.5, &numbers, [("lag/updates", &lag[..])]).unwrap();

    let read = read(&events.path);
    assert_eq!(read.len(), 3);
    assert_eq!((read[0][&1].double(), read[0][&3].bytes()), (1000.5, &b"brain.Event:2"[..]));
    assert_eq!((&read[1][&2], fields(read[1][&7].bytes())), (&Field::Integer(41), vec![(1, Field::Integer(1))]));
    assert_eq!((read[2][&1].double(), &read[2][&2]), (1001.5, &Field::Integer(300)));
    let values = values(&read[2]);
    assert_eq!(values.keys().collect::<Vec<_>>(), ["episode/return", "lag/updates", "train/loss/dyn"]);
    assert_eq!(values["episode/return"][&2].float(), -0.1);
    assert!(values["train/loss/dyn"][&2].float().is_nan());
    let histogram: BTreeMap<_, _> = fields(values["lag/updates"][&5].bytes()).into_iter().collect();
    let number = |field| histogram[&field].double();
    assert_eq!([1, 2, 3, 4, 5].map(number), [0.0, 60.0, 61.0, 1830.0, 73810.0]);
    assert_eq!(histogram[&6].doubles(), (1..=30).map(|i| f64::from(2 * i)).collect::<Vec<_>>());
    assert_eq!(histogram[&7].doubles(), [vec![2.0; 29], vec![3.0]].concat());
}

#[test]
fn values_that_are_equal_or_not_finite() {
    let folder = tempfile::tempdir().unwrap();
    let mut events = EventFile::create(folder.path(), 0, 1.0).unwrap();
    let samples = [("equal", &[7.0, 7.0, f64::NAN][..]), ("none", &[f64::INFINITY])];
    events.append(1, 2.0, &Numbers::new(), samples).unwrap();
    let values = values(&read(&events.path)[2]);
    assert_eq!(values.keys().collect::<Vec<_>>(), ["equal"]);
    let histogram: BTreeMap<_, _> = fields(values["equal"][&5].bytes()).into_iter().collect();
    assert_eq!([6, 7].map(|field: u64| histogram[&field].doubles()), [[7.0], [2.0]]);
}

#[test]
fn files_of_one_second_do_not_overwrite_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<EventFile> = (0..3).map(|step| EventFile::create(folder.path(), step, 5.0).unwrap()).collect();
    let paths: std::collections::BTreeSet<_> = files.iter().map(|file| &file.path).collect();
    assert_eq!(paths.len(), 3);
    assert!(paths.into_iter().eq(files.iter().map(|file| &file.path)), "TensorBoard reads files by name, oldest first");
}

#[test]
fn an_error_names_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tensorboard");
    std::fs::write(&path, "a file").unwrap();
    let message = EventFile::create(&path, 0, 0.0).unwrap_err().to_string();
    assert!(message.contains("cannot write metrics to") && message.contains(path.to_str().unwrap()), "{message}");
}
