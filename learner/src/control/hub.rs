//! Between whoever asks or watches and the launcher's loop.

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use shared::metrics::{Report, StartReport};

use super::{Answer, Request, Word};

/// Words that may wait for a watcher before it misses some.
const WAITING: usize = 16;

/// A request under way to the launcher's loop.
pub struct Asked {
    /// What is asked for.
    pub request: Request,
    /// Where the answer goes.
    pub answer: Sender<Answer>,
}

/// What the launcher's loop knows and hears, for threads beside it. Clones are one hub.
#[derive(Clone)]
pub struct Hub {
    asks: Sender<Asked>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    start: Option<Arc<StartReport>>,
    last: Option<Arc<Report>>,
    watchers: Vec<Sender<Arc<Word>>>,
}

impl Hub {
    /// A hub, and what the launcher's loop hears of it.
    pub fn new() -> (Self, Receiver<Asked>) {
        let (asks, asked) = bounded(64);
        (Self { asks, state: Arc::default() }, asked)
    }

    /// Ask, and wait until it has taken effect.
    pub fn ask(&self, request: Request) -> Answer {
        let (answer, answered) = bounded(1);
        let gone = || Answer::Refused("the run has ended".into());
        match self.asks.send(Asked { request, answer }) {
            Ok(()) => answered.recv().unwrap_or_else(|_| gone()),
            Err(_) => gone(),
        }
    }

    /// Words from now on, beginning with what is known. One that is not read in time is missed.
    pub fn watch(&self) -> Receiver<Arc<Word>> {
        let (sender, receiver) = bounded(WAITING);
        let mut state = self.state.lock();
        let start = state.start.iter().map(|start| Word::Start(Box::new((**start).clone())));
        let known = start.chain(state.last.iter().map(|report| Word::Report(Box::new((**report).clone()))));
        known.for_each(|word| drop(sender.try_send(Arc::new(word))));
        state.watchers.push(sender);
        receiver
    }

    /// What runs, once the learner has loaded.
    pub fn start(&self) -> Option<Arc<StartReport>> {
        self.state.lock().start.clone()
    }

    /// How the run went last.
    pub fn last(&self) -> Option<Arc<Report>> {
        self.state.lock().last.clone()
    }

    /// Tell everybody.
    pub fn tell(&self, word: Word) {
        let mut state = self.state.lock();
        match &word {
            Word::Start(start) => state.start = Some(Arc::new((**start).clone())),
            Word::Report(report) => state.last = Some(Arc::new((**report).clone())),
            Word::End(_) => {}
        }
        let word = Arc::new(word);
        state.watchers.retain(|watcher| !matches!(watcher.try_send(word.clone()), Err(TrySendError::Disconnected(_))));
    }
}
