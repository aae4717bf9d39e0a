//! One Python process, and messages to and from it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;

use super::messages::{Fault, Messages, Reply, Wrong};
use super::suite::Suite;
use crate::env::Interrupt;

/// What runs in the child, by name of module.
const SOURCES: [(&str, &str); 10] = [
    ("lucid_env", ""),
    ("lucid_env.channel", include_str!("../../../python/lucid_env/channel.py")),
    ("lucid_env.spaces", include_str!("../../../python/lucid_env/spaces.py")),
    ("lucid_env.host", include_str!("../../../python/lucid_env/host.py")),
    ("lucid_env.suites", include_str!("../../../python/lucid_env/suites/__init__.py")),
    ("lucid_env.suites.atari", include_str!("../../../python/lucid_env/suites/atari.py")),
    ("lucid_env.suites.crafter", include_str!("../../../python/lucid_env/suites/crafter.py")),
    ("lucid_env.suites.dmc", include_str!("../../../python/lucid_env/suites/dmc.py")),
    ("lucid_env.suites.minigrid", include_str!("../../../python/lucid_env/suites/minigrid.py")),
    ("lucid_env.suites.procgen", include_str!("../../../python/lucid_env/suites/procgen.py")),
];
/// What reads them.
const BOOT: &str = include_str!("../../../python/lucid_env/boot.py");

/// How often it is seen whether a silent child lives: its own children may hold its pipe open.
const LOOK: Duration = Duration::from_millis(100);
/// How long a short step is waited for awake: falling asleep and waking up take longer than many an environment's step.
const SPIN: Duration = Duration::from_micros(20);
/// How long a child may take to close its environment.
const CLOSING: Duration = Duration::from_secs(2);
/// Lines of its standard error that errors show.
const LAST_LINES: usize = 12;

/// What is asked of a child.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Request {
    /// The memory has its size now. Has no reply.
    Map = b'M',
    /// A new episode.
    Reset = b'R',
    /// The action in memory.
    Step = b'S',
    /// A picture.
    Render = b'P',
    /// To close the environment and end. Has no reply.
    Close = b'C',
}

/// How to start a child.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The Python to run.
    pub python: String,
    /// What `gymnasium.make` or the suite is asked for.
    pub id: String,
    /// The suite, unless it is one of Gymnasium's environments.
    pub suite: Option<Suite>,
    /// Keyword arguments, JSON.
    pub kwargs: serde_json::Value,
    /// How long each answer may take.
    pub timeout: Duration,
    /// Once it is set, no answer is waited for.
    pub interrupt: Interrupt,
}

/// A running child; killed when dropped.
pub struct Child {
    process: std::process::Child,
    requests: ChildStdin,
    replies: ChildStdout,
    received: Messages,
    words: Arc<Mutex<VecDeque<String>>>,
    listener: Option<JoinHandle<()>>,
    timeout: Duration,
    deadline: Instant,
    interrupt: Interrupt,
}

impl Child {
    /// Start one, with the memory that it will share; its hello comes later. To be called on a thread that lives as long as the
    /// child should: the child ends with it.
    pub fn start(setup: &Setup, seed: u64, memory: &OwnedFd) -> std::io::Result<Self> {
        static INHERITING: Mutex<()> = Mutex::new(());
        let mut process = {
            // One at a time, so that no child inherits another's memory.
            let _alone = INHERITING.lock();
            fcntl_setfd(memory, FdFlags::empty())?;
            let process = Command::new(&setup.python)
                .args(["-c", BOOT])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .process_group(0)
                .spawn();
            fcntl_setfd(memory, FdFlags::CLOEXEC)?;
            process?
        };
        let (requests, replies, errors) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(requests), Some(replies), Some(errors)) = (requests, replies, errors) else {
            return Err(std::io::Error::other("a child without pipes"));
        };
        let words = Arc::default();
        let listener = Some(listen(errors, &words)?);
        let (timeout, deadline) = (setup.timeout, Instant::now() + setup.timeout);
        let (received, interrupt) = (Messages::default(), setup.interrupt.clone());
        let mut child = Self { process, requests, replies, received, words, listener, timeout, deadline, interrupt };
        // A child that ends before it has read this is noticed when its hello is awaited.
        let _ = child.send(
            &json!({
                "sources": BTreeMap::from(SOURCES),
                "task": setup.id,
                "kwargs": setup.kwargs,
                "suite": setup.suite,
                // Some environments take 31 bits only.
                "seed": seed & 0x7fff_ffff,
                "memory": memory.as_raw_fd(),
                "parent": std::process::id(),
            })
            .to_string()
            .into_bytes(),
        );
        Ok(child)
    }

    /// Ask for something; the time for its answer runs from now on. That the child is no more is noticed at [`Child::receive`].
    pub fn ask(&mut self, request: Request) {
        self.deadline = Instant::now() + self.timeout;
        let _ = self.send(&[request as u8]);
    }

    fn send(&mut self, body: &[u8]) -> std::io::Result<()> {
        let length = (body.len() as u32).to_le_bytes();
        self.requests.write_all(&[&length, body].concat())
    }

    /// The next reply, until the time of the last request is over or nobody waits any more.
    pub fn receive(&mut self) -> Result<Reply, Fault> {
        loop {
            if let Some(reply) = self.received(LOOK)? {
                return Ok(reply);
            }
            if self.interrupt.is_set() {
                return Err(Fault::Broken("its answer was not waited for".into()));
            }
        }
    }

    /// The next reply if it comes within `patience`.
    pub fn received(&mut self, patience: Duration) -> Result<Option<Reply>, Fault> {
        let until = Instant::now() + patience;
        loop {
            match self.received.next() {
                Ok(None) => {}
                Ok(reply) => return Ok(reply),
                Err(Wrong::Said(fault)) => return Err(fault),
                Err(Wrong::NoMessage(what)) => return Err(self.broken(&what)),
            }
            let left = until.min(self.deadline).saturating_duration_since(Instant::now());
            if self.wait(left) {
                self.read()?;
            } else if Instant::now() >= self.deadline {
                let seconds = self.timeout.as_secs_f64();
                return Err(self.broken(&format!("it did not answer within {seconds} s (env.timeout)")));
            } else if self.process.try_wait().is_ok_and(|status| status.is_some()) {
                // Its last message may have come since.
                if !self.wait(Duration::ZERO) {
                    return Err(self.ended());
                }
            } else {
                return Ok(None);
            }
        }
    }

    /// Wait for bytes or the end of the pipe.
    fn wait(&self, limit: Duration) -> bool {
        let mut pipe = [PollFd::from_borrowed_fd(self.replies.as_fd(), PollFlags::IN)];
        let awake = Instant::now() + SPIN.min(limit);
        while Instant::now() < awake {
            if matches!(poll(&mut pipe, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(ready) if ready > 0) {
                return true;
            }
        }
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        // Where waiting fails, reading tells why; an interrupted wait is one that was short.
        !matches!(poll(&mut pipe, Some(&limit)), Ok(0) | Err(rustix::io::Errno::INTR))
    }

    fn read(&mut self) -> Result<(), Fault> {
        let mut bytes = [0; 4096];
        match self.replies.read(&mut bytes) {
            Ok(0) => Err(self.ended()),
            Ok(count) => {
                self.received.push(&bytes[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(self.broken(&format!("its pipe cannot be read: {error}"))),
        }
    }

    /// The child has ended, or its pipe has.
    fn ended(&mut self) -> Fault {
        let until = Instant::now() + LOOK;
        let mut status = None;
        while status.is_none() && Instant::now() < until {
            status = self.process.try_wait().ok().flatten();
            thread::sleep(Duration::from_millis(1));
        }
        match status {
            Some(status) => self.broken(&format!("its process ended: {status}")),
            None => self.broken("it closed its pipe"),
        }
    }

    /// A fault with the last words of the child, which is killed.
    fn broken(&mut self, what: &str) -> Fault {
        self.kill();
        // All that it said is read soon, unless processes that it started still hold its standard error.
        let until = Instant::now() + LOOK;
        while self.listener.as_ref().is_some_and(|listener| !listener.is_finished()) && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        let lines: String = self.words.lock().iter().map(|line| format!("\n  {line}")).collect();
        let lines = if lines.is_empty() { lines } else { format!("; its last lines:{lines}") };
        Fault::Broken(format!("{what}{lines}"))
    }

    /// End it with all that it started, at once; also where it is stopped.
    pub fn kill(&mut self) {
        if let Some(pid) = Pid::from_raw(self.process.id() as i32)
            && self.process.try_wait().is_ok_and(|status| status.is_none())
        {
            // It may end by itself at this moment.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let alive = |child: &mut Self| child.process.try_wait().is_ok_and(|status| status.is_none());
        if alive(self) {
            self.ask(Request::Close);
            let until = Instant::now() + CLOSING.min(self.timeout);
            while alive(self) && Instant::now() < until {
                thread::sleep(Duration::from_millis(1));
            }
        }
        self.kill();
    }
}

/// Pass the child's standard error on to this process's own, and keep its last lines.
fn listen(errors: ChildStderr, words: &Arc<Mutex<VecDeque<String>>>) -> std::io::Result<JoinHandle<()>> {
    let words = words.clone();
    thread::Builder::new().name("environment's words".into()).spawn(move || {
        let mut lines = BufReader::new(errors);
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line), Ok(count) if count > 0) {
            // Nobody is left to be told that standard error cannot be written to.
            let _ = std::io::stderr().write_all(&line);
            let mut words = words.lock();
            words.push_back(String::from_utf8_lossy(&line).trim_end().into());
            if words.len() > LAST_LINES {
                words.pop_front();
            }
            line.clear();
        }
    })
}
