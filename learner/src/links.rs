//! Links to actors: who has joined, what each holds, and one sender thread per actor with a latest-only slot.

mod pace;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use parking_lot::{Condvar, Mutex};
use shared::experience::StreamId;
use shared::snapshot::PolicySnapshot;
use shared::trace::span;
use shared::wire::{
    Hello, Incoming, LinkReceiver, LinkSender, Numbers, ToActor, ToLearner, Visitor, Waiting, Welcome, WireError, chunk,
};

use crate::RunError;
use crate::ingest::Arrival;
use crate::run::Run;
use crate::versions::Published;
use pace::{Pace, Verdict};

/// Versions whose way to an actor is remembered until it has acted with them.
const REMEMBERED: usize = 64;
/// How often a listening thread looks whether its link was cut.
const PATIENCE: Duration = Duration::from_millis(200);
/// After this long without an acknowledgement an actor is named.
const SLOW: Duration = Duration::from_secs(30);

/// All actors that have joined, by index.
#[derive(Default)]
pub struct Links {
    map: Mutex<BTreeMap<u32, Arc<Link>>>,
}

impl Links {
    /// Those that are there now.
    pub fn all(&self) -> Vec<Arc<Link>> {
        self.map.lock().values().cloned().collect()
    }

    /// Put a snapshot in every slot; an older one that was not sent yet is replaced.
    pub fn offer(&self, snapshot: &Arc<PolicySnapshot>) {
        self.all().iter().for_each(|link| link.offer(snapshot.clone()));
    }

    /// The one of this index.
    pub fn get(&self, actor: u32) -> Option<Arc<Link>> {
        self.map.lock().get(&actor).cloned()
    }

    fn join(&self, link: Arc<Link>) {
        if let Some(old) = self.map.lock().insert(link.actor, link) {
            old.cut();
        }
    }

    fn leave(&self, link: &Arc<Link>) {
        let mut map = self.map.lock();
        if map.get(&link.actor).is_some_and(|held| Arc::ptr_eq(held, link)) {
            map.remove(&link.actor);
        }
    }
}

/// What waits to be sent to one actor.
#[derive(Default)]
struct Slot {
    snapshot: Option<Arc<PolicySnapshot>>,
    in_flight: Option<Flight>,
    /// Newest version that was acknowledged.
    taken: u64,
    credits: u32,
    /// Credits given and not used: more chunks than this are a breach.
    allowed: u32,
    /// Chunks that are in replay and in the journal.
    stored: u64,
    clock: Option<u64>,
    pause: Option<bool>,
    trace: Option<ToActor>,
    dismissed: bool,
    stop: bool,
    cut: bool,
}

/// A snapshot that was sent and is not acknowledged.
struct Flight {
    published: Published,
    sent: Instant,
    told: bool,
}

/// What an actor said about itself.
#[derive(Clone, Debug)]
pub struct Held {
    /// Snapshot it acts with.
    pub version: u64,
    /// Updates made when that was taken.
    pub update: u64,
    /// When that was published.
    pub published: Option<Instant>,
    /// From offer to acknowledgement, milliseconds.
    pub ack_ms: f64,
    /// Environment steps since it started.
    pub steps: u64,
    /// Environment steps per second.
    pub steps_per_s: f64,
    /// What it waits for.
    pub waiting: Waiting,
    /// When it was last heard of.
    pub heard: Instant,
}

/// One actor.
pub struct Link {
    /// Its index.
    pub actor: u32,
    /// How often it was started before.
    pub generation: u32,
    /// Its process.
    pub pid: u32,
    slot: Mutex<Slot>,
    changed: Condvar,
    held: Mutex<Held>,
    pace: Mutex<Pace>,
    /// Versions it took lately, and seconds from publishing until then.
    taken: Mutex<VecDeque<(u64, f64)>>,
    /// Steps of each of its environments that have arrived, over all learners.
    arrived: Mutex<Vec<u64>>,
    /// Whether it has said goodbye.
    parted: AtomicBool,
}

impl Link {
    /// Welcome an actor, give it the newest snapshot and its first credits, and serve it from two threads. `lost` is called if its link
    /// is cut while the run goes on.
    pub fn open(
        run: &Arc<Run>,
        hello: &Hello,
        visitor: Visitor<ToLearner, ToActor>,
        arrivals: Sender<Arrival>,
        lost: impl FnOnce() + Send + 'static,
    ) -> Result<(), WireError> {
        let stream = |env| StreamId { actor: hello.actor, generation: hello.generation, env };
        let stored: Vec<u64> = (0..run.config.actor.envs as u32).map(|env| run.replay.next(stream(env))).collect();
        let link = Arc::new(Self::new(hello, stored.clone()));
        let welcome = ToActor::Welcome(Box::new(Welcome { stored, ..run.welcome.clone() }));
        match run.trunk.as_ref().and_then(|trunk| trunk.region.as_ref()) {
            Some(region) => visitor.sender.send_region(&welcome, region)?,
            None => visitor.sender.send(&welcome)?,
        }
        if !run.config.lockstep() {
            link.credit(run.config.sync.credits as u32);
        }
        run.links.join(link.clone());
        if let Some(snapshot) = run.snapshots.newest() {
            link.offer(snapshot);
        }
        if run.limiter.is_paused() {
            link.pause(true);
        }
        if run.is_stopping() {
            link.stop();
        }
        let (sending, sender) = (link.clone(), visitor.sender);
        thread::Builder::new().name(format!("to actor {}", link.actor)).spawn(move || sending.send_all(&sender))?;
        let (run, receiver) = (run.clone(), visitor.receiver);
        thread::Builder::new().name(format!("from actor {}", link.actor)).spawn(move || {
            link.listen(&run, &receiver, &arrivals);
            link.cut();
            run.links.leave(&link);
            if !link.parted.load(Ordering::Acquire) {
                lost();
            }
        })?;
        Ok(())
    }

    fn new(hello: &Hello, stored: Vec<u64>) -> Self {
        let held = Held {
            version: 0,
            update: 0,
            published: None,
            ack_ms: 0.0,
            steps: 0,
            steps_per_s: 0.0,
            waiting: Waiting::Snapshot,
            heard: Instant::now(),
        };
        Self {
            actor: hello.actor,
            generation: hello.generation,
            pid: hello.pid,
            slot: Mutex::default(),
            changed: Condvar::new(),
            pace: Mutex::default(),
            taken: Mutex::default(),
            held: Mutex::new(held),
            arrived: Mutex::new(stored),
            parted: AtomicBool::new(false),
        }
    }

    fn with_slot(&self, change: impl FnOnce(&mut Slot)) {
        change(&mut self.slot.lock());
        self.changed.notify_all();
    }

    /// Offer a snapshot; the newest wins.
    pub fn offer(&self, snapshot: Arc<PolicySnapshot>) {
        self.with_slot(|slot| {
            if slot.snapshot.as_ref().is_none_or(|held| held.version < snapshot.version) {
                slot.snapshot = Some(snapshot);
            }
        });
    }

    /// Allow more chunks.
    pub fn credit(&self, count: u32) {
        self.with_slot(|slot| {
            slot.credits += count;
            slot.allowed += count;
        });
    }

    /// One more of its chunks outlives this process; told with the next credits.
    pub fn stored(&self) {
        self.slot.lock().stored += 1;
    }

    /// Tell how many updates were made.
    pub fn clock(&self, update: u64) {
        self.with_slot(|slot| slot.clock = Some(update));
    }

    /// Tell it to take no step, or to go on.
    pub fn pause(&self, on: bool) {
        self.with_slot(|slot| slot.pause = Some(on));
    }

    /// Tell it to record what its threads do.
    pub fn trace(&self, run: &Path, seconds: f64) {
        self.with_slot(|slot| slot.trace = Some(ToActor::Trace { run: run.to_path_buf(), seconds }));
    }

    /// Tell it to send what it has and end, while the run goes on: nobody lets it wait for the credits it needs for that, of which
    /// there is one for each of its environments.
    pub fn dismiss(&self, envs: u32) {
        self.with_slot(|slot| {
            if !std::mem::replace(&mut slot.dismissed, true) {
                slot.credits += envs;
                slot.allowed += envs;
                slot.stop = true;
            }
        });
    }

    /// Tell it to send what it has and end.
    pub fn stop(&self) {
        self.with_slot(|slot| slot.stop = true);
    }

    /// Neither send nor listen any more.
    pub fn cut(&self) {
        self.with_slot(|slot| slot.cut = true);
    }

    /// What it said about itself.
    pub fn held(&self) -> Held {
        self.held.lock().clone()
    }

    /// Whether it has not acknowledged a snapshot for long; true once per snapshot.
    pub fn is_slow(&self) -> bool {
        let mut slot = self.slot.lock();
        slot.in_flight.as_mut().is_some_and(|f| f.sent.elapsed() > SLOW && !std::mem::replace(&mut f.told, true))
    }

    /// The sender thread: the only one that can block on this actor's socket.
    fn send_all(&self, sender: &LinkSender<ToActor>) {
        while let Some(send) = self.next() {
            let sending = span("send");
            let sent = send(sender);
            drop(sending);
            if let Err(error) = sent {
                tracing::warn!("sending to actor {}: {error}", self.actor);
                return self.cut();
            }
        }
    }

    /// What to send next: control first, then the newest snapshot if none is under way. None once the link is cut.
    #[allow(clippy::type_complexity)]
    fn next(&self) -> Option<Box<dyn FnOnce(&LinkSender<ToActor>) -> Result<(), WireError>>> {
        let mut slot = self.slot.lock();
        loop {
            if slot.cut {
                return None;
            }
            if std::mem::take(&mut slot.stop) {
                return Some(Box::new(|sender| sender.send(&ToActor::Stop)));
            }
            let count = std::mem::take(&mut slot.credits);
            if count > 0 {
                let stored = slot.stored;
                return Some(Box::new(move |sender| sender.send(&ToActor::Credits { count, stored })));
            }
            if let Some(on) = slot.pause.take() {
                return Some(Box::new(move |sender| sender.send(&ToActor::Pause { on })));
            }
            if let Some(trace) = slot.trace.take() {
                return Some(Box::new(move |sender| sender.send(&trace)));
            }
            if let Some(update) = slot.clock.take() {
                return Some(Box::new(move |sender| sender.send(&ToActor::Clock { update })));
            }
            if slot.in_flight.is_none()
                && let Some(snapshot) = slot.snapshot.take().filter(|snapshot| snapshot.version > slot.taken)
            {
                slot.in_flight =
                    Some(Flight { published: Published::of(&snapshot), sent: Instant::now(), told: false });
                let message = ToActor::Snapshot { version: snapshot.version, update: snapshot.update };
                return Some(Box::new(move |sender| sender.send_region(&message, &snapshot.region)));
            }
            self.changed.wait(&mut slot);
        }
    }

    /// The listening thread: until goodbye, the end of the process, or a breach.
    fn listen(self: &Arc<Self>, run: &Run, receiver: &LinkReceiver<ToLearner>, arrivals: &Sender<Arrival>) {
        while !self.slot.lock().cut {
            match receiver.recv_timeout(PATIENCE) {
                Ok(incoming) => match self.hear(run, incoming, arrivals) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(breach) => return run.refuse(format!("actor {}: {breach}; its link is cut", self.actor)),
                },
                Err(WireError::Timeout { .. }) => {}
                Err(WireError::Closed) if run.is_stopping() => return,
                Err(error @ WireError::Closed) => {
                    return run.warn(format!("actor {} (process {}): {error}", self.actor, self.pid));
                }
                Err(error) => return run.refuse(format!("actor {} (process {}): {error}", self.actor, self.pid)),
            }
        }
    }

    /// One message; false after goodbye.
    fn hear(
        self: &Arc<Self>,
        run: &Run,
        incoming: Incoming<ToLearner>,
        arrivals: &Sender<Arrival>,
    ) -> Result<bool, String> {
        let _span = span("message");
        self.held.lock().heard = Instant::now();
        match incoming.message {
            ToLearner::Chunk(head) => {
                self.use_credit()?;
                let chunk = chunk::unpack(head, incoming.bulk.as_ref()).map_err(|e| e.to_string())?;
                let mut arrived = self.arrived.lock();
                let end = arrived.get_mut(chunk.stream.env as usize);
                let end =
                    end.filter(|_| (chunk.stream.actor, chunk.stream.generation) == (self.actor, self.generation));
                let end =
                    end.ok_or_else(|| format!("it sent experience of {:?}, which is not its own", chunk.stream))?;
                *end = chunk.first_step.saturating_add(chunk.len() as u64).max(*end);
                drop(arrived);
                arrivals.send((self.clone(), chunk)).map_err(|_| "nobody takes experience any more".to_string())?;
            }
            ToLearner::SnapshotTaken { version, digest } => self.taken(run, version, digest)?,
            ToLearner::Numbers(numbers) => {
                let mut held = self.held.lock();
                held.steps = held.steps.saturating_add(numbers.steps);
                held.steps_per_s = f64::from(numbers.steps as f32 / numbers.seconds.max(1e-3));
                held.waiting = numbers.waiting;
                drop(held);
                self.acted(run, &numbers);
                numbers.episodes.into_iter().for_each(|episode| run.episode(episode));
            }
            ToLearner::Goodbye { reason, steps } => {
                tracing::info!("actor {} says goodbye: {reason}", self.actor);
                let arrived = self.arrived.lock();
                if *arrived != steps {
                    run.warn(format!("actor {} made {steps:?} steps, but {arrived:?} arrived", self.actor));
                }
                self.parted.store(true, Ordering::Release);
                return Ok(false);
            }
            ToLearner::Hello(_) => return Err("it introduced itself twice".into()),
        }
        Ok(true)
    }

    /// How old what it acted with was: from its own count of updates, and from publishing to the first step, each part on the clock of
    /// the process that saw it.
    fn acted(&self, run: &Run, numbers: &Numbers) {
        if numbers.steps > 0 {
            run.record("lag/acting", f64::from(numbers.lag));
            run.record("lag/beyond", numbers.beyond as f64);
        }
        if numbers.steps > 0 && run.config.actor.wait_for > 0 {
            run.record("lag/flight", numbers.flight as f64);
            run.record("acting/rows", numbers.steps as f64 / numbers.calls.max(1) as f64);
            run.record("acting/ready_ms", 1e3 * f64::from(numbers.ready));
            run.record("acting/slowest", f64::from(numbers.slowest));
        }
        let taken = self.taken.lock();
        for (version, waited) in &numbers.first_uses {
            if let Some((_, until)) = taken.iter().find(|(taken, _)| taken == version) {
                run.record("lag/first_use_ms", 1e3 * (until + f64::from(*waited)));
            }
        }
    }

    fn use_credit(&self) -> Result<(), String> {
        let mut slot = self.slot.lock();
        slot.allowed = slot.allowed.checked_sub(1).ok_or("it sent experience without a credit")?;
        Ok(())
    }

    /// Tell of a lag that only rises; end a run whose bound on the lag cannot be met, instead of letting its actors wait for ever.
    fn judge(&self, run: &Run, late: u64, ack_ms: f64) {
        let sync = &run.config.sync;
        let bound = (sync.max_lag_updates > 0 && sync.max_lag_mode == "hard").then_some(sync.max_lag_updates);
        match self.pace.lock().taken(late, bound) {
            Verdict::Fine => {}
            Verdict::Rises => run.warn(format!(
                "actor {}: its lag only rises, it took the last snapshot {late} updates late: its cores are busy, or there are too many \
                 actors; see docs/watching.md",
                self.actor
            )),
            Verdict::OutOfReach => {
                run.fail(RunError::Lag { actor: self.actor, bound: sync.max_lag_updates, late, ack_ms });
            }
        }
    }

    /// Lag is computed from acknowledgements: what was sent does not count. A version that was not sent over this link is as good if it is
    /// newer: one copy goes to all actors of another host.
    fn taken(&self, run: &Run, version: u64, digest: u64) -> Result<(), String> {
        // However long it took: an actor may have been stopped.
        let own = self.slot.lock().in_flight.as_ref().map(|flight| flight.published);
        let Some(published) = own.filter(|own| own.version == version).or_else(|| run.versions.get(version)) else {
            return Err(format!("it acknowledged snapshot {version}, which was not published lately"));
        };
        if published.digest != digest {
            let right = published.digest;
            return Err(format!(
                "it acts with other weights than snapshot {version} ({digest:016x}, not {right:016x})"
            ));
        }
        let sent = self.slot.lock().acknowledged(version)?.unwrap_or(published.at);
        self.changed.notify_all();
        let ack_ms = 1e3 * sent.elapsed().as_secs_f64();
        let mut held = self.held.lock();
        held.version = version;
        held.update = published.update;
        held.published = Some(published.at);
        held.ack_ms = ack_ms;
        drop(held);
        run.record("lag/ack_ms", ack_ms);
        let mut taken = self.taken.lock();
        taken.push_back((version, published.at.elapsed().as_secs_f64()));
        if taken.len() > REMEMBERED {
            taken.pop_front();
        }
        drop(taken);
        self.judge(run, run.updates().saturating_sub(published.update), ack_ms);
        Ok(())
    }
}

impl Slot {
    /// A version is acted with. Returns when it, or the one before it that it took the place of, was sent over this link.
    fn acknowledged(&mut self, version: u64) -> Result<Option<Instant>, String> {
        if self.taken >= version {
            return Err(format!("it went back from snapshot {} to {version}", self.taken));
        }
        self.taken = version;
        Ok(self.in_flight.take_if(|flight| flight.published.version <= version).map(|flight| flight.sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::params::Weight;
    use shared::snapshot::format::{SnapshotHeader, encode};

    fn snapshot(version: u64) -> Arc<PolicySnapshot> {
        let var = candle_core::Var::new(&[version as f32], &candle_core::Device::Cpu).unwrap();
        let header = SnapshotHeader { version, update: version, published: 0 };
        let bytes = encode(&header, &[("pol/bias".into(), Weight::Var(var))]).unwrap();
        Arc::new(PolicySnapshot::publish(&bytes).unwrap())
    }

    fn link() -> Link {
        let (token, binary) = Default::default();
        Link::new(&Hello { token, actor: 0, generation: 0, pid: 0, binary, version: 0 }, vec![0])
    }

    #[test]
    fn a_slow_actor_costs_no_memory_and_gets_the_newest() {
        let link = link();
        let (sender, receiver) = shared::wire::pair().unwrap();
        link.offer(snapshot(1));
        link.next().unwrap()(&sender).unwrap();
        let skipped: Vec<_> = (2..200).map(snapshot).collect();
        let weak: Vec<_> = skipped.iter().map(Arc::downgrade).collect();
        skipped.into_iter().for_each(|s| link.offer(s));
        assert_eq!(weak.iter().filter(|w| w.upgrade().is_some()).count(), 1);
        link.slot.lock().in_flight = None;
        link.next().unwrap()(&sender).unwrap();
        let versions = [receiver.recv().unwrap().message, receiver.recv().unwrap().message];
        let message = |version| ToActor::Snapshot { version, update: version };
        assert_eq!(versions, [message(1), message(199)]);
        assert!(weak.iter().all(|w| w.upgrade().is_none()));
    }

    #[test]
    fn a_newer_version_by_another_way_stands_for_those_that_were_sent() {
        let link = link();
        let (sender, receiver) = shared::wire::pair().unwrap();
        link.offer(snapshot(1));
        link.next().unwrap()(&sender).unwrap();
        link.offer(snapshot(2));
        // Of another host's one copy, while the first one was on its way.
        assert!(link.slot.lock().acknowledged(3).unwrap().is_some());
        assert!(link.slot.lock().acknowledged(3).is_err() && link.slot.lock().acknowledged(1).is_err());
        link.offer(snapshot(4));
        link.next().unwrap()(&sender).unwrap();
        let versions = [receiver.recv().unwrap().message, receiver.recv().unwrap().message];
        let message = |version| ToActor::Snapshot { version, update: version };
        assert_eq!(versions, [message(1), message(4)], "what is older than what is acted with is not sent");
    }

    #[test]
    fn control_goes_before_snapshots_and_chunks_need_credit() {
        let link = link();
        let (sender, receiver) = shared::wire::pair().unwrap();
        link.offer(snapshot(1));
        link.stored();
        link.credit(2);
        link.clock(7);
        link.stop();
        for expected in [
            ToActor::Stop,
            ToActor::Credits { count: 2, stored: 1 },
            ToActor::Clock { update: 7 },
            ToActor::Snapshot { version: 1, update: 1 },
        ] {
            link.next().unwrap()(&sender).unwrap();
            assert_eq!(receiver.recv().unwrap().message, expected);
        }
        link.use_credit().unwrap();
        link.use_credit().unwrap();
        assert!(link.use_credit().is_err());
        link.cut();
        assert!(link.next().is_none());
    }
}
