//! A host's relay: to its actors the learner, to the gate its actors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, unbounded};
use parking_lot::Mutex;
use shared::wire::{Doorway, LinkReceiver, LinkSender, ToActor, ToLearner, Visitor, WireError};
use zenoh::Session;

use super::HostError;
use super::line::{Listener, Word, send_all};
use super::packet::{pack, unpack};
use super::session::{Ear, Urgency, Way};
use super::store::{Store, Whole};
use super::words::{Answer, Beside, Down, Introduction, Up, key};
use crate::RunError;
use crate::launch::{End, Process, Who};
use crate::report::{complain, counted, say};

/// How often processes are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often an introduction is repeated that nobody has answered.
const AGAIN: Duration = Duration::from_secs(1);
/// How long nobody may answer until people are told, for the first time.
const PATIENCE: Duration = Duration::from_secs(10);
/// What to look at then: a gate says nothing to whom it does not know.
const UNANSWERED: &str = "it is tried on. Does the run go on, does hosts.listen name that address and port, does every firewall let UDP through \
                          (TCP with --plain), and is the token of this run (lucid host token)?";
/// How long an actor that was invited may take to come, and to be welcomed: the encoder may have to come first, over a slow network.
const JOIN: Duration = Duration::from_secs(600);
/// How long the run may say nothing before actors wait, where there is a bound on their lag: three times as long as it ever does.
const HUSH: Duration = Duration::from_secs(3);
/// How long actors may take to end with the run.
const FAREWELL: Duration = Duration::from_secs(15);

/// How long the gate may take to answer a goodbye: what is said before has then arrived too.
const ANSWER: Duration = Duration::from_secs(10);

/// What a relay is started with.
pub struct Relay {
    /// What its host is called.
    pub name: String,
    /// What admits it.
    pub secret: String,
    /// Actors that it is to have.
    pub actors: u32,
    /// Where logs go.
    pub folder: PathBuf,
    /// Where encoders are kept.
    pub cache: PathBuf,
    /// Raised when it is to end.
    pub stop: Arc<AtomicBool>,
    /// Hears what actors say, and when.
    pub tap: Option<Sender<(Instant, ToLearner, Vec<u8>)>>,
}

/// Actors, over all connections.
struct Actors {
    folder: PathBuf,
    token: String,
    /// Tells the gate that it is the same relay that comes again.
    instance: u64,
    processes: BTreeMap<Who, Process>,
}

/// Why a connection ended.
enum Ended {
    /// It broke: the next one is tried.
    Broken(String),
    /// The run has ended, or the relay is to end.
    Over(String),
}

impl Relay {
    /// Serve a run until it ends, over as many connections as it takes.
    pub fn run(&self, session: &Session) -> Result<(), RunError> {
        let token: [u8; 32] = rand::random();
        let token = blake3::Hash::from_bytes(token).to_hex().to_string();
        let mut actors =
            Actors { folder: self.folder.clone(), token, instance: rand::random(), processes: BTreeMap::new() };
        let mut store = Store::new(self.cache.clone());
        loop {
            let ended = self.connection(session, &mut actors, &mut store)?;
            match ended {
                Ended::Broken(why) => {
                    complain(format!("the way to the run is broken: {why}; actors wait, it is tried again"))
                }
                Ended::Over(why) => {
                    actors.see_out();
                    self.say(format!("ended: {why}"));
                    return Ok(());
                }
            }
        }
    }

    /// A recording is of somebody else's business, who prints.
    fn say(&self, line: String) {
        if self.tap.is_none() {
            say(line);
        }
    }

    /// Introduce this host until it is answered, then serve until the connection breaks.
    fn connection(&self, session: &Session, actors: &mut Actors, store: &mut Store) -> Result<Ended, RunError> {
        let (instance, running) = (actors.instance, actors.running());
        let met = introduce(session, &self.name, &self.secret, self.actors, instance, &running, &self.stop)?;
        let Some(Met { up, down, pieces, hold }) = met else {
            // Nobody is there to take what they have.
            actors.processes.clear();
            return Ok(Ended::Over("interrupted".into()));
        };
        self.say(format!("{} is part of the run, with {}", self.name, counted(self.actors.into(), "actor")));
        store.reset();
        let (queue, queued) = unbounded();
        let sending = thread::Builder::new().name("to the gate".into());
        sending.spawn(move || send_all(&up, &queued, || false, || Up::Nothing)).map_err(HostError::Thread)?;
        let mut serving = Serving {
            relay: self,
            actors,
            store,
            queue,
            circuits: Circuits::default(),
            held_up: Vec::new(),
            hold,
            paused: BTreeSet::new(),
            unheard: false,
        };
        Ok(serving.serve(Listener::new(down), &pieces))
    }
}

/// A connection that the gate has welcomed.
pub struct Met {
    /// To the gate.
    pub up: Way,
    /// From the gate, words.
    pub down: Ear,
    /// From the gate, pieces of what is long.
    pub pieces: Ear,
    /// Whether actors are to wait while the run is not heard.
    pub hold: bool,
}

/// Introduce a host to the gate until it is answered; none if it is told to stop before.
pub fn introduce(
    session: &Session,
    name: &str,
    secret: &str,
    actors: u32,
    instance: u64,
    running: &[Who],
    stop: &AtomicBool,
) -> Result<Option<Met>, HostError> {
    let epoch = format!("{:016x}", rand::random::<u64>());
    let ear = |what| Ear::new(session, key(what, &epoch));
    let (answers, down, pieces) = (ear("answer")?, ear("down")?, ear("piece")?);
    let hello = Way::new(session, key("hello", &epoch), Urgency::Words)?;
    let up = Way::new(session, key("up", &epoch), Urgency::Words)?;
    let introduction = Introduction {
        name: name.into(),
        secret: secret.into(),
        binary: env!("CARGO_PKG_VERSION").into(),
        actors,
        instance,
        running: running.to_vec(),
    };
    let words = pack(0, vec![(introduction, Vec::new())]).map_err(HostError::way)?;
    let (since, mut patience) = (Instant::now(), PATIENCE);
    while !stop.load(Ordering::Acquire) {
        hello.send(words.clone())?;
        let Some(bytes) = answers.recv(AGAIN) else {
            if since.elapsed() > patience {
                complain(format!("nobody has answered for {} s; {UNANSWERED}", patience.as_secs()));
                patience *= 4;
            }
            continue;
        };
        let answer = unpack::<Answer>(&bytes).map_err(HostError::way)?;
        match answer.words.into_iter().next() {
            Some((Answer::Refused { reason }, _)) => return Err(HostError::Refused { reason }),
            Some((Answer::Welcome { hold }, _)) if up.is_heard() => return Ok(Some(Met { up, down, pieces, hold })),
            _ => {}
        }
    }
    Ok(None)
}

/// Links of actors that came through their doors, and those that are closing.
type Circuits = Arc<Mutex<BTreeMap<Who, LinkSender<ToActor>>>>;

struct Serving<'a> {
    relay: &'a Relay,
    actors: &'a mut Actors,
    store: &'a mut Store,
    queue: Sender<Word<Up>>,
    circuits: Circuits,
    /// Welcomes that wait for the encoder.
    held_up: Vec<(Who, ToActor, [u8; 32], u64)>,
    /// Whether actors wait while the run is not heard.
    hold: bool,
    /// Actors that the learner has told to pause.
    paused: BTreeSet<Who>,
    /// Whether the run is not heard, and actors wait for that.
    unheard: bool,
}

impl Serving<'_> {
    fn serve(&mut self, mut down: Listener<Down>, pieces: &Ear) -> Ended {
        let (mut leaving, mut goodbye) = (false, None);
        loop {
            match down.recv(TICK) {
                Ok(words) => {
                    for (word, _) in words {
                        if let Some(ended) = self.hear(word) {
                            return ended;
                        }
                    }
                }
                Err(why) => return Ended::Broken(why),
            }
            self.look(down.silent() > HUSH);
            while let Some(bytes) = pieces.recv(Duration::ZERO) {
                if let Err(error) = self.piece(&bytes) {
                    return Ended::Broken(error.to_string());
                }
            }
            for (who, end) in self.actors.ended() {
                self.tell(Up::Ended(who, end));
            }
            if self.relay.stop.load(Ordering::Acquire) && !std::mem::replace(&mut leaving, true) {
                self.relay.say("leaving: actors send what they have; Ctrl-C again ends them at once".into());
                self.tell(Up::Leaving);
            }
            if leaving && self.actors.processes.is_empty() {
                let since = goodbye.get_or_insert_with(|| {
                    self.tell(Up::Goodbye);
                    Instant::now()
                });
                if since.elapsed() > ANSWER {
                    return Ended::Over("left the run, which does not answer".into());
                }
            }
        }
    }

    /// How far actors lag while the run is not heard, nobody knows: they wait, if there is a bound.
    fn look(&mut self, unheard: bool) {
        if !self.hold || unheard == std::mem::replace(&mut self.unheard, unheard) {
            return;
        }
        let all: Vec<Who> = self.circuits.lock().keys().copied().collect();
        for who in all {
            let on = unheard || self.paused.contains(&who);
            self.pass_on(who, |link| link.send(&ToActor::Pause { on }));
        }
    }

    /// A word that cannot be sent is on a line that is broken, which the next look at it says.
    fn tell(&self, word: Up) {
        let _ = self.queue.send((word, Vec::new()));
    }

    fn hear(&mut self, word: Down) -> Option<Ended> {
        match word {
            Down::Beat { sent } => self.tell(Up::Beat { sent }),
            // It has ended, which was told.
            Down::Invite { who, start } if !start && !self.actors.processes.contains_key(&who) => {}
            Down::Invite { who, .. } => {
                if let Err(error) = self.invite(who) {
                    let end = End { how: error.to_string(), code: Some(1), lines: String::new() };
                    self.tell(Up::Ended(who, end));
                }
            }
            Down::Kill(who) => {
                if let Some(process) = self.actors.processes.get_mut(&who) {
                    process.kill();
                }
            }
            Down::Said(who, word, Beside::Encoder { digest, length }) => self.welcome(who, word, digest, length),
            Down::Said(who, word, Beside::Nothing) => {
                match word {
                    ToActor::Pause { on: true } => drop(self.paused.insert(who)),
                    ToActor::Pause { on: false } => drop(self.paused.remove(&who)),
                    _ => {}
                }
                self.pass_on(who, |link| link.send(&word));
            }
            Down::Said(who, word, Beside::Snapshot(version)) => match self.store.snapshot(version) {
                Some(region) => self.pass_on(who, |link| link.send_region(&word, region)),
                None => drop(self.circuits.lock().remove(&who)),
            },
            Down::Closed(who) => {
                self.circuits.lock().remove(&who);
                self.paused.remove(&who);
            }
            Down::Stop { reason } => return Some(Ended::Over(reason)),
        }
        None
    }

    /// Welcome an actor, once the encoder is here.
    fn welcome(&mut self, who: Who, word: ToActor, digest: [u8; 32], length: u64) {
        match self.store.encoder(digest, length) {
            Ok(region) => {
                let region = region.clone();
                self.pass_on(who, |link| link.send_region(&word, &region));
            }
            Err(offset) => {
                if self.held_up.iter().all(|(_, _, waits, _)| *waits != digest) {
                    self.tell(Up::Want { digest, offset });
                }
                self.held_up.push((who, word, digest, length));
            }
        }
    }

    fn pass_on(&self, who: Who, send: impl FnOnce(&LinkSender<ToActor>) -> Result<(), WireError>) {
        let link = self.circuits.lock().get(&who).cloned();
        // One that has gone is noticed by whoever listens to it.
        if let Some(Err(error)) = link.map(|link| send(&link)) {
            tracing::debug!("actor {} does not hear: {error}", who.actor);
        }
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        match self.store.take(bytes)? {
            Some(Whole::Snapshot(version)) => self.tell(Up::Have { version }),
            Some(Whole::Encoder(_)) => {
                for (who, word, digest, length) in std::mem::take(&mut self.held_up) {
                    self.welcome(who, word, digest, length);
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Open a door, and have the process come through it: a new one, or the one that runs.
    fn invite(&mut self, who: Who) -> Result<(), RunError> {
        let door = Doorway::open().map_err(HostError::way)?;
        let pid = self.actors.call(who, door.name())?;
        self.tell(Up::Started(who, pid));
        let (queue, circuits, token) = (self.queue.clone(), self.circuits.clone(), self.actors.token.clone());
        let guest = Guest { who, token, queue, circuits, tap: self.relay.tap.clone() };
        let threads = thread::Builder::new().name(format!("from actor {}", who.actor));
        threads.spawn(move || guest.receive(door)).map(drop).map_err(|e| HostError::Thread(e).into())
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        // Actors see their links closed, and wait for another door.
        self.circuits.lock().clear();
    }
}

/// An actor that was invited.
struct Guest {
    who: Who,
    token: String,
    queue: Sender<Word<Up>>,
    circuits: Circuits,
    tap: Option<Sender<(Instant, ToLearner, Vec<u8>)>>,
}

impl Guest {
    /// Wait for it, and pass on what it says until its link is closed.
    fn receive(self, door: Doorway) {
        let visitor: Visitor<ToLearner, ToActor> = match door.accept(JOIN) {
            Ok(visitor) => visitor,
            Err(error) => return complain(format!("actor {} did not come: {error}", self.who.actor)),
        };
        let ToLearner::Hello(hello) = visitor.first else { return };
        if hello.token != self.token {
            return complain(format!(
                "a stranger (process {}) came to the door of actor {}",
                hello.pid, self.who.actor
            ));
        }
        self.circuits.lock().insert(self.who, visitor.sender);
        self.tell(ToLearner::Hello(hello), Vec::new());
        self.listen(&visitor.receiver);
        self.circuits.lock().remove(&self.who);
        let _ = self.queue.send((Up::Closed(self.who), Vec::new()));
    }

    fn listen(&self, receiver: &LinkReceiver<ToLearner>) {
        loop {
            if !self.circuits.lock().contains_key(&self.who) {
                return;
            }
            match receiver.recv_timeout(TICK) {
                Ok(incoming) => self.tell(incoming.message, incoming.bulk.as_ref().to_vec()),
                Err(WireError::Timeout { .. }) => {}
                Err(_) => return,
            }
        }
    }

    fn tell(&self, word: ToLearner, beside: Vec<u8>) {
        if let Some(tap) = &self.tap {
            let _ = tap.send((Instant::now(), word.clone(), beside.clone()));
        }
        let _ = self.queue.send((Up::Said(self.who, word), beside));
    }
}

impl Actors {
    fn running(&mut self) -> Vec<Who> {
        self.processes.keys().copied().collect()
    }

    /// Tell a process of a door: it is started if it does not run. Returns its id.
    fn call(&mut self, who: Who, door: &str) -> Result<u32, RunError> {
        if let Some(process) = self.processes.get_mut(&who) {
            process.tell(door);
            return Ok(process.pid());
        }
        let text = |x: &str| x.to_string();
        let mut args = vec![text("actor"), text("--join"), text(door), text("--index"), who.actor.to_string()];
        args.extend([text("--generation"), who.generation.to_string()]);
        args.extend([text("--timeout"), JOIN.as_secs().to_string()]);
        let process = Process::start(&self.folder, &actor::name(who.actor), &args, &self.token)?;
        let pid = process.pid();
        self.processes.insert(who, process);
        Ok(pid)
    }

    /// Those that have ended since this was asked last.
    fn ended(&mut self) -> Vec<(Who, End)> {
        let mut ended = Vec::new();
        self.processes.retain(|who, process| {
            let Some(status) = process.ended() else { return true };
            let lines = if status.success() { String::new() } else { process.last_lines() };
            ended.push((*who, End { how: status.to_string(), code: status.code(), lines }));
            false
        });
        ended
    }

    /// Wait until all have ended, and end those that do not.
    fn see_out(&mut self) {
        let deadline = Instant::now() + FAREWELL;
        while !self.processes.is_empty() && Instant::now() < deadline {
            self.ended();
            thread::sleep(TICK);
        }
        self.processes.clear();
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::pair;

    use super::*;

    #[test]
    fn actors_with_a_bound_on_their_lag_wait_while_the_run_is_not_heard() {
        let stop = Arc::default();
        let (folder, cache) = (PathBuf::from("/nowhere"), PathBuf::from("/nowhere"));
        let relay = Relay { name: "far".into(), secret: String::new(), actors: 2, folder, cache, stop, tap: None };
        let actors =
            &mut Actors { folder: "/nowhere".into(), token: String::new(), instance: 0, processes: BTreeMap::new() };
        let (queue, _queued) = unbounded();
        let mut serving = Serving {
            relay: &relay,
            actors,
            store: &mut Store::new("/nowhere".into()),
            queue,
            circuits: Circuits::default(),
            held_up: Vec::new(),
            hold: true,
            paused: BTreeSet::new(),
            unheard: false,
        };
        let all = [0, 1].map(|actor| Who { actor, generation: 0 });
        let ends = all.map(|who| {
            let (sender, receiver) = pair().unwrap();
            serving.circuits.lock().insert(who, sender);
            receiver
        });
        // The second one is told to by the learner, too.
        serving.hear(Down::Said(all[1], ToActor::Pause { on: true }, Beside::Nothing));
        for unheard in [false, true, true, false] {
            serving.look(unheard);
        }
        serving.hear(Down::Said(all[1], ToActor::Pause { on: false }, Beside::Nothing));
        let heard = ends.map(|end: LinkReceiver<ToActor>| {
            serving.circuits.lock().clear();
            std::iter::from_fn(|| end.recv().ok().map(|incoming| incoming.message)).collect::<Vec<_>>()
        });
        let [on, off] = [true, false].map(|on| ToActor::Pause { on });
        assert_eq!(heard, [vec![on.clone(), off.clone()], vec![on.clone(), on.clone(), on, off]]);
    }
}
