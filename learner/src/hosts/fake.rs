//! Hosts whose actors are none: they say again what one real actor said, as far as credits allow. A run takes them for
//! real ones. For `lucid bench hosts --fake`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, unbounded};
use shared::array::Array;
use shared::experience::{Chunk, StreamId, UPDATE, VERSION};
use shared::params::Region;
use shared::snapshot::digest;
use shared::snapshot::format::SnapshotView;
use shared::wire::{Bulk, Hello, Numbers, ToActor, ToLearner, chunk};

use super::HostError;
use super::connect;
use super::line::{Listener, Word, send_all};
use super::relay::{Relay, introduce};
use super::secrets::Authority;
use super::session::Ear;
use super::store::{Store, Whole};
use super::words::{Beside, Down, Up};
use crate::RunError;
use crate::launch::Who;

/// How often a fake host looks what is due.
const TICK: Duration = Duration::from_millis(2);

/// What a real actor said, from its first chunk on, with the time since then.
pub struct Recorded {
    words: Vec<(Duration, Said)>,
}

enum Said {
    Chunk(Chunk),
    Numbers(Numbers),
}

impl Recorded {
    /// Have one real actor of this run in a folder, for so long.
    pub fn of(run: &Path, join: &str, folder: &Path, time: Duration) -> Result<Self, RunError> {
        std::fs::create_dir_all(folder.join("logs")).map_err(crate::error::io("create", folder))?;
        let token = Authority::of_run(run)?.token("recorded", join)?;
        let session = connect(join, Some(&token.identity))?;
        let (tap, heard) = unbounded();
        let stop = Arc::new(AtomicBool::new(false));
        let relay = Relay {
            name: token.name,
            secret: token.secret,
            actors: 1,
            folder: folder.into(),
            cache: folder.join("cache"),
            stop: stop.clone(),
            tap: Some(tap),
        };
        let relaying = thread::spawn(move || relay.run(&session));
        thread::sleep(time);
        stop.store(true, Ordering::Release);
        let ended = relaying.join().unwrap_or_else(|_| Err(HostError::way("the recording ended").into()));
        ended?;
        let mut words = Vec::new();
        let mut begun = None;
        for (at, word, bytes) in heard {
            let said = match word {
                ToLearner::Chunk(head) => Said::Chunk(chunk::unpack(head, &bytes).map_err(HostError::way)?),
                ToLearner::Numbers(numbers) if begun.is_some() => Said::Numbers(numbers),
                _ => continue,
            };
            words.push((at.duration_since(*begun.get_or_insert(at)), said));
        }
        match words.last() {
            Some((span, _)) if !span.is_zero() => Ok(Self { words }),
            _ => Err(HostError::way("the actor that was recorded sent too little: record for longer").into()),
        }
    }

    /// The same at another pace, in steps a second.
    pub fn at_pace(mut self, pace: f64) -> Self {
        let slower = self.rates().steps / pace.max(1e-3);
        self.words.iter_mut().for_each(|(at, _)| *at = at.mul_f64(slower));
        self
    }

    /// What was sent a second.
    pub fn rates(&self) -> Rates {
        let mut rates = Rates::default();
        for (_, said) in &self.words {
            if let Said::Chunk(chunk) = said {
                rates.bytes += chunk.bytes() as f64;
                rates.chunks += 1.0;
                rates.steps += chunk.len() as f64;
            }
        }
        let span = self.span().as_secs_f64();
        Rates { bytes: rates.bytes / span, chunks: rates.chunks / span, steps: rates.steps / span }
    }

    fn span(&self) -> Duration {
        self.words.last().map_or(Duration::ZERO, |(at, _)| *at)
    }
}

/// Of chunks, a second.
#[derive(Default)]
pub struct Rates {
    /// Their bytes, as they are in memory.
    pub bytes: f64,
    /// How many.
    pub chunks: f64,
    /// Their steps.
    pub steps: f64,
}

/// A fake actor.
struct Actor {
    credits: u32,
    /// Which word is next, and when it would be said.
    next: (usize, Instant),
    /// Steps so far of each environment.
    steps: BTreeMap<u32, u64>,
    /// Of the snapshot that it has: version and update.
    held: Option<(u64, u64)>,
    stopping: bool,
}

/// Take part in a run under this name with so many actors, until it ends or `stop` is raised.
pub fn take_part(
    run: &Path,
    join: &str,
    name: &str,
    actors: u32,
    recorded: &Recorded,
    stop: &AtomicBool,
) -> Result<(), HostError> {
    let token = Authority::of_run(run)?.token(name, join)?;
    let session = connect(join, Some(&token.identity))?;
    let met = introduce(&session, name, &token.secret, actors, rand::random(), &[], stop)?;
    let Some(met) = met else { return Ok(()) };
    let (queue, queued) = unbounded();
    let up = met.up;
    thread::spawn(move || send_all(&up, &queued, || false, || Up::Nothing));
    let mut host =
        Host { recorded, queue, store: Store::new("/nonexistent".into()), actors: BTreeMap::new(), proven: (0, 0) };
    host.serve(Listener::new(met.down), &met.pieces, stop)
}

struct Host<'a> {
    recorded: &'a Recorded,
    queue: Sender<Word<Up>>,
    store: Store,
    actors: BTreeMap<Who, Actor>,
    /// The digest that was computed last, with its version.
    proven: (u64, u64),
}

impl Host<'_> {
    fn serve(&mut self, mut down: Listener<Down>, pieces: &Ear, stop: &AtomicBool) -> Result<(), HostError> {
        while !stop.load(Ordering::Acquire) {
            let words: Result<Vec<Word<Down>>, String> = down.recv(TICK);
            for (word, _) in words.map_err(HostError::way)? {
                if matches!(word, Down::Stop { .. }) {
                    return Ok(());
                }
                self.hear(word)?;
            }
            while let Some(bytes) = pieces.recv(Duration::ZERO) {
                if let Some(Whole::Snapshot(version)) = self.store.take(&bytes)? {
                    self.tell(Up::Have { version }, Vec::new());
                }
            }
            self.say_what_is_due();
        }
        Ok(())
    }

    fn tell(&self, word: Up, beside: Vec<u8>) {
        let _ = self.queue.send((word, beside));
    }

    fn hear(&mut self, word: Down) -> Result<(), HostError> {
        match word {
            Down::Beat { sent } => self.tell(Up::Beat { sent }, Vec::new()),
            Down::Invite { who, .. } => {
                let hello = Hello {
                    token: String::new(),
                    actor: who.actor,
                    generation: who.generation,
                    pid: std::process::id(),
                    binary: env!("CARGO_PKG_VERSION").into(),
                    version: 0,
                };
                self.tell(Up::Started(who, std::process::id()), Vec::new());
                self.tell(Up::Said(who, ToLearner::Hello(Box::new(hello))), Vec::new());
                let next = (0, Instant::now());
                let actor = Actor { credits: 0, next, steps: BTreeMap::new(), held: None, stopping: false };
                self.actors.insert(who, actor);
            }
            Down::Said(who, word, beside) => self.answer(who, &word, beside)?,
            Down::Closed(who) | Down::Kill(who) => drop(self.actors.remove(&who)),
            Down::Stop { .. } => {}
        }
        Ok(())
    }

    fn answer(&mut self, who: Who, word: &ToActor, beside: Beside) -> Result<(), HostError> {
        let Some(actor) = self.actors.get_mut(&who) else { return Ok(()) };
        match (word, beside) {
            (ToActor::Credits { count, .. }, _) => actor.credits += count,
            (ToActor::Stop, _) => actor.stopping = true,
            (ToActor::Snapshot { version, update }, Beside::Snapshot(_)) => {
                if actor.held.replace((*version, *update)).is_none() {
                    actor.next.1 = Instant::now();
                }
                let taken = ToLearner::SnapshotTaken { version: *version, digest: self.digest(*version)? };
                self.tell(Up::Said(who, taken), Vec::new());
            }
            _ => {}
        }
        Ok(())
    }

    /// Of a snapshot's weights, for all actors.
    fn digest(&mut self, version: u64) -> Result<u64, HostError> {
        if self.proven.0 != version {
            let region = self.store.snapshot(version).ok_or_else(|| HostError::way("a snapshot is not there"))?.clone();
            let view = SnapshotView::open(Arc::new(Bulk::Shared(region)) as Region).map_err(HostError::way)?;
            self.proven = (version, digest(&view));
        }
        Ok(self.proven.1)
    }

    fn say_what_is_due(&mut self) {
        let now = Instant::now();
        let mut said = Vec::new();
        for (who, actor) in &mut self.actors {
            let Some((version, update)) = actor.held.filter(|_| !actor.stopping) else { continue };
            while actor.next.1 <= now {
                match &self.recorded.words[actor.next.0].1 {
                    Said::Numbers(numbers) => said.push((Up::Said(*who, ToLearner::Numbers(numbers.clone())), vec![])),
                    // It waits, as one does that acts; then all that follows is later.
                    Said::Chunk(_) if actor.credits == 0 => {
                        actor.next.1 = now;
                        break;
                    }
                    Said::Chunk(chunk) => {
                        actor.credits -= 1;
                        let steps = actor.steps.entry(chunk.stream.env).or_default();
                        let (head, block) = chunk::pack(&again(chunk, *who, *steps, [version, update]));
                        *steps += chunk.len() as u64;
                        said.push((Up::Said(*who, ToLearner::Chunk(head)), block));
                    }
                }
                actor.next = self.recorded.after(actor.next);
            }
        }
        said.into_iter().for_each(|(word, beside)| self.tell(word, beside));
    }
}

impl Recorded {
    /// Which word follows one that was due at a time, and when it is; after the last one, the first.
    fn after(&self, (index, due): (usize, Instant)) -> (usize, Instant) {
        match self.words.get(index + 1) {
            Some((at, _)) => (index + 1, due + (*at - self.words[index].0)),
            None => (0, due),
        }
    }
}

/// A chunk of another stream, from this step on, acted with another snapshot.
fn again(chunk: &Chunk, who: Who, first_step: u64, [version, update]: [u64; 2]) -> Chunk {
    let stream = StreamId { actor: who.actor, generation: who.generation, env: chunk.stream.env };
    let mut columns = chunk.columns.clone();
    for (name, value) in [(VERSION, version), (UPDATE, update)] {
        columns.insert(name.into(), Array::u64(&[chunk.len()], &vec![value; chunk.len()]));
    }
    Chunk { stream, first_step, columns }
}
