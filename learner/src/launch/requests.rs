//! What people ask of a run while it goes on, from the question to the answer: an answer is given when it is so.

use std::time::Duration;

use crossbeam::channel::Sender;
use shared::config::Config;
use shared::trace;

use super::supervisor::Supervisor;
use super::{Order, Resolved};
use crate::RunError;
use crate::control::{Answer, Asked, Request};
use crate::desk::{Ask, changed};

/// More processes than this on one machine are a slip of the finger.
const MOST: usize = 4096;

/// Longer traces hold too much to look at, seconds.
const LONGEST_TRACE: f64 = 600.0;

/// Requests that are not answered yet.
pub struct Requests {
    /// The run folder's config as it is now.
    resolved: Resolved,
    asked: u64,
    /// Answered by the learner.
    learner: Vec<Waiting>,
    /// Answered when so many actors are there.
    scale: Option<Sender<Answer>>,
    /// Answered at the end.
    stop: Vec<Sender<Answer>>,
}

/// A request that the learner answers.
struct Waiting {
    number: u64,
    answer: Sender<Answer>,
    /// What the run folder's config becomes when it is done.
    options: Option<Config>,
}

impl Requests {
    /// None so far.
    pub fn new(resolved: &Resolved) -> Self {
        Self { resolved: resolved.clone(), asked: 0, learner: Vec::new(), scale: None, stop: Vec::new() }
    }

    /// The run has ended: answer all that is left.
    pub fn end(&mut self, in_order: bool, how: &str) {
        for answer in self.stop.drain(..) {
            say(&answer, if in_order { Answer::Done(how.into()) } else { Answer::Refused(how.into()) });
        }
        let ended = || Answer::Refused(format!("the run has ended: {how}"));
        self.learner.drain(..).for_each(|waiting| say(&waiting.answer, ended()));
        self.scale.take().into_iter().for_each(|answer| say(&answer, ended()));
    }

    /// The learner has died: what it was asked is not done.
    pub fn learner_died(&mut self) {
        for waiting in self.learner.drain(..) {
            say(&waiting.answer, Answer::Refused("the learner died meanwhile and is started again: ask again".into()));
        }
    }

    /// Keep options in the run folder, so that the run is gone on with as it is now.
    fn keep(&mut self, options: Config) -> Result<(), RunError> {
        self.resolved.config = options;
        self.resolved.save()
    }
}

/// Whoever asked may have gone.
fn say(to: &Sender<Answer>, answer: Answer) {
    let _ = to.send(answer);
}

impl Supervisor<'_> {
    /// Begin with what is asked for.
    pub(super) fn asked(&mut self, Asked { request, answer }: Asked) {
        if self.stopping && request != Request::Stop {
            return say(&answer, Answer::Refused("the run is ending".into()));
        }
        match request {
            Request::Scale { actors } => self.scale(actors, answer),
            Request::Pause => self.rest(true, answer),
            Request::Resume => self.rest(false, answer),
            Request::Checkpoint => self.ask_learner(Ask::Checkpoint, answer, None),
            Request::Set { key, value } => self.set(&key, &value, answer),
            Request::Trace { seconds } => self.trace(seconds, answer),
            Request::Stop => {
                self.requests.stop.push(answer);
                if !self.stopping {
                    self.screen.say("stopping, as asked: saving a checkpoint first");
                    self.stop("asked to stop");
                }
            }
            // Watchers are served where they come in.
            Request::Watch => say(&answer, Answer::Refused("a watcher asks for nothing else".into())),
        }
    }

    fn scale(&mut self, actors: usize, answer: Sender<Answer>) {
        let why = match () {
            () if actors == 0 => "at least one actor is needed; `lucid pause` lets a run rest".to_string(),
            () if actors > MOST => format!("{actors} processes on one machine are too many: at most {MOST}"),
            () if self.requests.resolved.config.lockstep() => "a run in lockstep has one actor".to_string(),
            () => String::new(),
        };
        if !why.is_empty() {
            return say(&answer, Answer::Refused(why));
        }
        if let Some(earlier) = self.requests.scale.replace(answer) {
            say(&earlier, Answer::Refused(format!("somebody asked for {actors} actors before it was so")));
        }
        self.actors.scale(actors);
    }

    /// Remembered for a learner that takes the place of this one.
    fn rest(&mut self, paused: bool, answer: Sender<Answer>) {
        if self.ready {
            self.paused = paused;
        }
        self.ask_learner(if paused { Ask::Pause } else { Ask::Resume }, answer, None);
    }

    fn set(&mut self, key: &str, value: &str, answer: Sender<Answer>) {
        let options = changed(&self.requests.resolved.config, key, value);
        match options.and_then(|options| Ok((options.to_toml().map_err(|e| e.to_string())?, options))) {
            Ok((text, options)) => self.ask_learner(Ask::Options(text), answer, Some(options)),
            Err(why) => say(&answer, Answer::Refused(why)),
        }
    }

    fn trace(&mut self, seconds: f64, answer: Sender<Answer>) {
        if !(seconds > 0.0 && seconds <= LONGEST_TRACE) {
            let why = format!("a trace of {seconds} s: more than 0 and at most {LONGEST_TRACE} are possible");
            return say(&answer, Answer::Refused(why));
        }
        if self.ready {
            let (run, length) = (&self.requests.resolved.dir, Duration::from_secs_f64(seconds));
            if let Err(error) = trace::record(run, "launcher", length, trace::log) {
                return say(&answer, Answer::Refused(error.to_string()));
            }
        }
        self.ask_learner(Ask::Trace { seconds }, answer, None);
    }

    fn ask_learner(&mut self, ask: Ask, answer: Sender<Answer>, options: Option<Config>) {
        if !self.ready {
            return say(&answer, Answer::Refused("the learner is still loading: ask again in a moment".into()));
        }
        self.requests.asked += 1;
        let number = self.requests.asked;
        self.requests.learner.push(Waiting { number, answer, options });
        self.order(&Order::Asked { number, ask });
    }

    /// The learner has answered.
    pub(super) fn answered(&mut self, number: u64, answer: Answer) {
        let learner = &mut self.requests.learner;
        let Some(at) = learner.iter().position(|waiting| waiting.number == number) else { return };
        let waiting = learner.remove(at);
        let kept = match (&answer, waiting.options) {
            (Answer::Done(_), Some(options)) => self.requests.keep(options),
            _ => Ok(()),
        };
        let answer = match kept {
            Ok(()) => answer,
            Err(error) => Answer::Refused(format!("in effect until the run ends, but not kept for later: {error}")),
        };
        say(&waiting.answer, answer);
    }

    /// Answer what has become so: actors have joined and hold a snapshot, the others have ended.
    pub(super) fn settle_requests(&mut self) {
        if self.requests.scale.is_none() || !self.actors.settled() {
            return;
        }
        let count = self.actors.wanted();
        let acting = self.last.actors_on(None).filter(|actor| actor.version > 0).count();
        if (acting, self.last.actors_on(None).count()) != (count, count) {
            return;
        }
        let mut options = self.requests.resolved.config.clone();
        options.actor.count = count;
        let answer = match self.requests.keep(options) {
            Ok(()) => Answer::Done(format!("{count} actors")),
            Err(error) => {
                Answer::Refused(format!("{count} actors until the run ends, but not kept for later: {error}"))
            }
        };
        self.requests.scale.take().into_iter().for_each(|to| say(&to, answer.clone()));
    }
}
