//! Where a new process joins: a socket with a name and a deadline, for one visitor.

use std::fs::Permissions;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::{LinkReceiver, LinkSender, WireError, link, socket};

/// A door that one process can come through once.
pub struct Doorway {
    listener: UnixListener,
    name: String,
    /// Where the socket is, for its owner only; goes when it is dropped.
    _folder: TempDir,
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
        let folder = tempfile::Builder::new().prefix("lucid-").permissions(Permissions::from_mode(0o700)).tempdir()?;
        let path = folder.path().join("door");
        let name = path.to_str().ok_or_else(|| WireError::Io(format!("{} is no UTF-8", path.display())))?.to_string();
        let listener = UnixListener::bind(&path).map_err(|error| WireError::Io(format!("{name}: {error}")))?;
        Ok(Self { listener, name, _folder: folder })
    }

    /// What the other process needs to find it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Wait until somebody has come and spoken, or the limit has passed.
    pub fn accept<In, Out>(self, limit: Duration) -> Result<Visitor<In, Out>, WireError>
    where
        In: DeserializeOwned,
        Out: Serialize,
    {
        let start = Instant::now();
        let late = || WireError::Timeout { seconds: limit.as_secs_f64() };
        if !socket::readable(self.listener.as_fd(), start.checked_add(limit))? {
            return Err(late());
        }
        let (stream, _) = self.listener.accept()?;
        let (sender, receiver) = link::ends(stream);
        let first = receiver.recv_timeout(limit.saturating_sub(start.elapsed())).map_err(|error| match error {
            WireError::Timeout { .. } => late(),
            other => other,
        })?;
        Ok(Visitor { first: first.message, receiver, sender })
    }
}

/// Come through the door called `name` with a first message.
pub fn knock<Out, In>(name: &str, first: &Out) -> Result<(LinkSender<Out>, LinkReceiver<In>), WireError>
where
    Out: Serialize,
    In: DeserializeOwned,
{
    let (sender, receiver) = link::ends(UnixStream::connect(name)?);
    sender.send(first)?;
    Ok((sender, receiver))
}

#[cfg(test)]
mod tests {
    use std::thread;

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

    #[test]
    fn one_that_comes_and_says_nothing_is_not_waited_for_longer_than_one_that_does_not_come() {
        let door = Doorway::open().unwrap();
        let _silent = UnixStream::connect(door.name()).unwrap();
        let result = door.accept::<ToLearner, ToActor>(Duration::from_millis(20));
        assert!(matches!(result, Err(WireError::Timeout { .. })));
    }

    #[test]
    fn nobody_but_its_owner_finds_a_door_and_it_goes_with_its_visitor() {
        let door = Doorway::open().unwrap();
        let folder = std::path::PathBuf::from(door.name()).parent().unwrap().to_path_buf();
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let result = door.accept::<ToLearner, ToActor>(Duration::ZERO);
        assert!(result.is_err() && !folder.exists());
    }
}
