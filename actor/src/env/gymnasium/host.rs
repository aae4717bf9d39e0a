//! A child that is started again when it fails.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use shared::array::Array;

use super::child::{Child, Request, Setup};
use super::layout::{Hello, Layout};
use super::memory::{self, Memory};
use super::messages::{Fault, Reply};
use crate::Restarts;
use crate::env::{EnvError, Outcome, Step};

/// How long to wait at once for a child that starts.
const LOOK: Duration = Duration::from_millis(100);

/// Where the child is.
enum State {
    /// To be started then.
    Due(Instant),
    /// Its hello is awaited.
    Starting(Child, OwnedFd),
    /// It answers.
    Up(Child, Memory),
}

/// One environment in a Python process, over all its processes.
pub struct Host {
    task: String,
    setup: Setup,
    seed: u64,
    layout: Layout,
    state: State,
    /// A request whose reply has not been read.
    asked: bool,
    started: Instant,
    /// No observation has come since the process was started again.
    fresh: bool,
    restarts: Restarts,
    max_restarts: usize,
    /// The last observation, to end an episode with that a fault cuts.
    last: Step,
}

impl Host {
    /// Start the first process and wait for it: whatever is wrong with it is an error.
    pub fn new(starting: Starting) -> Result<Self, EnvError> {
        let Starting { task, setup, seed, max_restarts, mut child, memory } = starting;
        let fault = |fault| failed(&task, &setup, fault);
        let hello = child.receive().map_err(fault)?;
        let layout = layout(&hello).map_err(fault)?;
        let memory = Memory::map(memory, layout.size).map_err(|error| fault(Fault::Broken(error.to_string())))?;
        child.ask(Request::Map);
        let (restarts, started, last) = (Restarts::default(), Instant::now(), Step::new());
        let state = State::Up(child, memory);
        Ok(Self { task, setup, seed, layout, state, asked: false, started, fresh: false, restarts, max_restarts, last })
    }

    /// Entries of steps and actions.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Send an action, or a reset where there is none, unless that was done or nobody is there.
    pub fn begin(&mut self, action: Option<&BTreeMap<String, Array>>) {
        if let (State::Up(child, memory), false) = (&mut self.state, self.asked) {
            if let Some(values) = action {
                self.layout.write(memory, values);
            }
            child.ask(if action.is_some() { Request::Step } else { Request::Reset });
            self.asked = true;
        }
    }

    /// The step that a new episode begins with. None where the process is being started again, and `patient` is false or nobody waits any
    /// more.
    pub fn reset(&mut self, patient: bool) -> Result<Option<Step>, EnvError> {
        loop {
            let patient = patient && !self.setup.interrupt.is_set();
            let look = if patient { LOOK } else { Duration::ZERO };
            self.bring_up(look)?;
            // After a restart the reply to the reset is awaited as the start is.
            let look = if self.fresh { look } else { LOOK };
            self.begin(None);
            let reply = match &mut self.state {
                State::Up(child, _) => child.received(look),
                State::Due(at) if patient => {
                    std::thread::sleep(at.saturating_duration_since(Instant::now()).min(LOOK));
                    continue;
                }
                State::Starting(..) if patient => continue,
                _ => return Ok(None),
            };
            match reply.and_then(|reply| reply.map(|reply| self.observation(reply)).transpose()) {
                Ok(Some((step, _))) => return Ok(Some(self.first(step))),
                Ok(None) if patient || look > Duration::ZERO => {}
                Ok(None) => return Ok(None),
                Err(fault) => self.fail(fault, "a new episode waits for it")?,
            }
        }
    }

    fn first(&mut self, mut step: Step) -> Step {
        Outcome::first().write(&mut step);
        self.last.clone_from(&step);
        step
    }

    /// The step that an action leads to. After a fault it is the last observation once more, as the end of an episode that was cut.
    pub fn step(&mut self, values: &BTreeMap<String, Array>) -> Result<Step, EnvError> {
        self.begin(Some(values));
        // It has failed before this step, in a picture.
        let State::Up(child, _) = &mut self.state else { return Ok(self.cut()) };
        let reply = child.receive();
        match reply.and_then(|reply| self.observation(reply)) {
            Ok((mut step, outcome)) => {
                outcome.write(&mut step);
                self.last.clone_from(&step);
                Ok(step)
            }
            Err(fault) => {
                self.fail(fault, "its episode is cut")?;
                Ok(self.cut())
            }
        }
    }

    fn cut(&self) -> Step {
        let mut step = self.last.clone();
        Outcome { is_last: true, ..Outcome::default() }.write(&mut step);
        step
    }

    /// What the environment draws of itself.
    pub fn picture(&mut self) -> Result<Option<Array>, EnvError> {
        let State::Up(child, _) = &mut self.state else { return Ok(None) };
        if !self.layout.renders || self.asked {
            return Ok(None);
        }
        child.ask(Request::Render);
        match child.receive() {
            Ok(Reply::Picture(height, width, pixels)) => Ok(Some(Array::u8(&[height, width, 3], &pixels))),
            Ok(Reply::NoPicture) => Ok(None),
            Ok(other) => Err(Fault::Broken(format!("it answered {other:?}, not a picture"))),
            Err(fault) => Err(fault),
        }
        .or_else(|fault| self.fail(fault, "it has no picture").map(|()| None))
    }

    /// A reply as a step without flags, and its outcome.
    fn observation(&mut self, reply: Reply) -> Result<(Step, Outcome), Fault> {
        let (State::Up(_, memory), Reply::Observation { reward, terminated, truncated }) = (&self.state, &reply) else {
            return Err(Fault::Broken(format!("it answered {reply:?}, not an observation")));
        };
        let step = self.layout.read(memory);
        if let Some(wrong) = self.layout.mismatch(&step) {
            return Err(Fault::Broken(wrong));
        }
        if !reward.is_finite() {
            return Err(Fault::Broken(format!("its reward is {reward}")));
        }
        (self.asked, self.fresh) = (false, false);
        let is_last = *terminated || *truncated;
        Ok((step, Outcome { is_first: false, is_last, is_terminal: *terminated, reward: *reward }))
    }

    /// Start the process if that is due, and look whether it is ready.
    fn bring_up(&mut self, patience: Duration) -> Result<(), EnvError> {
        let fault = match &mut self.state {
            State::Due(at) if *at <= Instant::now() => match start(&self.setup, self.next_seed()) {
                Ok((child, memory)) => {
                    self.state = State::Starting(child, memory);
                    (self.started, self.fresh) = (Instant::now(), true);
                    return Ok(());
                }
                Err(fault) => fault,
            },
            State::Starting(child, memory) => {
                match child.received(patience).and_then(|hello| hello.as_ref().map(layout).transpose()) {
                    Ok(None) => return Ok(()),
                    Ok(Some(layout)) if layout == self.layout => {
                        let mapped = memory.try_clone().and_then(|memory| Memory::map(memory, layout.size));
                        match (mapped, std::mem::replace(&mut self.state, State::Due(Instant::now()))) {
                            (Ok(memory), State::Starting(mut child, _)) => {
                                child.ask(Request::Map);
                                self.state = State::Up(child, memory);
                                return Ok(());
                            }
                            (Err(error), _) => Fault::Broken(format!("its memory cannot be mapped: {error}")),
                            _ => return Ok(()),
                        }
                    }
                    Ok(Some(_)) => Fault::Broken("its spaces are not those it had before".into()),
                    Err(fault) => fault,
                }
            }
            _ => return Ok(()),
        };
        self.fail(fault, "a new episode waits for it")
    }

    /// Another seed for every process: an episode that led to a fault shall not be repeated.
    fn next_seed(&self) -> u64 {
        self.seed.wrapping_add(u64::from(self.restarts.total()))
    }

    /// The process is of no more use: another one later, or an error if that has happened too often.
    fn fail(&mut self, fault: Fault, so: &str) -> Result<(), EnvError> {
        let what = match fault {
            Fault::NoPython(text) | Fault::Broken(text) | Fault::Refused(text) => text,
            Fault::Missing(package) => format!("Python has no package `{package}`"),
        };
        if let State::Starting(child, _) | State::Up(child, _) = &mut self.state {
            child.kill();
        }
        self.asked = false;
        if self.setup.interrupt.is_set() {
            return Err(EnvError::Restarting { task: self.task.clone() });
        }
        let now = Instant::now();
        let next = self.restarts.next(now, now.duration_since(self.started), self.max_restarts);
        self.state = State::Due(now + next.unwrap_or_default());
        let task = self.task.clone();
        let Some(wait) = next else {
            return Err(EnvError::GaveUp { task, failures: self.max_restarts + 1, what });
        };
        let wait = wait.as_secs_f64();
        tracing::warn!("environment `{task}` failed: {so}, and it is started again in {wait} s\n{what}");
        Ok(())
    }
}

/// The first process of an environment, on its way: several start at the same time.
pub struct Starting {
    task: String,
    setup: Setup,
    seed: u64,
    max_restarts: usize,
    child: Child,
    memory: OwnedFd,
}

impl Starting {
    /// Start a process for `task`.
    pub fn new(task: &str, setup: Setup, seed: u64, max_restarts: usize) -> Result<Self, EnvError> {
        let (child, memory) = start(&setup, seed).map_err(|fault| failed(task, &setup, fault))?;
        Ok(Self { task: task.into(), setup, seed, max_restarts, child, memory })
    }
}

fn start(setup: &Setup, seed: u64) -> Result<(Child, OwnedFd), Fault> {
    let memory = memory::create().map_err(|error| Fault::Broken(format!("no memory to share with it: {error}")))?;
    let child = Child::start(setup, seed, &memory).map_err(|error| {
        Fault::NoPython(match error.kind() {
            std::io::ErrorKind::NotFound => format!("there is no Python `{}`", setup.python),
            _ => format!("Python `{}` cannot be started: {error}", setup.python),
        })
    })?;
    Ok((child, memory))
}

pub(super) fn layout(reply: &Reply) -> Result<Layout, Fault> {
    let Reply::Hello(text) = reply else { return Err(Fault::Broken(format!("it began with {reply:?}"))) };
    let hello: Hello = serde_json::from_slice(text).map_err(|error| Fault::Broken(format!("its hello: {error}")))?;
    Layout::new(&hello).map_err(Fault::Broken)
}

/// A first process that failed, with what to do.
fn failed(task: &str, setup: &Setup, fault: Fault) -> EnvError {
    let (what, help) = match fault {
        Fault::Missing(package) => (
            format!("Python `{}` has no package `{package}`", setup.python),
            match &setup.suite {
                Some(suite) => format!(
                    "install what {} needs with `{} -m pip install {}`, or set `env.python` to a Python that has it",
                    suite.name,
                    setup.python,
                    suite.packages()
                ),
                None => format!(
                    "install it with `{} -m pip install gymnasium numpy`, or as `\"gymnasium[EXTRA]\"` with the extra that the \
                     environment needs (classic-control, box2d, atari, mujoco, …), or set `env.python` to a Python that has it",
                    setup.python
                ),
            },
        ),
        Fault::NoPython(what) => (what, "set `env.python` to a Python 3 that has gymnasium and numpy".into()),
        Fault::Refused(what) => {
            let file = if setup.suite.is_some() { "suites" } else { "environments" };
            (what, format!("Lucid takes what docs/{file}.md lists"))
        }
        Fault::Broken(what) => (what, format!("try it alone: {} -c 'import gymnasium; …'", setup.python)),
    };
    EnvError::Start { task: task.into(), what, help }
}
