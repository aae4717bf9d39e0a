//! One direction between two processes: messages, with bytes and shared memory beside them.

use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::large_pages::LargePages;
use super::socket::{self, Frame, INLINE, Reader, Writer};
use super::{SharedMemory, WireError, codec};
use crate::params::Region;

/// Bytes beside a message.
pub enum Bulk {
    /// Came through the socket (or nothing came).
    Bytes(Vec<u8>),
    /// Came as shared memory, mapped here.
    Shared(SharedMemory),
}

impl AsRef<[u8]> for Bulk {
    fn as_ref(&self) -> &[u8] {
        match self {
            Bulk::Bytes(bytes) => bytes,
            Bulk::Shared(memory) => memory,
        }
    }
}

impl Bulk {
    /// As a region whose memory lives until its last reader has gone; shared memory is not copied.
    pub fn into_region(self) -> Region {
        Arc::new(self)
    }

    /// The same for what is read over and over, as a frozen network's weights are: in large pages if the system has some.
    pub fn into_lasting_region(self) -> Region {
        match self {
            Bulk::Shared(memory) => match LargePages::new(memory) {
                Ok(pages) => Arc::new(pages),
                Err(memory) => Arc::new(Bulk::Shared(memory)),
            },
            bytes => Arc::new(bytes),
        }
    }
}

/// A message with what travels beside it.
pub struct Incoming<M> {
    /// The message.
    pub message: M,
    /// Bytes beside it.
    pub bulk: Bulk,
}

/// The sending end of a link; blocks while the other process does not read.
pub struct LinkSender<M> {
    writer: Arc<Writer>,
    words: PhantomData<fn(M)>,
}

impl<M> Clone for LinkSender<M> {
    fn clone(&self) -> Self {
        Self { writer: self.writer.clone(), words: PhantomData }
    }
}

impl<M: Serialize> LinkSender<M> {
    /// Send a message alone.
    pub fn send(&self, message: &M) -> Result<(), WireError> {
        self.writer.write(&codec::encode(message)?, &[], None)
    }

    /// Send a message with bytes to copy beside it: through the socket when few, as fresh shared memory when many.
    pub fn send_bytes(&self, message: &M, bytes: &[u8]) -> Result<(), WireError> {
        match bytes.len() {
            0..=INLINE => self.writer.write(&codec::encode(message)?, bytes, None),
            _ => self.send_region(message, &SharedMemory::copy(bytes)?),
        }
    }

    /// Send a message with shared memory beside it, as it is.
    pub fn send_region(&self, message: &M, region: &SharedMemory) -> Result<(), WireError> {
        self.writer.write(&codec::encode(message)?, &[], Some(region.as_fd()))
    }
}

/// The receiving end of a link.
pub struct LinkReceiver<M> {
    reader: Reader,
    words: PhantomData<fn() -> M>,
}

impl<M: DeserializeOwned> LinkReceiver<M> {
    /// Wait for the next message. After one that is [undecodable](WireError::Decode) the link goes on; any other error ends it.
    pub fn recv(&self) -> Result<Incoming<M>, WireError> {
        open(self.reader.read(None)?)
    }

    /// Wait for the next message, but not for long.
    pub fn recv_timeout(&self, limit: Duration) -> Result<Incoming<M>, WireError> {
        open(self.reader.read(Some(limit))?)
    }
}

fn open<M: DeserializeOwned>(frame: Frame) -> Result<Incoming<M>, WireError> {
    let message = codec::decode(&frame.message)?;
    let bulk = match frame.memory {
        Some(descriptor) => Bulk::Shared(
            SharedMemory::received(descriptor)
                .map_err(|error| WireError::Malformed { what: "shared memory", message: error.to_string() })?,
        ),
        None => Bulk::Bytes(frame.inline),
    };
    Ok(Incoming { message, bulk })
}

/// Both links of a connection: what is sent here, and what is received.
pub fn ends<Out, In>(stream: UnixStream) -> (LinkSender<Out>, LinkReceiver<In>) {
    let (writer, reader) = socket::ends(stream);
    (LinkSender { writer: Arc::new(writer), words: PhantomData }, LinkReceiver { reader, words: PhantomData })
}

/// Both ends of a new link.
pub fn pair<M: Serialize + DeserializeOwned>() -> Result<(LinkSender<M>, LinkReceiver<M>), WireError> {
    let (one, other) = UnixStream::pair()?;
    let ((sender, _), (_, receiver)) = (ends::<M, M>(one), ends::<M, M>(other));
    Ok((sender, receiver))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::ToActor;

    #[test]
    fn small_bytes_travel_inline_and_large_ones_as_shared_memory() {
        let (sender, receiver) = pair::<ToActor>().unwrap();
        for (length, shared) in [(0, false), (10, false), (INLINE + 1, true)] {
            let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
            sender.send_bytes(&ToActor::Stop, &bytes).unwrap();
            let incoming = receiver.recv().unwrap();
            assert_eq!(incoming.message, ToActor::Stop);
            assert_eq!(incoming.bulk.as_ref(), &bytes[..]);
            assert_eq!(matches!(incoming.bulk, Bulk::Shared(_)), shared);
        }
    }

    #[test]
    fn garbage_is_an_error_and_the_link_goes_on() {
        let (sender, receiver) = pair::<ToActor>().unwrap();
        sender.writer.write(&[99; 5], &[], None).unwrap();
        sender.send(&ToActor::Stop).unwrap();
        assert!(matches!(receiver.recv(), Err(WireError::Decode { .. })));
        assert_eq!(receiver.recv().unwrap().message, ToActor::Stop);
    }

    #[test]
    fn a_closed_link_and_silence_are_told_apart() {
        let (sender, receiver) = pair::<ToActor>().unwrap();
        assert!(matches!(receiver.recv_timeout(Duration::from_millis(1)), Err(WireError::Timeout { .. })));
        drop(sender);
        assert!(matches!(receiver.recv_timeout(Duration::from_millis(1)), Err(WireError::Closed)));
    }

    #[test]
    fn what_was_sent_before_an_end_was_dropped_arrives_and_nothing_can_be_sent_to_one_that_was() {
        let (sender, receiver) = pair::<ToActor>().unwrap();
        sender.send(&ToActor::Clock { update: 3 }).unwrap();
        drop(sender);
        assert_eq!(receiver.recv().unwrap().message, ToActor::Clock { update: 3 });
        let (sender, receiver) = pair::<ToActor>().unwrap();
        sender.send(&ToActor::Stop).unwrap();
        drop(receiver);
        assert!(matches!(sender.send(&ToActor::Stop), Err(WireError::Closed)));
    }

    #[test]
    fn memory_lives_until_its_last_reader_is_done_also_on_its_way() {
        let (sender, receiver) = pair::<ToActor>().unwrap();
        for version in 0..3u8 {
            let region = SharedMemory::copy(&vec![version; 3 << 20]).unwrap();
            let message = ToActor::Snapshot { version: version.into(), update: 0 };
            sender.send_region(&message, &region).unwrap();
        }
        drop(sender);
        let regions: Vec<Region> = (0..3).map(|_| receiver.recv().unwrap().bulk.into_lasting_region()).collect();
        drop(receiver);
        for (version, region) in regions.iter().enumerate() {
            let bytes: &[u8] = (**region).as_ref();
            assert!(bytes.len() == 3 << 20 && bytes.iter().all(|byte| usize::from(*byte) == version));
        }
    }

    #[test]
    fn messages_of_several_threads_and_of_any_size_are_not_mixed() {
        let (sender, receiver) = pair::<ToActor>().unwrap();
        let said = |thread: usize, length: usize| ToActor::Refused { reason: thread.to_string().repeat(length) };
        let lengths = [0, 1, 60_000, 900_000];
        thread::scope(|scope| {
            for thread in 0..4 {
                let sender = sender.clone();
                let send = move |length: usize| {
                    let bytes = vec![thread as u8; length % (2 * INLINE)];
                    sender.send_bytes(&said(thread, length), &bytes).unwrap();
                };
                scope.spawn(move || lengths.into_iter().for_each(send));
            }
            for _ in 0..4 * lengths.len() {
                let Incoming { message: ToActor::Refused { reason }, bulk } = receiver.recv().unwrap() else {
                    panic!()
                };
                let first = reason.chars().next();
                assert!(reason.chars().all(|c| Some(c) == first) && bulk.as_ref().len() == reason.len() % (2 * INLINE));
                assert!(bulk.as_ref().iter().all(|byte| char::from_digit((*byte).into(), 10) == first));
            }
        });
    }

    /// A link to which any bytes can be written.
    fn raw() -> (UnixStream, LinkReceiver<ToActor>) {
        let (one, other) = UnixStream::pair().unwrap();
        let (_, receiver) = ends::<ToActor, ToActor>(other);
        (one, receiver)
    }

    #[test]
    fn a_length_over_its_limit_ends_the_link() {
        for head in [[u32::MAX, 0, 0], [0, u32::MAX, 0], [codec::LIMIT as u32 + 1, 0, 0], [0, INLINE as u32 + 1, 0]] {
            let (mut stream, receiver) = raw();
            stream.write_all(b"LUCF").unwrap();
            head.iter().for_each(|number| stream.write_all(&number.to_le_bytes()).unwrap());
            assert!(matches!(receiver.recv(), Err(WireError::Malformed { what: "frame", .. })));
        }
    }

    #[test]
    fn half_a_frame_is_waited_for_no_longer_than_is_asked_and_is_not_lost() {
        let (mut stream, receiver) = raw();
        let message = codec::encode(&ToActor::Stop).unwrap();
        let frame = [&b"LUCF"[..], &(message.len() as u32).to_le_bytes(), &[0; 8], &message].concat();
        for byte in frame {
            assert!(matches!(receiver.recv_timeout(Duration::ZERO), Err(WireError::Timeout { .. })));
            stream.write_all(&[byte]).unwrap();
        }
        assert_eq!(receiver.recv().unwrap().message, ToActor::Stop);
        stream.write_all(b"LUC").unwrap();
        drop(stream);
        assert!(matches!(receiver.recv(), Err(WireError::Closed)));
    }

    #[test]
    fn memory_that_is_told_of_but_does_not_come_ends_the_link() {
        let (mut stream, receiver) = raw();
        let head = [&b"LUCF"[..], &[0; 8], &1u32.to_le_bytes()].concat();
        stream.write_all(&head).unwrap();
        assert!(matches!(receiver.recv(), Err(WireError::Malformed { what: "frame", .. })));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_that_could_still_be_written_is_refused() {
        let (sender, receiver) = pair::<ToActor>().unwrap();
        let file = tempfile::tempfile().unwrap();
        sender.writer.write(&codec::encode(&ToActor::Stop).unwrap(), &[], Some(file.as_fd())).unwrap();
        assert!(matches!(receiver.recv(), Err(WireError::Malformed { what: "shared memory", .. })));
    }

    proptest! {
        #[test]
        fn any_stream_of_bytes_ends_in_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), honest: bool) {
            let (mut stream, receiver) = raw();
            if honest {
                stream.write_all(b"LUCF").unwrap();
            }
            stream.write_all(&bytes).unwrap();
            drop(stream);
            let error = std::iter::from_fn(|| match receiver.recv() {
                Ok(_) | Err(WireError::Decode { .. }) => Some(None),
                Err(error) => Some(Some(error)),
            });
            let error = error.take(bytes.len() + 2).flatten().next();
            let expected = matches!(error, Some(WireError::Closed | WireError::Malformed { .. }));
            prop_assert!(expected, "{:?}", error);
        }
    }
}
