//! Protobuf messages, written field by field.

const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const BYTES: u64 = 2;
const FOUR_BYTES: u64 = 5;

/// A message; each method adds a field by its number.
#[derive(Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// An integer or an enum.
    pub(super) fn integer(mut self, field: u64, value: u64) -> Self {
        self.key(field, VARINT);
        self.varint(value);
        self
    }

    /// A `float`.
    pub(super) fn float(mut self, field: u64, value: f32) -> Self {
        self.key(field, FOUR_BYTES);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// A `double`.
    pub(super) fn double(mut self, field: u64, value: f64) -> Self {
        self.key(field, EIGHT_BYTES);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// A packed `repeated double`.
    pub(super) fn doubles(self, field: u64, values: &[f64]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(field, &bytes)
    }

    /// A `string` or `bytes`.
    pub(super) fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.key(field, BYTES);
        self.varint(bytes.len() as u64);
        self.bytes.extend(bytes);
        self
    }

    /// A message in this one.
    pub(super) fn message(self, field: u64, message: &Message) -> Self {
        self.bytes(field, &message.bytes)
    }

    /// As it is written.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.bytes
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.varint((field << 3) | kind);
    }

    /// Seven bits a byte, lowest first; the highest bit says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}
