//! Reading protobuf messages field by field; every length is checked against what is there.

/// Bytes that are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf: {0}")]
pub(super) struct Malformed(pub &'static str);

/// Content of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    /// A string, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Four or eight bytes of a fixed-size number, lowest first.
    Fixed(&'a [u8]),
}

/// The fields of a message: number and content, in the order of the file. Ends after the first error.
pub(super) struct Fields<'a>(&'a [u8]);

/// The fields of a message.
pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields(message)
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let tag = varint(&mut self.0)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut self.0)?),
            1 => self.take(8).map(Value::Fixed)?,
            2 => {
                let len = varint(&mut self.0)?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(Value::Fixed)?,
            _ => return Err(Malformed("unknown wire type")),
        };
        Ok((tag >> 3, value))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(len).map_err(|_| Malformed("a length beyond the end"))?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed("a length beyond the end"))?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Take a number of at most 64 bits, seven to a byte, lowest first.
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Malformed("a number beyond the end"))?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Malformed("a number of more than 64 bits"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn protobuf_reads_each_wire_type() {
        // 1: 300, 2: "hi", 3: fixed64, 4: fixed32; as the format's description spells them.
        let message = [8, 0xac, 2, 18, 2, b'h', b'i', 25, 1, 2, 3, 4, 5, 6, 7, 8, 37, 1, 2, 3, 4];
        let found: Result<Vec<_>, _> = fields(&message).collect();
        let wanted = [
            (1, Value::Number(300)),
            (2, Value::Bytes(b"hi")),
            (3, Value::Fixed(&[1, 2, 3, 4, 5, 6, 7, 8])),
            (4, Value::Fixed(&[1, 2, 3, 4])),
        ];
        assert_eq!(found.unwrap(), wanted);
    }

    #[test]
    fn protobuf_refuses_lengths_beyond_the_end() {
        for (message, reason) in [
            (&[18, 3, b'h', b'i'][..], "a length beyond the end"),
            (&[18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "a length beyond the end"),
            (&[8, 0xac], "a number beyond the end"),
            (&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "a number of more than 64 bits"),
            (&[11], "unknown wire type"),
        ] {
            assert_eq!(fields(message).collect::<Result<Vec<_>, _>>(), Err(Malformed(reason)), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn protobuf_ends_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(fields(&bytes).count() <= bytes.len());
        }
    }
}
