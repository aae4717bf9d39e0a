//! Where a new process joins: a one-shot server with a name and a deadline.

use std::thread;
use std::time::Duration;

use crossbeam::channel;
use ipc_channel::ipc::{IpcOneShotServer, IpcReceiver, IpcSender};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::link::{self, Envelope};
use super::{Incoming, LinkReceiver, LinkSender, Parcel, WireError};

/// A door that one process can come through once.
pub struct Doorway {
    server: IpcOneShotServer<Envelope>,
    name: String,
}

/// A process that came through a door: its first message `In`, and both directions of its link.
pub struct Visitor<In, Out> {
    /// Its first message.
    pub first: In,
    /// What it says next.
    pub receiver: LinkReceiver<In>,
    /// The way back.
    pub sender: LinkSender<Out>,
}

impl Doorway {
    /// A new door.
    pub fn open() -> Result<Self, WireError> {
        let (server, name) = IpcOneShotServer::new()?;
        Ok(Self { server, name })
    }

    /// What the other process needs to find it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Wait until somebody has come and spoken, or the limit has passed.
    pub fn accept<In, Out>(self, limit: Duration) -> Result<Visitor<In, Out>, WireError>
    where
        In: Serialize + DeserializeOwned + Send + 'static,
        Out: Serialize + DeserializeOwned,
    {
        let Doorway { server, name } = self;
        let (done, accepted) = channel::bounded(1);
        thread::Builder::new().name("doorway".into()).spawn(move || {
            // The waiting side may have given up; then nobody wants the result.
            let _ = done.send(server.accept());
        })?;
        match accepted.recv_timeout(limit) {
            Ok(result) => {
                let (receiver, envelope) = result?;
                enter(receiver, envelope)
            }
            Err(_) => {
                // The server has no deadline of its own: coming through the door ourselves ends its thread.
                if let Ok(sender) = IpcSender::connect(name) {
                    let _ = sender.send(Envelope::default());
                }
                Err(WireError::Timeout { seconds: limit.as_secs_f64() })
            }
        }
    }
}

fn enter<In, Out>(receiver: IpcReceiver<Envelope>, envelope: Envelope) -> Result<Visitor<In, Out>, WireError>
where
    In: DeserializeOwned,
{
    let Incoming { message: first, reply, .. } = link::open(envelope)?;
    let reply = reply.ok_or_else(|| WireError::Malformed {
        what: "first message",
        message: "it brings no channel for the way back".into(),
    })?;
    Ok(Visitor { first, receiver: LinkReceiver::over(receiver), sender: LinkSender::over(reply) })
}

/// Come through the door called `name` with a first message.
pub fn knock<Out, In>(name: &str, first: &Out) -> Result<(LinkSender<Out>, LinkReceiver<In>), WireError>
where
    Out: Serialize + DeserializeOwned,
    In: Serialize + DeserializeOwned,
{
    let sender = LinkSender::over(IpcSender::connect(name.to_string())?);
    let (reply, receiver) = link::channel()?;
    sender.send_with(Parcel { message: first, bytes: &[], region: None }, Some(reply))?;
    Ok((sender, LinkReceiver::over(receiver)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ToActor, ToLearner};

    #[test]
    fn a_process_that_knocks_is_heard_and_answered() {
        let door = Doorway::open().unwrap();
        let name = door.name().to_string();
        let other = thread::spawn(move || {
            let (sender, receiver) = knock::<ToLearner, ToActor>(
                &name,
                &ToLearner::Goodbye { reason: "only passing".into(), steps: vec![] },
            )
            .unwrap();
            let answer = receiver.recv().unwrap().message;
            sender.send(&ToLearner::SnapshotTaken { version: 1, digest: 2 }).unwrap();
            answer
        });
        let visitor: Visitor<ToLearner, ToActor> = door.accept(Duration::from_secs(20)).unwrap();
        assert_eq!(visitor.first, ToLearner::Goodbye { reason: "only passing".into(), steps: vec![] });
        visitor.sender.send(&ToActor::Stop).unwrap();
        let next = visitor.receiver.recv().unwrap().message;
        assert_eq!(next, ToLearner::SnapshotTaken { version: 1, digest: 2 });
        assert_eq!(other.join().unwrap(), ToActor::Stop);
    }

    #[test]
    fn nobody_comes() {
        let door = Doorway::open().unwrap();
        let result = door.accept::<ToLearner, ToActor>(Duration::from_millis(20));
        assert!(matches!(result, Err(WireError::Timeout { .. })));
    }
}
