//! One direction between a relay and the gate: words in order, none missing and none twice, or the line is broken and both ends know.
//!
//! The network may lose what was under way when a connection breaks, and says nothing: each packet has a number, and each end speaks at
//! least once a second.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::packet::{pack, unpack};
use super::session::{Ear, Way};

/// How often an end speaks that has nothing to say.
const BEAT: Duration = Duration::from_secs(1);
/// How long an end may say nothing before the line counts as broken.
const SILENCE: Duration = Duration::from_secs(10);
/// Most words in a packet, and most bytes beside them, unless one word alone has more.
const MOST: (usize, usize) = (64, 256 << 10);

/// A word with what lies beside it.
pub type Word<W> = (W, Vec<u8>);

/// Send what is queued, as long as somebody can queue something and until the line is given up, and then what was queued before that;
/// `beat` is said once a second. Returns why sending ended.
pub fn send_all<W: Serialize>(
    way: &Way,
    queue: &Receiver<Word<W>>,
    given_up: impl Fn() -> bool,
    beat: impl Fn() -> W,
) -> String {
    let (mut number, mut due) = (0, Instant::now());
    loop {
        let wait = if given_up() { Duration::ZERO } else { due.saturating_duration_since(Instant::now()) };
        let first = match queue.recv_timeout(wait) {
            Ok(word) => Some(word),
            Err(RecvTimeoutError::Timeout) if given_up() => return "it was given up".into(),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return "it was closed here".into(),
        };
        let (mut words, mut bytes) = (Vec::from_iter(first), 0);
        if Instant::now() >= due {
            words.push((beat(), Vec::new()));
            due = Instant::now() + BEAT;
        }
        while words.len() < MOST.0 && bytes < MOST.1 {
            let Ok(word) = queue.try_recv() else { break };
            bytes += word.1.len();
            words.push(word);
        }
        let sent = pack(number, words).map_err(|error| error.to_string());
        if let Err(why) = sent.and_then(|packet| way.send(packet).map_err(|error| error.to_string())) {
            return why;
        }
        number += 1;
    }
}

/// The receiving end.
pub struct Listener<W> {
    ear: Ear,
    next: u64,
    heard: Instant,
    bytes: u64,
    words: PhantomData<fn() -> W>,
}

impl<W: DeserializeOwned> Listener<W> {
    /// Of a line that begins.
    pub fn new(ear: Ear) -> Self {
        Self { ear, next: 0, heard: Instant::now(), bytes: 0, words: PhantomData }
    }

    /// For how long nothing was heard.
    pub fn silent(&self) -> Duration {
        self.heard.elapsed()
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next words, if some come in time; an error if the line is broken.
    pub fn recv(&mut self, limit: Duration) -> Result<Vec<Word<W>>, String> {
        let Some(bytes) = self.ear.recv(limit) else {
            let silent = self.heard.elapsed();
            return if silent < SILENCE {
                Ok(vec![])
            } else {
                Err(format!("nothing was heard for {} s", silent.as_secs()))
            };
        };
        self.heard = Instant::now();
        self.bytes += bytes.len() as u64;
        let packet = unpack(&bytes).map_err(|error| error.to_string())?;
        if packet.number != self.next {
            return Err(format!("packet {} came after {}: the network lost some", packet.number, self.next));
        }
        self.next += 1;
        Ok(packet.words)
    }
}
