//! Frames through a socket of one host: a message, bytes beside it, and a descriptor of shared memory. Trusts nothing that it reads.

use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use super::{WireError, codec};

/// First bytes of every frame.
const MAGIC: [u8; 4] = *b"LUCF";
/// Bytes of a frame's head: magic, lengths of message and bytes, whether shared memory comes along; each a little-endian u32.
const HEAD: usize = 16;
/// Bytes above which bulk travels as shared memory instead of through the socket.
pub const INLINE: usize = 100 << 10;

/// What is sent at once.
#[derive(Default)]
pub struct Frame {
    /// An encoded message, at most [`codec::LIMIT`] bytes.
    pub message: Vec<u8>,
    /// Bytes beside it, at most [`INLINE`].
    pub inline: Vec<u8>,
    /// Descriptor of memory beside it.
    pub memory: Option<OwnedFd>,
}

/// Both directions of a connection.
pub fn ends(stream: UnixStream) -> (Writer, Reader) {
    let stream = Arc::new(stream);
    let reader = Reader { stream: stream.clone(), partial: RefCell::default() };
    (Writer { stream, turn: Mutex::new(()) }, reader)
}

/// The writing end; the other process reads the end of the stream once it is dropped.
pub struct Writer {
    stream: Arc<UnixStream>,
    /// Whose frame is being written.
    turn: Mutex<()>,
}

impl Writer {
    /// Send a frame; blocks while the other process does not read.
    pub fn write(&self, message: &[u8], inline: &[u8], memory: Option<BorrowedFd<'_>>) -> Result<(), WireError> {
        debug_assert!(message.len() <= codec::LIMIT && inline.len() <= INLINE);
        let mut bytes = Vec::with_capacity(HEAD + message.len() + inline.len());
        bytes.extend_from_slice(&MAGIC);
        for number in [message.len(), inline.len(), usize::from(memory.is_some())] {
            bytes.extend_from_slice(&(number as u32).to_le_bytes());
        }
        bytes.extend_from_slice(message);
        bytes.extend_from_slice(inline);
        let _turn = self.turn.lock();
        let sent = match memory {
            Some(memory) => self.write_with(&bytes, memory)?,
            None => 0,
        };
        Ok((&*self.stream).write_all(&bytes[sent..])?)
    }

    /// The first bytes with a descriptor; how many there were.
    fn write_with(&self, bytes: &[u8], memory: BorrowedFd<'_>) -> Result<usize, WireError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let memory = [memory];
        Ok(retry_on_intr(|| {
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&memory));
            sendmsg(&*self.stream, &[IoSlice::new(bytes)], &mut control, SendFlags::empty())
        })
        .map_err(std::io::Error::from)?)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // One that has gone needs no telling.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// The reading end; the other process cannot write any more once it is dropped.
pub struct Reader {
    stream: Arc<UnixStream>,
    partial: RefCell<Partial>,
}

impl Reader {
    /// The next frame; for at most `limit`, if there is one. What has arrived of a frame by then is kept.
    pub fn read(&self, limit: Option<Duration>) -> Result<Frame, WireError> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut partial = self.partial.borrow_mut();
        loop {
            if let Some(frame) = partial.take()? {
                return Ok(frame);
            }
            if !self.wait(deadline)? {
                return Err(WireError::Timeout { seconds: limit.unwrap_or_default().as_secs_f64() });
            }
            partial.fill(&self.stream)?;
        }
    }

    fn wait(&self, deadline: Option<Instant>) -> Result<bool, WireError> {
        readable(self.stream.as_fd(), deadline)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // As above.
        let _ = self.stream.shutdown(Shutdown::Read);
    }
}

/// Wait until there is something to read or to accept; false if the deadline passes.
pub fn readable(descriptor: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<bool, WireError> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) if left.is_some_and(|left| !left.is_zero()) => {}
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
    }
}

/// A frame of which not everything has arrived.
#[derive(Default)]
pub struct Partial {
    head: [u8; HEAD],
    /// Message, then inline bytes; as long as the head says once that is there.
    body: Vec<u8>,
    /// Bytes that have arrived, head included.
    filled: usize,
    memory: Option<OwnedFd>,
}

/// What a head says.
struct Lengths {
    message: usize,
    inline: usize,
    memory: bool,
}

impl Partial {
    /// The whole frame if it is there; then the next one begins.
    fn take(&mut self) -> Result<Option<Frame>, WireError> {
        if self.filled < HEAD {
            return Ok(None);
        }
        let lengths = lengths(&self.head)?;
        self.body.resize(lengths.message + lengths.inline, 0);
        if self.filled < HEAD + self.body.len() {
            return Ok(None);
        }
        let Self { body: mut message, memory, .. } = std::mem::take(self);
        if lengths.memory != memory.is_some() {
            return Err(malformed("shared memory comes without being told of, or does not come".into()));
        }
        let inline = message.split_off(lengths.message);
        Ok(Some(Frame { message, inline, memory }))
    }

    /// Read what is there of this frame, and nothing of the next.
    fn fill(&mut self, stream: &UnixStream) -> Result<(), WireError> {
        let missing = match self.filled {
            filled if filled < HEAD => &mut self.head[filled..],
            filled => &mut self.body[filled - HEAD..],
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let read = match recvmsg(stream, &mut [IoSliceMut::new(missing)], &mut control, flags()) {
            Ok(message) => message.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(std::io::Error::from(error).into()),
        };
        let rights = control.drain().filter_map(|beside| match beside {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        self.memory = rights.flatten().last().or(self.memory.take());
        self.filled += read;
        if read == 0 { Err(WireError::Closed) } else { Ok(()) }
    }
}

/// What is waited for has arrived already; descriptors are not for programs that are started.
fn flags() -> RecvFlags {
    #[cfg(target_os = "linux")]
    return RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    RecvFlags::DONTWAIT
}

fn lengths(head: &[u8; HEAD]) -> Result<Lengths, WireError> {
    if head[..4] != MAGIC {
        return Err(malformed("it does not begin like one".into()));
    }
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (message, inline) = (number(4), number(8));
    for (length, limit) in [(message, codec::LIMIT), (inline, INLINE)] {
        if length > limit {
            return Err(malformed(format!("{length} bytes are over the limit of {limit}")));
        }
    }
    Ok(Lengths { message, inline, memory: number(12) != 0 })
}

fn malformed(message: String) -> WireError {
    WireError::Malformed { what: "frame", message }
}
