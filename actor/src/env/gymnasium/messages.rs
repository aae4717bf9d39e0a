//! What a Python process says: bytes from its pipe, which are trusted no more than any others.

/// Most bytes of one message.
const LONGEST: usize = 256 << 20;

/// What a child says.
#[derive(Debug, PartialEq)]
pub enum Reply {
    /// Its spaces, as JSON.
    Hello(Vec<u8>),
    /// An observation is in memory.
    Observation {
        /// For the action before.
        reward: f32,
        /// The task has ended.
        terminated: bool,
        /// The episode was cut.
        truncated: bool,
    },
    /// Height, width, and bytes of [height, width, 3].
    Picture(usize, usize, Vec<u8>),
    /// It cannot be drawn.
    NoPicture,
}

/// Why a child is of no more use.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Python cannot be started.
    NoPython(String),
    /// Python lacks a package.
    Missing(String),
    /// Spaces that cannot be used.
    Refused(String),
    /// Anything else: an exception's traceback, how it ended, that it did not answer.
    Broken(String),
}

/// A message that brings no reply.
#[derive(Debug, PartialEq)]
pub enum Wrong {
    /// The child told of a fault.
    Said(Fault),
    /// What came is none: what it was.
    NoMessage(String),
}

/// Messages as they arrive, in pieces of any size.
#[derive(Default)]
pub struct Messages {
    bytes: Vec<u8>,
}

impl Messages {
    /// More bytes have come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if it is complete: a length, and as many bytes.
    pub fn next(&mut self) -> Result<Option<Reply>, Wrong> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > LONGEST {
            return Err(Wrong::NoMessage(format!("it sent a message of {length} bytes")));
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let reply = parse(message)?;
        self.bytes.drain(..4 + length);
        Ok(Some(reply))
    }
}

fn parse(message: &[u8]) -> Result<Reply, Wrong> {
    let text = |body: &[u8]| String::from_utf8_lossy(body).trim_end().to_string();
    match message {
        [b'H', body @ ..] => Ok(Reply::Hello(body.to_vec())),
        [b'O', a, b, c, d, terminated, truncated] => Ok(Reply::Observation {
            reward: f32::from_le_bytes([*a, *b, *c, *d]),
            terminated: *terminated != 0,
            truncated: *truncated != 0,
        }),
        [b'P', a, b, c, d, e, f, g, h, pixels @ ..] => {
            let [height, width] = [[*a, *b, *c, *d], [*e, *f, *g, *h]].map(|x| u32::from_le_bytes(x) as usize);
            if height.saturating_mul(width).saturating_mul(3) != pixels.len() {
                let what = format!("it sent {} bytes for {height} x {width} pixels", pixels.len());
                return Err(Wrong::NoMessage(what));
            }
            Ok(Reply::Picture(height, width, pixels.to_vec()))
        }
        [b'N'] => Ok(Reply::NoPicture),
        [b'E', body @ ..] => Err(Wrong::Said(Fault::Broken(text(body)))),
        [b'X', body @ ..] => Err(Wrong::Said(Fault::Refused(text(body)))),
        [b'I', body @ ..] => Err(Wrong::Said(Fault::Missing(text(body)))),
        other => {
            let what = format!("it sent {:?}, which is no message", &other[..other.len().min(20)]);
            Err(Wrong::NoMessage(what))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        [&(message.len() as u32).to_le_bytes(), message].concat()
    }

    #[test]
    fn a_length_over_the_limit_and_pixels_that_are_not_there_are_named() {
        let next = |bytes: &[u8]| {
            let mut messages = Messages::default();
            messages.push(bytes);
            messages.next()
        };
        assert!(matches!(next(&[0xff; 4]), Err(Wrong::NoMessage(what)) if what.contains("4294967295 bytes")));
        let picture = [&b"P"[..], &[0xff; 8], b"rgb"].concat();
        assert!(matches!(next(&framed(&picture)), Err(Wrong::NoMessage(what)) if what.contains("pixels")));
        assert_eq!(next(&framed(b"")), Err(Wrong::NoMessage("it sent [], which is no message".into())));
    }

    proptest! {
        #[test]
        fn messages_are_the_same_however_they_are_cut(text in "[a-z ]{0,30}", cuts in vec(1usize..9, 1..40)) {
            let hello = [b"H", text.as_bytes()].concat();
            let bytes = [framed(&hello), framed(b"N"), framed(&hello)].concat();
            let (mut messages, mut replies, mut rest) = (Messages::default(), vec![], &bytes[..]);
            for cut in cuts.into_iter().cycle() {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                messages.push(piece);
                replies.extend(messages.next().unwrap());
                rest = after;
                if rest.is_empty() && messages.bytes.is_empty() {
                    break;
                }
            }
            let hello = || Reply::Hello(text.clone().into_bytes());
            prop_assert_eq!(replies, [hello(), Reply::NoPicture, hello()]);
        }

        #[test]
        fn any_bytes_are_replies_or_refused(bytes in vec(any::<u8>(), 0..100), kind in "[HOPNEXI]") {
            super::super::child_says(&bytes);
            super::super::child_says(&framed(&[kind.as_bytes(), &bytes].concat()));
        }
    }
}
