//! What messages between hosts cost on this machine, for `lucid bench hosts`.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{bounded, unbounded};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::wire::{Bulk, LinkReceiver, ToLearner, pair};
use zenoh::Session;

use super::HostError;
use super::freight::Freight;
use super::line::{Listener, send_all};
use super::secrets::Authority;
use super::session::{Ear, Place, Urgency, Way, open};
use super::store::Store;
use super::words::{Up, key};
use crate::launch::Who;

/// Chunks that wait to be sent, as credits bound them.
const CREDITS: usize = 64;
/// How long sessions may take to find each other, and a snapshot to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
const WHO: Who = Who { actor: 10_000, generation: 0 };

/// A word as small as a chunk's head.
fn word() -> ToLearner {
    ToLearner::SnapshotTaken { version: 1, digest: 2 }
}

/// Chunks of so many bytes each second from one end of a link between processes to the other, as from an actor beside the learner.
pub fn beside(bytes: usize, time: Duration) -> Result<f64, HostError> {
    let (sender, receiver): (_, LinkReceiver<ToLearner>) = pair().map_err(HostError::way)?;
    let all = noise(bytes * CREDITS);
    thread::scope(|scope| {
        scope.spawn(move || all.chunks(bytes).cycle().try_for_each(|chunk| sender.send_bytes(&word(), chunk)));
        let (mut chunks, begun) = (0u64, Instant::now());
        while begun.elapsed() < time {
            receiver.recv().map_err(HostError::way)?;
            chunks += 1;
        }
        let rate = chunks as f64 / begun.elapsed().as_secs_f64();
        // The sender sees that nobody listens.
        drop(receiver);
        Ok(rate)
    })
}

/// The same from a relay to the gate, over this machine's own network.
pub fn far(bytes: usize, time: Duration, secure: bool) -> Result<f64, HostError> {
    let (gate, relays) = sessions(1, secure)?;
    let mut listener = Listener::<Up>::new(Ear::new(&gate, key("up", "bench"))?);
    let up = heard(Way::new(&relays[0], key("up", "bench"), Urgency::Words)?)?;
    let (queue, queued) = bounded(CREDITS);
    thread::scope(|scope| {
        scope.spawn(move || send_all(&up, &queued, || false, || Up::Nothing));
        // None is like the one before, so that they cannot be compressed together.
        let (feed, all) = (queue.clone(), noise(bytes * CREDITS));
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        scope.spawn(move || {
            for chunk in all.chunks(bytes).cycle() {
                if stop.load(Ordering::Acquire) || feed.send((Up::Said(WHO, word()), chunk.to_vec())).is_err() {
                    return;
                }
            }
        });
        drop(queue);
        let (mut chunks, begun) = (0usize, Instant::now());
        let mut result = Ok(());
        while begun.elapsed() < time && result.is_ok() {
            result = listener.recv(Duration::from_millis(100)).map(|words| chunks += words.len());
        }
        let rate = chunks as f64 / begun.elapsed().as_secs_f64();
        over.store(true, Ordering::Release);
        // What is under way must be taken, or the sender would wait.
        while listener.recv(Duration::from_millis(300)).is_ok_and(|words| !words.is_empty()) {}
        result.map_err(HostError::way)?;
        Ok(rate)
    })
}

/// Seconds from a publication until the last of so many relays has the whole snapshot in shared memory, for each of some rounds.
pub fn fan_out(bytes: usize, relays: usize, rounds: u64, secure: bool) -> Result<Vec<f64>, HostError> {
    let (gate, sessions) = sessions(relays, secure)?;
    let (arrived, arrivals) = unbounded();
    let mut freights = Vec::new();
    for (number, session) in sessions.iter().enumerate() {
        let ear = Ear::new(session, key("piece", &number.to_string()))?;
        let pieces = heard(Way::new(&gate, key("piece", &number.to_string()), Urgency::Pieces)?)?;
        let freight = Arc::new(Freight::default());
        freight.joined(WHO);
        freights.push(freight.clone());
        thread::spawn(move || freight.send_all(&pieces));
        let arrived = arrived.clone();
        thread::spawn(move || {
            let mut store = Store::new(PathBuf::new());
            // Until the session is closed.
            while let Some(message) = ear.recv(PATIENCE) {
                if matches!(store.take(&message), Ok(Some(_))) && arrived.send(number).is_err() {
                    return;
                }
            }
        });
    }
    let region = Arc::new(Bulk::Bytes(noise(bytes)));
    let mut taken = Vec::new();
    for version in 1..=rounds {
        let begun = Instant::now();
        for freight in &freights {
            freight.offered(WHO, version, version, region.clone());
        }
        for _ in 0..relays {
            let number = arrivals.recv_timeout(PATIENCE).map_err(|_| HostError::way("a snapshot did not arrive"))?;
            freights[number].arrived(version);
            freights[number].taken(WHO, version);
        }
        taken.push(begun.elapsed().as_secs_f64());
    }
    freights.iter().for_each(|freight| freight.close());
    Ok(taken)
}

/// Bytes that cannot be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    (0..length).map(|_| random.random()).collect()
}

/// A gate's session, and those of so many relays.
fn sessions(relays: usize, secure: bool) -> Result<(Session, Vec<Session>), HostError> {
    let folder = tempfile::tempdir().map_err(|source| HostError::File { path: std::env::temp_dir(), source })?;
    let authority = Authority::of_run(folder.path())?;
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(HostError::way)?;
    let address = free.to_string();
    let identity = secure.then(|| authority.gate()).transpose()?;
    let gate = open(&Place::Listen(&address), identity.as_ref())?;
    let relay = |number: usize| {
        let token = authority.token(&number.to_string(), &address)?;
        open(&Place::Connect(&address), secure.then_some(&token.identity))
    };
    let relays = (0..relays).map(relay).collect::<Result<_, _>>()?;
    Ok((gate, relays))
}

/// Once somebody listens.
fn heard(way_out: Way) -> Result<Way, HostError> {
    let deadline = Instant::now() + PATIENCE;
    match way_out.wait_until_heard(|| Instant::now() > deadline) {
        true => Ok(way_out),
        false => Err(HostError::way("the sessions did not find each other")),
    }
}
