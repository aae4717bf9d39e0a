//! The launcher's evaluation actor: started with an invitation, watched, started again. The run goes on without it.

use std::path::Path;
use std::time::{Duration, Instant};

use actor::Restarts;
use shared::config::Config;

use super::child::Process;
use crate::RunError;
use crate::evaluation::EVALUATION_ACTOR;

/// Until it is invited again, after nobody came.
const AGAIN: Duration = Duration::from_millis(500);

/// Where it is.
enum State {
    /// To be invited from then on.
    Due(Instant),
    /// The learner was asked for a door.
    Invited,
    /// Its process runs, and came or comes through the door of this name.
    Running(Process, String),
    /// Not to be started again.
    Ended,
}

/// The evaluation actor, over all its processes.
pub struct Evaluator {
    state: State,
    restarts: Restarts,
    max_restarts: usize,
    timeout: f64,
}

impl Evaluator {
    /// Due at once where the config asks for evaluations, else never.
    pub fn new(config: &Config) -> Self {
        Self {
            state: if config.eval.every > 0 { State::Due(Instant::now()) } else { State::Ended },
            restarts: Restarts::default(),
            max_restarts: config.actor.max_restarts,
            timeout: config.sync.join_timeout,
        }
    }

    /// Whether it is to be invited now.
    pub fn due(&mut self) -> bool {
        let due = matches!(self.state, State::Due(at) if at <= Instant::now());
        if due {
            self.state = State::Invited;
        }
        due
    }

    /// The learner has died: one that was to be invited is to be invited by the next learner.
    pub fn orphan(&mut self) {
        if matches!(self.state, State::Invited) {
            self.state = State::Due(Instant::now());
        }
    }

    /// A door is open: start the process.
    pub fn start(&mut self, dir: &Path, token: &str, door: &str) -> Result<(), RunError> {
        if matches!(self.state, State::Invited) {
            let (run, timeout) = (dir.to_string_lossy(), self.timeout.to_string());
            let args = ["evaluator", "--run", &run, "--join", door, "--timeout", &timeout].map(String::from);
            self.state = State::Running(Process::start(dir, EVALUATION_ACTOR, &args, token)?, door.into());
        }
        Ok(())
    }

    /// Nobody came through a door, no door was opened, or the link of who came is cut: end the process, if it still runs, so that it is
    /// started again. False if another has come meanwhile.
    pub fn lost(&mut self, door: &str) -> bool {
        match &mut self.state {
            State::Running(process, own) if own == door => process.kill(),
            State::Invited if door.is_empty() => self.state = State::Due(Instant::now() + AGAIN),
            _ => return false,
        }
        true
    }

    /// Look after a process that has ended: it is due again after a while, unless it has died too often. Returns what people
    /// should know.
    pub fn watch(&mut self) -> Option<String> {
        let State::Running(process, _) = &mut self.state else { return None };
        let status = process.ended()?;
        if status.success() {
            // The learner told it to stop, because the run ends, which is about to be told here too.
            self.state = State::Due(Instant::now() + AGAIN);
            return None;
        }
        let (pid, log) = (process.pid(), process.log().display());
        let delay = self.restarts.next(Instant::now(), process.age(), self.max_restarts);
        let news = match delay {
            Some(delay) => {
                let wait = delay.as_secs_f64();
                format!("evaluation actor (process {pid}) ended: {status}; starting it again in {wait} s, see {log}")
            }
            None => format!(
                "the evaluation actor died {} times within a minute: no more evaluations in this run until it is resumed, see {log}; \
                 its last lines:{}",
                self.max_restarts + 1,
                process.last_lines()
            ),
        };
        self.state = delay.map_or(State::Ended, |delay| State::Due(Instant::now() + delay));
        Some(news)
    }

    /// How often it was started again.
    pub fn restarts(&self) -> u32 {
        self.restarts.total()
    }

    /// Whether no process runs; one that has ended is not started again.
    pub fn ended(&mut self) -> bool {
        let running = match &mut self.state {
            State::Running(process, _) => process.ended().is_none(),
            _ => false,
        };
        if !running {
            self.state = State::Ended;
        }
        !running
    }
}
