//! The other end: a process that asks or watches.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::{Answer, ControlError, LONGEST, Request, SOCKET, Word, address};

/// A connection to a run that goes on.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    lines: BufReader<UnixStream>,
}

impl Client {
    /// Reach the launcher of the run in this folder.
    pub fn connect(dir: &Path) -> Result<Self, ControlError> {
        let path = dir.join(SOCKET);
        let nobody = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ControlError::NotRunning { dir: dir.to_path_buf() },
            _ => ControlError::socket("connecting", &path)(error),
        };
        let folder = File::open(dir).map_err(nobody)?;
        let stream = UnixStream::connect(address(&folder)).map_err(nobody)?;
        Ok(Self { lines: BufReader::new(stream), path })
    }

    /// Ask, and wait until it has taken effect; what is so then.
    pub fn ask(&mut self, request: &Request) -> Result<String, ControlError> {
        self.send(request)?;
        match self.read()? {
            Some(Answer::Done(what)) => Ok(what),
            Some(Answer::Refused(why)) => Err(ControlError::Refused(why)),
            None => Err(ControlError::Refused("the run has ended".into())),
        }
    }

    /// Watch, until the run ends.
    pub fn watch(mut self) -> Result<Words, ControlError> {
        self.send(&Request::Watch)?;
        Ok(Words(self))
    }

    fn send(&mut self, request: &Request) -> Result<(), ControlError> {
        let failed = |error| ControlError::socket("asking", &self.path)(error);
        let mut line = serde_json::to_vec(request).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        self.lines.get_ref().write_all(&line).map_err(failed)
    }

    /// None once the launcher has closed.
    fn read<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ControlError> {
        let mut line = Vec::new();
        let read = self.lines.by_ref().take(LONGEST).read_until(b'\n', &mut line);
        if read.map_err(ControlError::socket("listening", &self.path))? == 0 {
            return Ok(None);
        }
        let wrong =
            |error: serde_json::Error| ControlError::Word { path: self.path.clone(), message: error.to_string() };
        serde_json::from_slice(&line).map(Some).map_err(wrong)
    }
}

/// What the launcher tells, as it comes.
#[derive(Debug)]
pub struct Words(Client);

impl Iterator for Words {
    type Item = Result<Word, ControlError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.read().transpose()
    }
}
