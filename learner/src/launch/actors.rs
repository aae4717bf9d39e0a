//! The launcher's actors: started with an invitation, watched, started again.

use std::path::Path;
use std::time::{Duration, Instant};

use actor::Restarts;
use shared::config::Config;
use shared::metrics::ActorReport;

use super::HOPELESS;
use super::child::Process;
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
    /// Whether there shall be such an actor.
    wanted: bool,
    /// Whether the process that runs has joined.
    joined: bool,
    /// Generation of that process.
    generation: u32,
    /// Whether that process waits for a door of another learner.
    orphan: bool,
    /// When it was asked to end, because it is no longer wanted.
    dismissed: Option<Instant>,
    restarts: Restarts,
}

impl Slot {
    fn due() -> Self {
        let (state, restarts) = (State::Due(Instant::now()), Restarts::default());
        Self { state, wanted: true, joined: false, generation: 0, orphan: false, dismissed: None, restarts }
    }
}

/// How often one that is not wanted is asked to end: it may not have joined yet.
const AGAIN: Duration = Duration::from_millis(300);

/// All actors of a run.
pub struct Actors {
    slots: Vec<Slot>,
    max_restarts: usize,
    timeout: f64,
    /// When actors were last asked to end.
    asked: Instant,
}

impl Actors {
    /// All due at once.
    pub fn new(config: &Config) -> Self {
        Self {
            slots: (0..config.actor.count.max(1)).map(|_| Slot::due()).collect(),
            max_restarts: config.actor.max_restarts,
            timeout: config.sync.join_timeout,
            asked: Instant::now(),
        }
    }

    /// Have so many from now on: more are due at once, those beyond are to be dismissed.
    pub fn scale(&mut self, count: usize) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            slot.wanted = index < count;
            match slot.state {
                State::Ended if slot.wanted => {
                    *slot = Slot { restarts: std::mem::take(&mut slot.restarts), ..Slot::due() }
                }
                State::Due(_) if !slot.wanted => slot.state = State::Ended,
                _ => {}
            }
        }
        self.slots.resize_with(self.slots.len().max(count), Slot::due);
    }

    /// How many there shall be.
    pub fn wanted(&self) -> usize {
        self.slots.iter().filter(|slot| slot.wanted).count()
    }

    /// Whether those that shall be there have joined, and no other runs.
    pub fn settled(&self) -> bool {
        let settled = |slot: &Slot| match slot.state {
            State::Running(_) => slot.wanted && slot.joined,
            State::Ended => !slot.wanted,
            _ => false,
        };
        self.slots.iter().all(settled)
    }

    /// Actors to be asked now to send what they have and end. One that does not is ended after the join timeout.
    pub fn unwanted(&mut self) -> Vec<u32> {
        let patience = Duration::try_from_secs_f64(self.timeout).unwrap_or(Duration::from_secs(60));
        let mut asked = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate().filter(|(_, slot)| !slot.wanted) {
            let State::Running(process) = &mut slot.state else { continue };
            let (now, first) = (Instant::now(), slot.dismissed.is_none());
            let since = *slot.dismissed.get_or_insert(now);
            if now.duration_since(since) > patience {
                process.kill();
            } else if first || now.duration_since(self.asked) > AGAIN {
                asked.push(index as u32);
            }
        }
        if !asked.is_empty() {
            self.asked = Instant::now();
        }
        asked
    }

    /// The learner has died: those that run are to be let in by the next one.
    pub fn orphan(&mut self) {
        for slot in &mut self.slots {
            slot.joined = false;
            match slot.state {
                State::Running(_) => slot.orphan = true,
                State::Invited => slot.state = State::Due(Instant::now()),
                State::Due(_) | State::Ended => {}
            }
        }
    }

    /// Actors, with their generations, whose processes are to be let in by another learner.
    pub fn take_orphans(&mut self) -> Vec<(u32, u32)> {
        let orphan = |(index, slot): (usize, &mut Slot)| {
            std::mem::take(&mut slot.orphan).then_some((index as u32, slot.generation))
        };
        self.slots.iter_mut().enumerate().filter_map(orphan).collect()
    }

    /// An actor came through its door.
    pub fn joined(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.joined = true;
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

    /// A door is open: start the process, or tell the one that runs.
    pub fn start(&mut self, dir: &Path, token: &str, index: u32, generation: u32, door: &str) -> Result<(), RunError> {
        let timeout = self.timeout;
        let Some(slot) = self.slots.get_mut(index as usize) else { return Ok(()) };
        if let State::Running(process) = &mut slot.state {
            if slot.generation == generation {
                process.tell(door);
            }
        } else if !slot.wanted {
            slot.state = State::Ended;
        } else if matches!(slot.state, State::Invited) {
            (slot.joined, slot.dismissed, slot.generation) = (false, None, generation);
            let text = |x: &str| x.to_string();
            let mut args = vec![text("actor"), text("--join"), text(door)];
            args.extend([text("--index"), index.to_string(), text("--generation"), generation.to_string()]);
            args.extend([text("--timeout"), timeout.to_string()]);
            slot.state = State::Running(Process::start(dir, &format!("actor-{index}"), &args, token)?);
        }
        Ok(())
    }

    /// The learner did not get this process of an actor, or has cut its link: end it if it still runs, so that the actor is started again.
    pub fn lost(&mut self, index: u32, generation: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        match &mut slot.state {
            State::Running(process) if slot.generation == generation => process.kill(),
            State::Invited if slot.wanted => slot.state = State::Due(Instant::now() + Duration::from_millis(500)),
            State::Invited => slot.state = State::Ended,
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
            slot.joined = false;
            if !slot.wanted {
                if !status.success() {
                    let (pid, log) = (process.pid(), process.log().display());
                    news.push(format!("actor {index} (process {pid}), no longer wanted, ended: {status}, see {log}"));
                }
                slot.state = State::Ended;
                continue;
            }
            if status.success() {
                // The learner told it to stop, because the run ends (which is about to be told here too) or to be rid of it.
                slot.state = State::Due(Instant::now() + Duration::from_millis(500));
                continue;
            }
            if status.code() == Some(HOPELESS) {
                return Err(RunError::Child {
                    what: format!("actor {index} gave up; its last lines:{}", process.last_lines()),
                    help: format!("its whole output is in {}", process.log().display()),
                });
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

    /// Add what the learner does not know to its rows: how often actors were restarted, and a row without a process for each that is
    /// being restarted.
    pub fn complete(&self, rows: &mut Vec<ActorReport>) {
        for (index, slot) in self.slots.iter().enumerate() {
            let restarts = slot.restarts.total();
            match rows.iter_mut().find(|row| row.index == index) {
                Some(row) => row.restarts = restarts,
                None if slot.wanted && restarts > 0 => rows.push(ActorReport { index, restarts, ..Default::default() }),
                None => {}
            }
        }
        rows.sort_by_key(|row| row.index);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_that_is_being_restarted_keeps_its_row() {
        let mut actors = Actors::new(&Config::load(&["dummy"], &["actor.count=4".to_string()]).unwrap());
        let row = |index| ActorReport { index, pid: 7, ..Default::default() };
        let shown = |actors: &Actors| {
            // Actor 3 has not joined yet, and the learner has lost actor 1.
            let mut rows = vec![row(0), row(2)];
            actors.complete(&mut rows);
            rows.iter().map(|row| (row.index, row.pid, row.restarts)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&actors), [(0, 7, 0), (2, 7, 0)]);
        for index in [1, 2] {
            actors.slots[index].restarts.next(Instant::now(), Duration::ZERO, 9).unwrap();
        }
        assert_eq!(shown(&actors), [(0, 7, 0), (1, 0, 1), (2, 7, 1)]);
        actors.scale(1);
        assert_eq!(shown(&actors), [(0, 7, 0), (2, 7, 1)], "one that is not wanted does not come back");
    }
}
