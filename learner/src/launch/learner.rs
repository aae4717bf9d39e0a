//! The launcher's learner: started with a door to come through, watched, started again from its last checkpoint.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use actor::Restarts;
use crossbeam::channel::Sender;
use shared::wire::{Doorway, Visitor, WireError};

use super::child::Process;
use super::{Notice, Order, Resolved};
use crate::RunError;
use crate::error::wire;
use crate::threads::spawn;

/// How often it may die within a minute.
const MAX_RESTARTS: usize = 5;

/// Who came through the learner's door, or why nobody did; with the number of the process that was to come.
pub type Came = (u32, Result<Visitor<Notice, Order>, WireError>);

/// The learner, over all its processes.
pub struct Learner {
    process: Process,
    args: Vec<String>,
    restarts: Restarts,
    /// When it is to be started again.
    due: Option<Instant>,
    /// When the first one was started.
    begun: Instant,
}

impl Learner {
    /// Start the first one. `extra`: arguments that only the learner understands.
    pub fn start<E: From<Came> + Send + 'static>(
        resolved: &Resolved,
        token: &str,
        extra: &[String],
        events: &Sender<E>,
    ) -> Result<Self, RunError> {
        let (begun, restarts) = (Instant::now(), Restarts::default());
        let process = spawn_process(resolved, token, extra, (0, begun), events)?;
        Ok(Self { process, args: extra.to_vec(), restarts, due: None, begun })
    }

    /// The running process, or the last one.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// How many processes there were before this one.
    pub fn number(&self) -> u32 {
        self.restarts.total()
    }

    /// Whether none runs, and one is to be started.
    pub fn is_away(&self) -> bool {
        self.due.is_some()
    }

    /// How it ended, if it has and none is to be started yet.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.due.is_some() { None } else { self.process.ended() }
    }

    /// Have it started again after a while, unless it has died too often; returns what people should know.
    pub fn bring_back(&mut self, status: ExitStatus) -> Option<String> {
        let delay = self.restarts.next(Instant::now(), self.process.age(), MAX_RESTARTS)?;
        self.due = Some(Instant::now() + delay);
        let (pid, log, wait) = (self.process.pid(), self.process.log().display(), delay.as_secs_f64());
        Some(format!(
            "the learner (process {pid}) ended: {status}; starting it again from its last checkpoint in {wait} s, see {log}"
        ))
    }

    /// Start it again if it is time.
    pub fn restart_if_due<E: From<Came> + Send + 'static>(
        &mut self,
        resolved: &Resolved,
        token: &str,
        events: &Sender<E>,
    ) -> Result<(), RunError> {
        if self.due.is_some_and(|at| at <= Instant::now()) {
            self.due = None;
            let which = (self.number(), self.begun);
            self.process = spawn_process(resolved, token, &self.args, which, events)?;
        }
        Ok(())
    }
}

/// Start a process, and wait for it at its door on a thread of its own.
fn spawn_process<E: From<Came> + Send + 'static>(
    resolved: &Resolved,
    token: &str,
    extra: &[String],
    (number, begun): (u32, Instant),
    events: &Sender<E>,
) -> Result<Process, RunError> {
    let door = Doorway::open().map_err(wire("opening a door for the learner"))?;
    let mut args = vec!["learner".to_string(), "--run".into(), resolved.dir.to_string_lossy().into_owned()];
    args.extend(["--join".to_string(), door.name().to_string()]);
    args.extend(["--since".to_string(), begun.elapsed().as_secs_f64().to_string()]);
    args.extend_from_slice(extra);
    let process = Process::start(&resolved.dir, "learner", &args, token)?;
    let seconds = resolved.config.sync.join_timeout;
    let limit = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(60));
    let events = events.clone();
    // A launcher that ends does not wait for it.
    spawn("learner's door", move || drop(events.send((number, door.accept(limit)).into())))?;
    Ok(process)
}
