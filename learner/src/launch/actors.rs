//! The launcher's actors: started with an invitation, watched, started again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use actor::Restarts;
use shared::config::Config;
use shared::metrics::{ActorReport, HostReport};
use shared::wire::LinkSender;

use super::HOPELESS;
use super::child::Process;
use super::hosts::{End, HostOrder, Remote, Who};
use super::runner::Runner;
use crate::RunError;

/// Where an actor is.
enum State {
    /// To be invited from then on.
    Due(Instant),
    /// The learner was asked for a door.
    Invited,
    /// Its process runs.
    Running(Runner),
    /// Not to be started again.
    Ended,
}

/// One actor, over all its processes.
struct Slot {
    state: State,
    /// Which other host it is on, if it is not here.
    host: Option<String>,
    /// Whether there shall be such an actor.
    wanted: bool,
    /// Whether the process that runs has joined.
    joined: bool,
    /// Generation of that process.
    generation: u32,
    /// Whether that process waits for a door of another learner, or has lost its way to this one.
    orphan: bool,
    /// The learner's door that it was told of last; none once it is to be told of another: a process on another host may be told of one,
    /// lose its way, and be told of the next before the learner gives up the first.
    door: Option<String>,
    /// When it was asked to end, because it is no longer wanted.
    dismissed: Option<Instant>,
    restarts: Restarts,
}

impl Slot {
    fn due() -> Self {
        let (state, restarts) = (State::Due(Instant::now()), Restarts::default());
        let (joined, orphan, generation, door) = (false, false, 0, None);
        Self { state, host: None, wanted: true, joined, generation, orphan, door, dismissed: None, restarts }
    }

    fn due_on(host: &str) -> Self {
        Self { host: Some(host.into()), ..Self::due() }
    }
}

/// How often one that is not wanted is asked to end: it may not have joined yet.
const AGAIN: Duration = Duration::from_millis(300);

/// Indices from the first of one host to the first of the next; those before the first host's are here.
const PER_HOST: u32 = 10_000;

/// Whether an actor of this index is on the learner's own host.
pub fn is_here(actor: u32) -> bool {
    actor < PER_HOST
}

/// A host that has taken part.
struct HostState {
    name: String,
    /// The way to it, while it is there.
    orders: Option<LinkSender<HostOrder>>,
    /// Since when it has been away.
    away: Option<Instant>,
}

/// All actors of a run, by index.
pub struct Actors {
    slots: BTreeMap<u32, Slot>,
    /// In the order in which they came first: the first one's actors begin at [`PER_HOST`].
    hosts: Vec<HostState>,
    max_restarts: usize,
    timeout: f64,
    /// How long a host may be away before its actors are given up.
    host_timeout: f64,
    /// When actors were last asked to end.
    asked: Instant,
}

impl Actors {
    /// All due at once.
    pub fn new(config: &Config) -> Self {
        Self {
            slots: (0..config.actor.count.max(1) as u32).map(|index| (index, Slot::due())).collect(),
            hosts: Vec::new(),
            max_restarts: config.actor.max_restarts,
            timeout: config.sync.join_timeout,
            host_timeout: config.hosts.timeout,
            asked: Instant::now(),
        }
    }

    /// Have so many here from now on: more are due at once, those beyond are to be dismissed.
    pub fn scale(&mut self, count: usize) {
        for (index, slot) in self.slots.range_mut(..PER_HOST) {
            slot.wanted = (*index as usize) < count;
            match slot.state {
                State::Ended if slot.wanted => {
                    *slot = Slot { restarts: std::mem::take(&mut slot.restarts), ..Slot::due() }
                }
                State::Due(_) if !slot.wanted => slot.state = State::Ended,
                _ => {}
            }
        }
        for index in 0..(count as u32).min(PER_HOST) {
            self.slots.entry(index).or_insert_with(Slot::due);
        }
    }

    /// How many there shall be here.
    pub fn wanted(&self) -> usize {
        self.slots.range(..PER_HOST).filter(|(_, slot)| slot.wanted).count()
    }

    /// Whether those that shall be there have joined, and no other runs.
    pub fn settled(&self) -> bool {
        let settled = |slot: &Slot| match slot.state {
            State::Running(_) => slot.wanted && slot.joined,
            State::Ended => !slot.wanted,
            _ => false,
        };
        self.slots.range(..PER_HOST).all(|(_, slot)| settled(slot))
    }

    /// Actors to be asked now to send what they have and end. One that does not is ended after the join timeout.
    pub fn unwanted(&mut self) -> Vec<u32> {
        let patience = Duration::try_from_secs_f64(self.timeout).unwrap_or(Duration::from_secs(60));
        let mut asked = Vec::new();
        for (index, slot) in self.slots.iter_mut().filter(|(_, slot)| !slot.wanted) {
            let State::Running(process) = &mut slot.state else { continue };
            let (now, first) = (Instant::now(), slot.dismissed.is_none());
            let since = *slot.dismissed.get_or_insert(now);
            if now.duration_since(since) > patience {
                process.kill();
            } else if first || now.duration_since(self.asked) > AGAIN {
                asked.push(*index);
            }
        }
        if !asked.is_empty() {
            self.asked = Instant::now();
        }
        asked
    }

    /// The learner has died: those that run are to be let in by the next one.
    pub fn orphan(&mut self) {
        for slot in self.slots.values_mut() {
            (slot.joined, slot.door) = (false, None);
            match slot.state {
                State::Running(_) => slot.orphan = true,
                State::Invited => slot.state = State::Due(Instant::now()),
                State::Due(_) | State::Ended => {}
            }
        }
    }

    /// Actors, with their generations, whose processes are to be let in by another learner.
    pub fn take_orphans(&mut self) -> Vec<(u32, u32)> {
        let hosts = &self.hosts;
        let orphan = |(index, slot): (&u32, &mut Slot)| {
            let waits = is_reached(hosts, *index) && std::mem::take(&mut slot.orphan);
            if waits {
                slot.door = None;
            }
            waits.then_some((*index, slot.generation))
        };
        self.slots.iter_mut().filter_map(orphan).collect()
    }

    /// An actor came through its door.
    pub fn joined(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(&index) {
            slot.joined = true;
        }
    }

    /// Actors to be invited now.
    pub fn due(&mut self) -> Vec<u32> {
        let now = Instant::now();
        let hosts = &self.hosts;
        let due = |(index, slot): &(&u32, &mut Slot)| {
            is_reached(hosts, **index) && matches!(slot.state, State::Due(at) if at <= now)
        };
        let invite = |(index, slot): (&u32, &mut Slot)| {
            slot.state = State::Invited;
            *index
        };
        self.slots.iter_mut().filter(due).map(invite).collect()
    }

    /// A door is open: start the process, or tell the one that runs.
    pub fn start(&mut self, dir: &Path, token: &str, index: u32, generation: u32, door: &str) -> Result<(), RunError> {
        let timeout = self.timeout;
        let orders = host_number(index).and_then(|number| self.hosts[number].orders.clone());
        let Some(slot) = self.slots.get_mut(&index) else { return Ok(()) };
        if let State::Running(process) = &mut slot.state {
            if slot.generation == generation {
                slot.door = Some(door.into());
                process.tell(door);
            }
        } else if !slot.wanted {
            slot.state = State::Ended;
        } else if matches!(slot.state, State::Invited) {
            (slot.joined, slot.dismissed, slot.generation, slot.door) = (false, None, generation, Some(door.into()));
            if let Some(host) = &slot.host {
                slot.state = match orders {
                    Some(orders) => {
                        let who = Who { actor: index, generation };
                        State::Running(Runner::There(Remote::start(host, who, door, &orders)))
                    }
                    // It has gone meanwhile.
                    None => State::Due(Instant::now()),
                };
                return Ok(());
            }
            let text = |x: &str| x.to_string();
            let mut args = vec![text("actor"), text("--join"), text(door)];
            args.extend([text("--index"), index.to_string(), text("--generation"), generation.to_string()]);
            args.extend([text("--timeout"), timeout.to_string()]);
            slot.state = State::Running(Runner::Here(Process::start(dir, &actor::name(index), &args, token)?));
        }
        Ok(())
    }

    /// The learner's link to this process of an actor is closed. One that runs here is ended, so that the actor is started again; one on
    /// another host may only have lost its way, and is let in again.
    pub fn lost(&mut self, index: u32, generation: u32, door: &str) {
        let Some(slot) = self.slots.get_mut(&index) else { return };
        match &mut slot.state {
            State::Running(Runner::There(_)) if slot.door.as_deref() == Some(door) => {
                (slot.orphan, slot.joined) = (slot.wanted, false);
            }
            // It came, or is to come, through another door.
            State::Running(Runner::There(_)) => {}
            State::Running(runner) if slot.generation == generation => runner.kill(),
            _ => {}
        }
    }

    /// This process of an actor did not come through a door of the learner's: it is ended if it still runs, so that the actor is started
    /// again, unless it came, or is to come, through another one. Returns whether it does not take part now.
    pub fn not_joined(&mut self, index: u32, generation: u32, door: &str) -> bool {
        let away = !is_reached(&self.hosts, index);
        let Some(slot) = self.slots.get_mut(&index) else { return false };
        let other = slot.door.as_deref().is_none_or(|told| told != door);
        match &mut slot.state {
            State::Running(Runner::There(_)) if away || slot.joined || slot.orphan || other => return false,
            State::Running(runner) if slot.generation == generation => runner.kill(),
            State::Invited if slot.wanted => slot.state = State::Due(Instant::now() + Duration::from_millis(500)),
            State::Invited => slot.state = State::Ended,
            _ => return false,
        }
        true
    }

    /// Look after processes that have ended: they are due again after a while. Returns what people should know; an error if one
    /// has died too often.
    pub fn watch(&mut self) -> Result<Vec<String>, RunError> {
        let mut news = self.give_up_hosts();
        for (index, slot) in &mut self.slots {
            let State::Running(runner) = &mut slot.state else { continue };
            let Some(end) = runner.ended() else { continue };
            let (pid, log, how) = (runner.pid(), runner.log(&actor::name(*index)), &end.how);
            (slot.joined, slot.orphan) = (false, false);
            if !slot.wanted {
                if end.code != Some(0) {
                    news.push(format!("actor {index} (process {pid}), no longer wanted, ended: {how}, see {log}"));
                }
                slot.state = State::Ended;
                continue;
            }
            if end.code == Some(0) {
                // The learner told it to stop, because the run ends (which is about to be told here too) or to be rid of it.
                slot.state = State::Due(Instant::now() + Duration::from_millis(500));
                continue;
            }
            let lines = &end.lines;
            if end.code == Some(HOPELESS) {
                return Err(RunError::Child {
                    what: format!("actor {index} gave up; its last lines:{lines}"),
                    help: format!("its whole output is in {log}"),
                });
            }
            let Some(delay) = slot.restarts.next(Instant::now(), runner.age(), self.max_restarts) else {
                let times = self.max_restarts + 1;
                return Err(RunError::Child {
                    what: format!("actor {index} died {times} times within a minute; its last lines:{lines}"),
                    help: format!("its whole output is in {log}; actor.max_restarts sets how often it may die"),
                });
            };
            let wait = delay.as_secs_f64();
            news.push(format!("actor {index} (process {pid}) ended: {how}; starting it again in {wait} s, see {log}"));
            slot.state = State::Due(Instant::now() + delay);
        }
        Ok(news)
    }

    /// Actors of hosts that have been away for too long are not waited for any more.
    fn give_up_hosts(&mut self) -> Vec<String> {
        let mut news = Vec::new();
        let limit = Duration::try_from_secs_f64(self.host_timeout).unwrap_or(Duration::MAX);
        for (number, host) in self.hosts.iter_mut().enumerate() {
            if host.away.take_if(|since| since.elapsed() > limit).is_some() {
                let name = &host.name;
                news.push(format!("host {name} has been away for {} s: its actors are given up", limit.as_secs()));
                for (_, slot) in self.slots.range_mut(indices(number)) {
                    (slot.wanted, slot.orphan, slot.state) = (false, false, State::Ended);
                }
            }
        }
        news
    }

    /// Add what the learner does not know to its rows: how often actors were restarted, and a row without a process for each that is
    /// being restarted.
    pub fn complete(&self, rows: &mut Vec<ActorReport>) {
        for (index, slot) in &self.slots {
            let (index, restarts, host) = (*index as usize, slot.restarts.total(), slot.host.clone());
            match rows.iter_mut().find(|row| row.index == index) {
                Some(row) => (row.restarts, row.host) = (restarts, host),
                None if slot.wanted && (restarts > 0 || slot.orphan) => {
                    rows.push(ActorReport { index, restarts, host, ..Default::default() });
                }
                None => {}
            }
        }
        rows.sort_by_key(|row| row.index);
    }

    /// A row for each other host: what the gate says of those that are there, and for how long the others have been away.
    pub fn hosts(&self, told: &[HostReport]) -> Vec<HostReport> {
        let row = |host: &HostState| match (host.away, told.iter().find(|row| row.name == host.name)) {
            (None, Some(row)) => row.clone(),
            (away, _) => HostReport {
                name: host.name.clone(),
                away: away.map(|since| since.elapsed().as_secs_f64()),
                ..HostReport::default()
            },
        };
        self.hosts.iter().filter(|host| host.orders.is_some() || host.away.is_some()).map(row).collect()
    }

    /// Whether no process runs; those that have ended are not started again.
    pub fn all_ended(&mut self) -> bool {
        for slot in self.slots.values_mut() {
            let running = match &mut slot.state {
                // Those on other hosts are seen out by their relays.
                State::Running(Runner::Here(process)) => process.ended().is_none(),
                _ => false,
            };
            if !running {
                slot.state = State::Ended;
            }
        }
        self.slots.values().all(|slot| matches!(slot.state, State::Ended))
    }

    /// A host is there, or back. Returns processes that run there and are to be ended: nobody knows them here.
    pub fn host_came(&mut self, name: &str, count: u32, running: &[Who], orders: &LinkSender<HostOrder>) -> Vec<Who> {
        let number = self.hosts.iter().position(|host| host.name == name).unwrap_or(self.hosts.len());
        let state = HostState { name: name.into(), orders: Some(orders.clone()), away: None };
        match self.hosts.get_mut(number) {
            Some(host) => *host = state,
            None => self.hosts.push(state),
        }
        let all = indices(number);
        for index in all.start..all.start + count.min(PER_HOST) {
            let slot = self.slots.entry(index).or_insert_with(|| Slot::due_on(name));
            if matches!(slot.state, State::Ended) {
                *slot = Slot { restarts: std::mem::take(&mut slot.restarts), ..Slot::due_on(name) };
            }
        }
        let mut known = Vec::new();
        for (index, slot) in self.slots.range_mut(all.clone()) {
            slot.wanted = index - all.start < count;
            let who = Who { actor: *index, generation: slot.generation };
            match &mut slot.state {
                State::Running(Runner::There(remote)) if running.contains(&who) => {
                    known.push(who);
                    remote.is_reached_by(orders);
                    (slot.orphan, slot.joined) = (true, false);
                }
                State::Running(runner) => {
                    if let Runner::There(remote) = runner {
                        let how = "it ended while its host was away".into();
                        remote.ends(End { how, code: None, lines: String::new() });
                    }
                }
                State::Invited => slot.state = State::Due(Instant::now()),
                State::Due(_) | State::Ended => {}
            }
        }
        running.iter().filter(|who| !known.contains(who)).copied().collect()
    }

    /// A host is away. Returns whether it has actors: they wait for it, and so does the run, for a while.
    pub fn host_gone(&mut self, name: &str) -> bool {
        self.hosts.iter().position(|host| host.name == name).is_some_and(|number| self.gone(number))
    }

    fn gone(&mut self, number: usize) -> bool {
        let waits = |slot: &mut Slot| match &mut slot.state {
            State::Running(runner) => slot.wanted || runner.ended().is_none(),
            _ => slot.wanted,
        };
        let waited_for = self.slots.range_mut(indices(number)).any(|(_, slot)| waits(slot));
        let host = &mut self.hosts[number];
        (host.orders, host.away) = (None, waited_for.then(Instant::now));
        waited_for
    }

    /// All hosts are away: the gate has gone.
    pub fn hosts_gone(&mut self) {
        for number in 0..self.hosts.len() {
            if self.hosts[number].orders.is_some() {
                self.gone(number);
            }
        }
    }

    /// A host is to leave: its actors are dismissed.
    pub fn host_leaves(&mut self, name: &str) {
        for slot in self.slots.values_mut().filter(|slot| slot.host.as_deref() == Some(name)) {
            slot.wanted = false;
            if matches!(slot.state, State::Due(_)) {
                slot.state = State::Ended;
            }
        }
    }

    /// A process on another host runs.
    pub fn host_started(&mut self, who: Who, pid: u32) {
        if let Some(remote) = self.remote(who) {
            remote.runs(pid);
        }
    }

    /// A process on another host has ended.
    pub fn host_ended(&mut self, who: Who, end: End) {
        if let Some(remote) = self.remote(who) {
            remote.ends(end);
        }
    }

    fn remote(&mut self, who: Who) -> Option<&mut Remote> {
        let slot = self.slots.get_mut(&who.actor).filter(|slot| slot.generation == who.generation)?;
        match &mut slot.state {
            State::Running(Runner::There(remote)) => Some(remote),
            _ => None,
        }
    }
}

/// Which host, in the order of [`Actors::hosts`], an actor is on; none if it is here.
fn host_number(index: u32) -> Option<usize> {
    (index / PER_HOST).checked_sub(1).map(|number| number as usize)
}

/// Whether an actor is here, or its host is.
fn is_reached(hosts: &[HostState], index: u32) -> bool {
    host_number(index).is_none_or(|number| hosts[number].orders.is_some())
}

/// Of a host's actors.
fn indices(number: usize) -> std::ops::Range<u32> {
    let first = PER_HOST.saturating_mul(number as u32 + 1);
    first..first.saturating_add(PER_HOST)
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
            actors.slots.get_mut(&index).unwrap().restarts.next(Instant::now(), Duration::ZERO, 9).unwrap();
        }
        assert_eq!(shown(&actors), [(0, 7, 0), (1, 0, 1), (2, 7, 1)]);
        actors.scale(1);
        assert_eq!(shown(&actors), [(0, 7, 0), (2, 7, 1)], "one that is not wanted does not come back");
    }
}
