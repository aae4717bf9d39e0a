//! The launcher's actors: started with an invitation, watched, started again.

use std::path::Path;
use std::time::{Duration, Instant};

use shared::config::Config;

use super::child::Process;
use super::restart::Restarts;
use crate::RunError;

/// Where an actor is.
enum State {
    /// To be invited from then on.
    Due(Instant),
    /// The learner was asked for a door.
    Invited,
    /// Its process runs.
    Running(Process),
    /// Not to be started again.
    Ended,
}

/// One actor, over all its processes.
struct Slot {
    state: State,
    restarts: Restarts,
}

/// All actors of a run.
pub struct Actors {
    slots: Vec<Slot>,
    max_restarts: usize,
    timeout: f64,
}

impl Actors {
    /// All due at once.
    pub fn new(config: &Config) -> Self {
        let slot = || Slot { state: State::Due(Instant::now()), restarts: Restarts::default() };
        Self {
            slots: (0..config.actor.count.max(1)).map(|_| slot()).collect(),
            max_restarts: config.actor.max_restarts,
            timeout: config.sync.join_timeout,
        }
    }

    /// Actors to be invited now.
    pub fn due(&mut self) -> Vec<u32> {
        let now = Instant::now();
        let due = |(_, slot): &(usize, &mut Slot)| matches!(slot.state, State::Due(at) if at <= now);
        let invite = |(index, slot): (usize, &mut Slot)| {
            slot.state = State::Invited;
            index as u32
        };
        self.slots.iter_mut().enumerate().filter(due).map(invite).collect()
    }

    /// A door is open: start the process.
    pub fn start(&mut self, dir: &Path, token: &str, index: u32, generation: u32, door: &str) -> Result<(), RunError> {
        let timeout = self.timeout;
        let Some(slot) = self.slots.get_mut(index as usize) else { return Ok(()) };
        if matches!(slot.state, State::Invited) {
            let text = |x: &str| x.to_string();
            let mut args = vec![text("actor"), text("--join"), text(door)];
            args.extend([text("--index"), index.to_string(), text("--generation"), generation.to_string()]);
            args.extend([text("--timeout"), timeout.to_string()]);
            slot.state = State::Running(Process::start(dir, &format!("actor-{index}"), &args, token)?);
        }
        Ok(())
    }

    /// The learner did not get this actor: end its process if it still runs, so that it is started again.
    pub fn not_joined(&mut self, index: u32) {
        match self.slots.get_mut(index as usize).map(|slot| &mut slot.state) {
            Some(State::Running(process)) => process.kill(),
            Some(state @ State::Invited) => *state = State::Due(Instant::now() + Duration::from_millis(500)),
            _ => {}
        }
    }

    /// Look after processes that have ended: they are due again after a while. Returns what people should know; an error if one
    /// has died too often.
    pub fn watch(&mut self) -> Result<Vec<String>, RunError> {
        let mut news = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let State::Running(process) = &mut slot.state else { continue };
            let Some(status) = process.ended() else { continue };
            if status.success() {
                // The learner told it to stop, because the run ends (which is about to be told here too) or to be rid of it.
                slot.state = State::Due(Instant::now() + Duration::from_millis(500));
                continue;
            }
            let (pid, log) = (process.pid(), process.log().display());
            let Some(delay) = slot.restarts.next(Instant::now(), process.age(), self.max_restarts) else {
                let lines = process.last_lines();
                return Err(RunError::Child {
                    what: format!(
                        "actor {index} died {} times within a minute; its last lines:{lines}",
                        self.max_restarts + 1
                    ),
                    help: format!("its whole output is in {log}; actor.max_restarts sets how often it may die"),
                });
            };
            let wait = delay.as_secs_f64();
            news.push(format!(
                "actor {index} (process {pid}) ended: {status}; starting it again in {wait} s, see {log}"
            ));
            slot.state = State::Due(Instant::now() + delay);
        }
        Ok(news)
    }

    /// Restarts of one actor.
    pub fn restarts(&self, index: usize) -> u32 {
        self.slots.get(index).map_or(0, |slot| slot.restarts.total())
    }

    /// Whether no process runs; those that have ended are not started again.
    pub fn all_ended(&mut self) -> bool {
        for slot in &mut self.slots {
            let running = match &mut slot.state {
                State::Running(process) => process.ended().is_none(),
                _ => false,
            };
            if !running {
                slot.state = State::Ended;
            }
        }
        self.slots.iter().all(|slot| matches!(slot.state, State::Ended))
    }
}
