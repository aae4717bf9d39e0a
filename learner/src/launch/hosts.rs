//! Other hosts as the launcher sees them: what it says to the gate and hears of it, and the gate's process.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use actor::Restarts;
use crossbeam::channel::Sender;
use serde::{Deserialize, Serialize};
use shared::metrics::HostReport;
use shared::wire::{Doorway, LinkSender, Visitor, WireError};

use super::Resolved;
use super::child::Process;
use super::supervisor::Event;
use crate::RunError;
use crate::error::wire;
use crate::threads::spawn;

/// How often the gate may die within a minute.
const MAX_RESTARTS: usize = 5;
/// How long a process there that was told to end may say nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process of an actor: its index, and how often it was started before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Who {
    /// Index of the actor.
    pub actor: u32,
    /// How often it was started before.
    pub generation: u32,
}

/// How a process of an actor ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// In words: `exit status: 1`.
    pub how: String,
    /// Its exit code, if it has one.
    pub code: Option<i32>,
    /// The last lines of its log.
    pub lines: String,
}

/// From the launcher to the gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HostOrder {
    /// Have an actor come through this door of the learner's.
    Invite {
        /// Name of the host.
        host: String,
        /// Which process.
        who: Who,
        /// Name of the door.
        door: String,
        /// Whether to start it; else it is one that runs, or has ended meanwhile.
        start: bool,
    },
    /// End this process.
    Kill {
        /// Name of the host.
        host: String,
        /// Which process.
        who: Who,
    },
    /// The run has ended.
    Stop {
        /// Why.
        reason: String,
    },
}

/// From the gate to the launcher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HostNotice {
    /// The first word.
    Hello {
        /// The run's secret.
        token: String,
    },
    /// A host is there.
    Came {
        /// Its name.
        host: String,
        /// Actors that it is to have.
        actors: u32,
        /// Processes that run there.
        running: Vec<Who>,
    },
    /// A host is there no more; it may come back.
    Gone {
        /// Its name.
        host: String,
        /// Why.
        why: String,
    },
    /// A host is to leave.
    Leaving {
        /// Its name.
        host: String,
    },
    /// A process runs.
    Started {
        /// Which.
        who: Who,
        /// Its id there.
        pid: u32,
    },
    /// A process has ended.
    Ended {
        /// Which.
        who: Who,
        /// How.
        end: End,
    },
    /// How hosts fare, about once a second.
    Hosts(Vec<HostReport>),
    /// Somebody was refused.
    Refused {
        /// Whom, and why.
        what: String,
    },
}

/// A process of an actor on another host, as its host tells of it.
pub struct Remote {
    /// Name of its host.
    pub host: String,
    who: Who,
    pid: u32,
    started: Instant,
    killed: Option<Instant>,
    end: Option<End>,
    orders: LinkSender<HostOrder>,
}

impl Remote {
    /// Have one started that comes through this door.
    pub fn start(host: &str, who: Who, door: &str, orders: &LinkSender<HostOrder>) -> Self {
        let (host, orders) = (host.to_string(), orders.clone());
        let remote = Self { host, who, pid: 0, started: Instant::now(), killed: None, end: None, orders };
        remote.invite(door, true);
        remote
    }

    /// Have it come through this door.
    pub fn tell(&self, door: &str) {
        self.invite(door, false);
    }

    /// A gate that has gone is noticed by whoever watches it.
    fn invite(&self, door: &str, start: bool) {
        let (host, door) = (self.host.clone(), door.to_string());
        let _ = self.orders.send(&HostOrder::Invite { host, who: self.who, door, start });
    }

    /// Its host has come by this gate.
    pub fn is_reached_by(&mut self, orders: &LinkSender<HostOrder>) {
        self.orders = orders.clone();
    }

    /// Have it ended.
    pub fn kill(&mut self) {
        if self.killed.is_none() {
            self.killed = Some(Instant::now());
            let _ = self.orders.send(&HostOrder::Kill { host: self.host.clone(), who: self.who });
        }
    }

    /// It runs, under this id.
    pub fn runs(&mut self, pid: u32) {
        self.pid = pid;
    }

    /// It has ended.
    pub fn ends(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// Its id there; 0 before that is known.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How long ago it was asked for.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// How it ended, if it has; one whose host says nothing of it is as good as ended.
    pub fn ended(&mut self) -> Option<&End> {
        if self.killed.is_some_and(|at| at.elapsed() > PATIENCE) {
            self.ends(End { how: "its host says nothing of it".into(), code: None, lines: String::new() });
        }
        self.end.as_ref()
    }
}

/// Who came through the gate's door, or why nobody did; with the number of the process that was to come.
pub type GateCame = (u32, Result<Visitor<HostNotice, HostOrder>, WireError>);

/// The gate, over all its processes.
pub struct Gate {
    process: Option<Process>,
    restarts: Restarts,
    due: Option<Instant>,
    /// The way to it, once it is there.
    pub orders: Option<LinkSender<HostOrder>>,
}

impl Gate {
    /// To be started at once, if the config asks for other hosts.
    pub fn new(resolved: &Resolved) -> Self {
        let due = (!resolved.config.hosts.listen.is_empty()).then(Instant::now);
        Self { process: None, restarts: Restarts::default(), due, orders: None }
    }

    /// How many processes there were before this one.
    pub fn number(&self) -> u32 {
        self.restarts.total()
    }

    /// Start it if it is time.
    pub fn start_if_due(&mut self, resolved: &Resolved, token: &str, events: &Sender<Event>) -> Result<(), RunError> {
        if self.due.take_if(|at| *at <= Instant::now()).is_none() {
            return Ok(());
        }
        let door = Doorway::open().map_err(wire("opening a door for the gate"))?;
        let args = ["gate", "--run", &resolved.dir.to_string_lossy(), "--join", door.name()].map(String::from);
        self.process = Some(Process::start(&resolved.dir, "gate", &args, token)?);
        let limit = Duration::try_from_secs_f64(resolved.config.sync.join_timeout).unwrap_or(Duration::from_secs(60));
        let (number, events) = (self.number(), events.clone());
        // A launcher that ends does not wait for it.
        spawn("gate's door", move || drop(events.send(Event::GateCame((number, door.accept(limit))))))
    }

    /// Look after its process. Returns what people should know, if it has ended.
    pub fn watch(&mut self) -> Option<String> {
        let process = self.process.as_mut()?;
        let status: ExitStatus = process.ended()?;
        let (pid, log, age) = (process.pid(), process.log().display().to_string(), process.age());
        let lines = process.last_lines();
        (self.process, self.orders) = (None, None);
        match self.restarts.next(Instant::now(), age, MAX_RESTARTS) {
            Some(delay) => {
                self.due = Some(Instant::now() + delay);
                let wait = delay.as_secs_f64();
                Some(format!(
                    "the gate for other hosts (process {pid}) ended: {status}; starting it again in {wait} s, see {log}"
                ))
            }
            None => Some(format!(
                "the gate for other hosts died {} times within a minute, and is not started again; its last lines:{lines}",
                MAX_RESTARTS + 1
            )),
        }
    }

    /// Have all hosts end. A gate that has gone cannot be told.
    pub fn stop(&self, reason: &str) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(&HostOrder::Stop { reason: reason.into() });
        }
    }

    /// Whether it has ended, or never ran.
    pub fn ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.ended().is_some())
    }
}
