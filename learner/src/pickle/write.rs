//! Writing: protocol 4, as Python writes since 3.8.

use shared::array::Array;

use super::array::name;

/// What is written.
#[derive(Debug)]
pub enum Item<'a> {
    /// `None`.
    Nothing,
    /// An integer.
    Integer(i64),
    /// An array.
    Array(&'a Array),
    /// A dict.
    Dict(Vec<(&'a str, Item<'a>)>),
}

/// The pickle of an item.
pub fn write(item: &Item) -> Vec<u8> {
    let mut bytes = vec![0x80, 4];
    put(&mut bytes, item);
    bytes.push(b'.');
    bytes
}

fn put(bytes: &mut Vec<u8>, item: &Item) {
    match item {
        Item::Nothing => bytes.push(b'N'),
        Item::Integer(value) => put_integer(bytes, *value),
        Item::Array(array) => put_array(bytes, array),
        Item::Dict(entries) => {
            bytes.extend(b"}(");
            for (key, value) in entries {
                put_text(bytes, key);
                put(bytes, value);
            }
            bytes.push(b'u');
        }
    }
}

fn put_integer(bytes: &mut Vec<u8>, value: i64) {
    bytes.extend([0x8a, 8]);
    bytes.extend(value.to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(0x8d);
    put_sized(bytes, text.as_bytes());
}

/// Length in 8 bytes, then the data.
fn put_sized(bytes: &mut Vec<u8>, data: &[u8]) {
    bytes.extend((data.len() as u64).to_le_bytes());
    bytes.extend(data);
}

fn put_object(bytes: &mut Vec<u8>, module: &str, name: &str) {
    put_text(bytes, module);
    put_text(bytes, name);
    bytes.push(0x93);
}

/// An empty array, then its state: version, shape, element type, order, content.
fn put_array(bytes: &mut Vec<u8>, array: &Array) {
    // The name that NumPy 1 and 2 both know.
    put_object(bytes, "numpy.core.multiarray", "_reconstruct");
    put_object(bytes, "numpy", "ndarray");
    bytes.extend(b"K\0\x85C\x01b\x87R(K\x01(");
    array.shape.iter().for_each(|side| put_integer(bytes, *side as i64));
    bytes.push(b't');
    put_element(bytes, name(array.dtype));
    bytes.extend(b"\x89\x8e");
    put_sized(bytes, &array.bytes);
    bytes.extend(b"tb");
}

fn put_element(bytes: &mut Vec<u8>, name: &str) {
    put_object(bytes, "numpy", "dtype");
    put_text(bytes, name);
    bytes.extend(b"\x89\x88\x87R(K\x03");
    put_text(bytes, if name.ends_with('1') { "|" } else { "<" });
    bytes.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb");
}
