//! What processes say to each other, and how it travels on one host.
//!
//! [`messages`] are the words, [`codec`] turns them into bytes and back under a limit, a [`link`](LinkSender) moves
//! bytes, shared memory and channel ends over ipc-channel, and a [`Doorway`] is where a new process knocks.

pub mod chunk;
pub mod codec;
mod credits;
mod doorway;
mod large_pages;
mod link;
pub mod messages;

pub use credits::{Credits, Pause};
pub use doorway::{Doorway, Visitor, knock};
pub use link::{Bulk, Incoming, LinkReceiver, LinkSender, Parcel, pair};
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

impl From<ipc_channel::IpcError> for WireError {
    fn from(error: ipc_channel::IpcError) -> Self {
        match error {
            ipc_channel::IpcError::Disconnected => WireError::Closed,
            ipc_channel::IpcError::SerializationError(e) => WireError::Decode { bytes: 0, message: e.to_string() },
            ipc_channel::IpcError::Io(e) => e.into(),
        }
    }
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
