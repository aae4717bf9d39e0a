//! One direction between two processes: messages, with bytes, shared memory and channel ends beside them.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use ipc_channel::TryRecvError;
use ipc_channel::ipc::{self, IpcReceiver, IpcSender, IpcSharedMemory};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::large_pages::LargePages;
use super::{WireError, codec};
use crate::params::Region;

/// Bytes above which bulk travels as shared memory instead of through the socket.
const INLINE: usize = 100 << 10;

/// What ipc-channel sees. Messages stay bytes here and are decoded under [`codec::LIMIT`].
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Envelope {
    message: ByteBuf,
    inline: ByteBuf,
    region: Option<IpcSharedMemory>,
    reply: Option<IpcSender<Envelope>>,
}

/// Bytes beside a message.
pub enum Bulk {
    /// Came through the socket (or nothing came).
    Bytes(Vec<u8>),
    /// Came as shared memory, mapped here.
    Shared(IpcSharedMemory),
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
    pub(super) reply: Option<IpcSender<Envelope>>,
}

/// What to send: a message, with bytes beside it if there are any.
pub struct Parcel<'a, M> {
    /// The message.
    pub message: &'a M,
    /// Bytes to copy: through the socket when small, as fresh shared memory when large.
    pub bytes: &'a [u8],
    /// Shared memory to hand over as it is.
    pub region: Option<&'a IpcSharedMemory>,
}

/// The sending end of a link; blocks while the other process does not read.
pub struct LinkSender<M> {
    sender: IpcSender<Envelope>,
    words: PhantomData<fn(M)>,
}

impl<M> Clone for LinkSender<M> {
    fn clone(&self) -> Self {
        Self::over(self.sender.clone())
    }
}

impl<M> LinkSender<M> {
    pub(super) fn over(sender: IpcSender<Envelope>) -> Self {
        Self { sender, words: PhantomData }
    }
}

impl<M: Serialize> LinkSender<M> {
    /// Send a message alone.
    pub fn send(&self, message: &M) -> Result<(), WireError> {
        self.send_parcel(Parcel { message, bytes: &[], region: None })
    }

    /// Send a message with bytes to copy beside it.
    pub fn send_bytes(&self, message: &M, bytes: &[u8]) -> Result<(), WireError> {
        self.send_parcel(Parcel { message, bytes, region: None })
    }

    /// Send a message with shared memory beside it.
    pub fn send_region(&self, message: &M, region: &IpcSharedMemory) -> Result<(), WireError> {
        self.send_parcel(Parcel { message, bytes: &[], region: Some(region) })
    }

    fn send_parcel(&self, parcel: Parcel<'_, M>) -> Result<(), WireError> {
        self.send_with(parcel, None)
    }

    pub(super) fn send_with(&self, parcel: Parcel<'_, M>, reply: Option<IpcSender<Envelope>>) -> Result<(), WireError> {
        let mut envelope =
            Envelope { message: ByteBuf::from(codec::encode(parcel.message)?), reply, ..Default::default() };
        match parcel.region {
            Some(region) => envelope.region = Some(region.clone()),
            None if parcel.bytes.len() > INLINE => envelope.region = Some(IpcSharedMemory::from_bytes(parcel.bytes)),
            None => envelope.inline = ByteBuf::from(parcel.bytes),
        }
        Ok(self.sender.send(envelope)?)
    }
}

/// The receiving end of a link.
pub struct LinkReceiver<M> {
    receiver: IpcReceiver<Envelope>,
    words: PhantomData<fn() -> M>,
}

impl<M: DeserializeOwned> LinkReceiver<M> {
    pub(super) fn over(receiver: IpcReceiver<Envelope>) -> Self {
        Self { receiver, words: PhantomData }
    }

    /// Wait for the next message.
    pub fn recv(&self) -> Result<Incoming<M>, WireError> {
        open(self.receiver.recv()?)
    }

    /// Wait for the next message, but not for long.
    pub fn recv_timeout(&self, limit: Duration) -> Result<Incoming<M>, WireError> {
        match self.receiver.try_recv_timeout(limit) {
            Ok(envelope) => open(envelope),
            Err(TryRecvError::Empty) => Err(WireError::Timeout { seconds: limit.as_secs_f64() }),
            Err(TryRecvError::IpcError(e)) => Err(e.into()),
        }
    }
}

pub(super) fn open<M: DeserializeOwned>(envelope: Envelope) -> Result<Incoming<M>, WireError> {
    let message = codec::decode(&envelope.message)?;
    let bulk = match envelope.region {
        Some(region) => Bulk::Shared(region),
        None => Bulk::Bytes(envelope.inline.into_vec()),
    };
    Ok(Incoming { message, bulk, reply: envelope.reply })
}

pub(super) fn channel() -> Result<(IpcSender<Envelope>, IpcReceiver<Envelope>), WireError> {
    Ok(ipc::channel()?)
}

/// Both ends of a new link.
pub fn pair<M: Serialize + DeserializeOwned>() -> Result<(LinkSender<M>, LinkReceiver<M>), WireError> {
    let (sender, receiver) = channel()?;
    Ok((LinkSender::over(sender), LinkReceiver::over(receiver)))
}

#[cfg(test)]
mod tests {
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
        let (sender, receiver) = channel().unwrap();
        let receiver = LinkReceiver::<ToActor>::over(receiver);
        sender.send(Envelope { message: ByteBuf::from(vec![99; 5]), ..Default::default() }).unwrap();
        LinkSender::over(sender).send(&ToActor::Stop).unwrap();
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
}
