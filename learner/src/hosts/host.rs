//! One connection of a host, at the gate: its actors' links to the learner, and the way to its relay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, unbounded};
use parking_lot::Mutex;
use shared::metrics::HostReport;
use shared::wire::{
    Bulk, Hello, Incoming, LinkReceiver, LinkSender, SharedMemory, ToActor, ToLearner, WireError, knock,
};
use zenoh::Session;

use super::HostError;
use super::freight::Freight;
use super::line::{Listener, Word, send_all};
use super::session::{Ear, Urgency, Way};
use super::words::{Beside, Down, Introduction, Up, key};
use crate::launch::{HostNotice, Who};
use crate::threads::spawn;

/// How often a thread looks whether what it serves is still there.
const TICK: Duration = Duration::from_millis(50);

/// What the gate has on its own host.
#[derive(Clone)]
pub struct Local {
    /// The run's secret.
    pub token: String,
    /// To the launcher.
    pub notices: LinkSender<HostNotice>,
    /// The frozen encoder.
    pub encoder: Arc<Encoder>,
}

/// The frozen encoder's region, which the learner sends with each welcome, and its digest, computed once for all of them.
#[derive(Default)]
pub struct Encoder {
    held: Mutex<Option<([u8; 32], SharedMemory)>>,
}

impl Encoder {
    /// The digest of what came with a welcome; of memory that came before, that one.
    fn digest(&self, memory: SharedMemory) -> ([u8; 32], SharedMemory) {
        let mut held = self.held.lock();
        match &*held {
            Some((digest, before)) if before.is_same(&memory) => (*digest, before.clone()),
            _ => held.insert((*blake3::hash(&memory).as_bytes(), memory)).clone(),
        }
    }
}

impl Local {
    /// A launcher that has gone is noticed by whoever follows its orders.
    pub fn tell(&self, notice: &HostNotice) {
        let _ = self.notices.send(notice);
    }
}

/// One connection, from an introduction until it breaks.
pub struct Connection {
    /// Which connection of the host.
    pub epoch: String,
    /// Which relay it is of.
    pub instance: u64,
    name: String,
    local: Local,
    queue: Sender<Word<Down>>,
    freight: Freight,
    /// Doors of the learner's that actors were invited to.
    doors: Mutex<BTreeMap<Who, String>>,
    circuits: Mutex<BTreeMap<Who, LinkSender<ToLearner>>>,
    broken: AtomicBool,
    begun: Instant,
    received: AtomicU64,
    sent: [Arc<AtomicU64>; 2],
    round_trip: AtomicU64,
    /// When it was looked at last, with bytes to and from it until then.
    looked: Mutex<(Instant, [u64; 2])>,
}

impl Connection {
    /// Listen to a host and speak to it. `gone` is called once it is broken.
    pub fn open(
        session: &Session,
        epoch: &str,
        hello: &Introduction,
        local: Local,
        gone: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> Result<Arc<Self>, HostError> {
        let listener = Listener::new(Ear::new(session, key("up", epoch))?);
        let down = Way::new(session, key("down", epoch), Urgency::Words)?;
        let pieces = Way::new(session, key("piece", epoch), Urgency::Pieces)?;
        let (queue, queued) = unbounded();
        let sent = [down.sent(), pieces.sent()];
        let connection = Arc::new(Self {
            epoch: epoch.into(),
            instance: hello.instance,
            name: hello.name.clone(),
            local,
            queue,
            freight: Freight::default(),
            doors: Mutex::default(),
            circuits: Mutex::default(),
            broken: AtomicBool::new(false),
            begun: Instant::now(),
            received: AtomicU64::new(0),
            sent,
            round_trip: AtomicU64::new(0),
            looked: Mutex::new((Instant::now(), [0; 2])),
        });
        let (sending, shipping, hearing) = (connection.clone(), connection.clone(), connection.clone());
        let thread = |what: &str| format!("{what} {}", hello.name);
        let begun = connection.begun;
        let beat = move || Down::Beat { sent: begun.elapsed().as_micros() as u64 };
        let start = |name: String, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name).spawn(body).map(drop).map_err(HostError::Thread)
        };
        start(
            thread("to host"),
            Box::new(move || {
                if down.wait_until_heard(|| sending.is_broken()) {
                    sending.break_off(&send_all(&down, &queued, || sending.is_broken(), beat));
                }
            }),
        )?;
        start(
            thread("freight to host"),
            Box::new(move || {
                if let Err(error) = shipping.freight.send_all(&pieces) {
                    shipping.break_off(&error.to_string());
                }
            }),
        )?;
        start(
            thread("from host"),
            Box::new(move || {
                hearing.listen(listener);
                gone(&hearing);
            }),
        )?;
        Ok(connection)
    }

    /// Whether nothing goes over it any more.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Whether all that was said is on its way, or never will be.
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty() || self.is_broken()
    }

    /// Close all links of its actors: what follows is what follows when a learner dies, or an actor.
    pub fn break_off(&self, why: &str) {
        if !self.broken.swap(true, Ordering::AcqRel) {
            // Before the learner hears of it from its links.
            self.local.tell(&HostNotice::Gone { host: self.name.clone(), why: why.into() });
            self.freight.close();
            self.circuits.lock().clear();
        }
    }

    /// What a host is told waits until its line takes it.
    pub fn tell(&self, word: Down) {
        let _ = self.queue.send((word, Vec::new()));
    }

    /// Have an actor come through this door.
    pub fn invite(&self, who: Who, door: String, start: bool) {
        self.doors.lock().insert(who, door);
        self.tell(Down::Invite { who, start });
    }

    /// How it fares, and has fared since this was asked last.
    pub fn figures(&self) -> HostReport {
        let sent = self.sent.iter().map(|sent| sent.load(Ordering::Relaxed)).sum();
        let received = self.received.load(Ordering::Relaxed);
        let mut looked = self.looked.lock();
        let (at, before) = std::mem::replace(&mut *looked, (Instant::now(), [sent, received]));
        let seconds = at.elapsed().as_secs_f64().max(1e-3);
        HostReport {
            name: self.name.clone(),
            away: None,
            sent,
            received,
            sent_per_s: (sent - before[0]) as f64 / seconds,
            received_per_s: received.saturating_sub(before[1]) as f64 / seconds,
            snapshots: self.freight.snapshots(),
            round_trip_ms: self.round_trip.load(Ordering::Relaxed) as f64 / 1e3,
        }
    }

    fn listen(self: &Arc<Self>, mut listener: Listener<Up>) {
        while !self.is_broken() {
            match listener.recv(TICK) {
                Ok(words) => {
                    self.received.store(listener.bytes(), Ordering::Relaxed);
                    for (word, beside) in words {
                        self.hear(word, &beside);
                    }
                }
                Err(why) => self.break_off(&why),
            }
        }
    }

    fn hear(self: &Arc<Self>, word: Up, beside: &[u8]) {
        match word {
            Up::Nothing => {}
            Up::Beat { sent } => {
                let now = self.begun.elapsed().as_micros() as u64;
                self.round_trip.store(now.saturating_sub(sent), Ordering::Relaxed);
            }
            Up::Said(who, ToLearner::Hello(hello)) => {
                if let Err(error) = self.let_in(who, *hello) {
                    tracing::warn!("actor {} of {} is not let in: {error}", who.actor, self.name);
                    self.tell(Down::Closed(who));
                }
            }
            Up::Said(who, word) => self.pass_on(who, &word, beside),
            Up::Closed(who) => drop(self.circuits.lock().remove(&who)),
            Up::Started(who, pid) => self.local.tell(&HostNotice::Started { who, pid }),
            Up::Ended(who, end) => {
                self.circuits.lock().remove(&who);
                self.local.tell(&HostNotice::Ended { who, end });
            }
            Up::Have { version } => self.tell_all(self.freight.arrived(version)),
            Up::Want { digest, offset } => self.freight.wanted(digest, offset),
            Up::Leaving => self.local.tell(&HostNotice::Leaving { host: self.name.clone() }),
            Up::Goodbye => {
                self.tell(Down::Stop { reason: "left the run".into() });
                self.break_off("it has left the run");
            }
        }
    }

    fn tell_all(&self, words: Vec<Down>) {
        words.into_iter().for_each(|word| self.tell(word));
    }

    /// An actor has come to its host's door: to the learner's door for it.
    fn let_in(self: &Arc<Self>, who: Who, hello: Hello) -> Result<(), WireError> {
        let door = self.doors.lock().remove(&who).ok_or(WireError::Closed)?;
        let hello = ToLearner::Hello(Box::new(Hello {
            token: self.local.token.clone(),
            actor: who.actor,
            generation: who.generation,
            ..hello
        }));
        let (sender, receiver) = knock(&door, &hello)?;
        self.circuits.lock().insert(who, sender);
        self.freight.joined(who);
        let connection = self.clone();
        let listen = move || connection.serve(who, &receiver);
        spawn(&format!("to actor {}", who.actor), listen).map_err(|error| WireError::Io(error.to_string()))
    }

    fn pass_on(&self, who: Who, word: &ToLearner, beside: &[u8]) {
        let Some(link) = self.circuits.lock().get(&who).cloned() else { return };
        // Before the learner can send the next one.
        let taken = match word {
            ToLearner::SnapshotTaken { version, .. } => Some(*version),
            _ => None,
        };
        let sent = if beside.is_empty() { link.send(word) } else { link.send_bytes(word, beside) };
        if let Err(error) = sent {
            tracing::debug!("the learner does not hear actor {}: {error}", who.actor);
        }
        if let Some(version) = taken {
            self.tell_all(self.freight.taken(who, version));
        }
    }

    /// What the learner says to an actor, until its link is closed at one end.
    fn serve(&self, who: Who, receiver: &LinkReceiver<ToActor>) {
        while self.circuits.lock().contains_key(&who) {
            match receiver.recv_timeout(TICK) {
                Ok(incoming) => self.say(who, incoming),
                Err(WireError::Timeout { .. }) => {}
                Err(_) => break,
            }
        }
        self.circuits.lock().remove(&who);
        self.freight.left(who);
        self.tell(Down::Closed(who));
    }

    fn say(&self, who: Who, Incoming { message, bulk }: Incoming<ToActor>) {
        match (message, bulk) {
            (ToActor::Snapshot { version, update }, bulk) => {
                self.tell_all(self.freight.offered(who, version, update, Arc::new(bulk)));
            }
            (message @ ToActor::Welcome(_), Bulk::Shared(memory)) => {
                let (digest, region) = self.local.encoder.digest(memory);
                let length = region.len() as u64;
                self.freight.encoder(digest, Arc::new(Bulk::Shared(region)));
                self.tell(Down::Said(who, message, Beside::Encoder { digest, length }));
            }
            (message, _) => self.tell(Down::Said(who, message, Beside::Nothing)),
        }
    }
}
