//! What processes say to each other, and how it travels on one host.
//!
//! [`messages`] are the words, [`codec`] turns them into bytes and back under a limit, a [`link`](LinkSender) moves
//! bytes and shared memory through a socket, and a [`Doorway`] is where a new process knocks.

pub mod chunk;
pub mod codec;
mod credits;
mod doorway;
mod large_pages;
mod link;
mod memory;
pub mod messages;
mod socket;

pub use credits::{Credits, Pause};
pub use doorway::{Doorway, Visitor, knock};
pub use link::{Bulk, Incoming, LinkReceiver, LinkSender, ends, pair};
pub use memory::{MemoryDraft, SharedMemory};
pub use messages::{Episode, Hello, Numbers, ToActor, ToLearner, Waiting, Welcome};

/// Why a message could not be sent, received or understood.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other process closed its end or died.
    #[error("the other process has gone (channel closed)")]
    Closed,
    /// Nothing arrived in time.
    #[error("nothing arrived within {seconds:.1} s")]
    Timeout {
        /// How long was waited.
        seconds: f64,
    },
    /// Bytes that are no message of this version of Lucid, or one over the limit.
    #[error("undecodable message ({bytes} bytes): {message}; are both processes of the same Lucid version?")]
    Decode {
        /// Length of what arrived.
        bytes: usize,
        /// The codec's reason.
        message: String,
    },
    /// A message of our own that cannot be encoded.
    #[error("message cannot be encoded: {message}")]
    Encode {
        /// The codec's reason.
        message: String,
    },
    /// A message whose contents contradict each other.
    #[error("malformed {what}: {message}")]
    Malformed {
        /// Which message.
        what: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// From the operating system.
    #[error("between processes: {0}")]
    Io(String),
}

impl From<std::io::Error> for WireError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe
            | std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::ConnectionRefused => WireError::Closed,
            _ => WireError::Io(error.to_string()),
        }
    }
}
