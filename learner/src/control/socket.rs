//! The launcher's end of the control socket.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use shared::trace::span;

use super::{Answer, ControlError, Hub, LONGEST, Request, SOCKET, address};

/// Connections served at a time; more are closed at once.
const MOST: usize = 64;
/// How long a client may take to read a line.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the last answers may take to be written when the run ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// The socket of a run; removed when dropped, after the last answers are written.
pub struct Socket {
    path: PathBuf,
    answering: Arc<AtomicUsize>,
}

impl Socket {
    /// Listen in a run folder, which belongs to this process: a socket that is there already is a dead launcher's.
    pub fn open(dir: &Path, hub: Hub) -> Result<Self, ControlError> {
        let path = dir.join(SOCKET);
        let failed = |doing| ControlError::socket(doing, &path);
        let old = fs::remove_file(&path);
        if let Err(error) = old
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(failed("removing a dead launcher's socket")(error));
        }
        let listener = bind(dir, &path).map_err(failed("listening"))?;
        let answering = Arc::<AtomicUsize>::default();
        let count = answering.clone();
        thread::Builder::new()
            .name("control".into())
            .spawn(move || accept(&listener, &hub, &count))
            .map_err(failed("listening"))?;
        Ok(Self { path, answering })
    }
}

/// It is made in a folder that nobody else may look into, and comes to its place once it is its owner's alone.
fn bind(dir: &Path, path: &Path) -> std::io::Result<UnixListener> {
    let aside =
        tempfile::Builder::new().prefix(".control").permissions(Permissions::from_mode(0o700)).tempdir_in(dir)?;
    let listener = UnixListener::bind(address(&File::open(aside.path())?))?;
    let made = aside.path().join(SOCKET);
    fs::set_permissions(&made, Permissions::from_mode(0o600))?;
    fs::rename(&made, path)?;
    Ok(listener)
}

impl Drop for Socket {
    fn drop(&mut self) {
        let deadline = Instant::now() + FAREWELL;
        while self.answering.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        // The run has ended; a socket that stays is removed by the next launcher.
        let _ = fs::remove_file(&self.path);
    }
}

fn accept(listener: &UnixListener, hub: &Hub, answering: &Arc<AtomicUsize>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if open.fetch_add(1, Ordering::Relaxed) >= MOST {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (hub, count, answering) = (hub.clone(), open.clone(), answering.clone());
        let serving = thread::Builder::new().name("control client".into()).spawn(move || {
            if let Err(error) = serve(stream, &hub, &answering) {
                tracing::debug!("a control client: {error}");
            }
            count.fetch_sub(1, Ordering::Relaxed);
        });
        if serving.is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Until the client goes, or says something that is not understood.
fn serve(stream: UnixStream, hub: &Hub, answering: &AtomicUsize) -> std::io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        match serde_json::from_slice(&line) {
            Ok(Request::Watch) => return watch(&stream, hub),
            Ok(request) => {
                answering.fetch_add(1, Ordering::AcqRel);
                let waiting = span("wait for an answer");
                let answer = hub.ask(request);
                drop(waiting);
                let said = say(&stream, &answer);
                answering.fetch_sub(1, Ordering::AcqRel);
                said?;
            }
            Err(error) => return say(&stream, &Answer::Refused(format!("not understood: {error}"))),
        }
    }
}

fn watch(stream: &UnixStream, hub: &Hub) -> std::io::Result<()> {
    hub.watch().iter().try_for_each(|word| say(stream, &*word))
}

fn say(mut stream: &UnixStream, word: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    stream.write_all(&line)
}
