//! Where actors come in: the launcher asks, a door opens, whoever comes is checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam::channel::Sender;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::config::Config;
use shared::trace;
use shared::wire::{Doorway, Hello, LinkReceiver, LinkSender, ToActor, ToLearner, Visitor, WireError};

use crate::desk::{Ask, Reply, Task};
use crate::evaluation::{EVALUATION_ACTOR, FromEvaluator, ToEvaluator, serve};
use crate::ingest::Arrival;
use crate::launch::{Notice, Order, is_here};
use crate::links::Link;
use crate::run::Run;

/// How often orders are waited for before the launcher's life is looked at.
const PATIENCE: Duration = Duration::from_millis(100);

/// Lets actors in until it is closed.
pub struct Doors {
    inner: Arc<Inner>,
}

struct Inner {
    run: Arc<Run>,
    notices: LinkSender<Notice>,
    arrivals: Mutex<Option<Sender<Arrival>>>,
}

/// Who is expected at a door.
#[derive(Clone, Copy)]
struct Expected {
    actor: u32,
    generation: u32,
}

impl Doors {
    /// Follow the launcher's orders from a thread of its own. `gone` is raised when the launcher has gone.
    pub fn open(
        run: &Arc<Run>,
        notices: LinkSender<Notice>,
        orders: LinkReceiver<Order>,
        arrivals: Sender<Arrival>,
        gone: Arc<AtomicBool>,
    ) -> Self {
        let inner = Arc::new(Inner { run: run.clone(), notices, arrivals: Mutex::new(Some(arrivals)) });
        let following = inner.clone();
        thread::spawn(move || following.follow(&orders, &gone));
        Self { inner }
    }

    /// Nobody comes in any more.
    pub fn close(&self) {
        self.inner.arrivals.lock().take();
    }
}

impl Inner {
    fn follow(self: &Arc<Self>, orders: &LinkReceiver<Order>, gone: &AtomicBool) {
        loop {
            match orders.recv_timeout(PATIENCE) {
                Ok(incoming) => match incoming.message {
                    Order::Invite { actor } => self.invite(Expected { actor, generation: self.next_generation(actor) }),
                    Order::Readmit { actor, generation } => self.invite(Expected { actor, generation }),
                    Order::Dismiss { actor } => self.dismiss(actor),
                    Order::InviteEvaluator => self.invite_evaluator(),
                    Order::Asked { number, ask } => self.asked(ask, Reply::new(number, self.notices.clone())),
                    Order::Stop { reason } => self.run.stop(reason),
                },
                Err(WireError::Timeout { .. }) if !gone.load(Ordering::Acquire) => {}
                Err(WireError::Decode { message, .. }) => {
                    self.run.refuse(format!("an order was not understood: {message}"))
                }
                Err(_) => return self.run.stop("the launcher has gone"),
            }
        }
    }

    /// One that has not come yet is asked again by the launcher.
    fn dismiss(&self, actor: u32) {
        if let Some(link) = self.run.links.get(actor) {
            link.dismiss(self.run.config.actor.envs as u32);
        }
    }

    fn asked(&self, ask: Ask, reply: Reply) {
        let run = &self.run;
        match ask {
            Ask::Pause if run.config.lockstep() => {
                reply.refused("a run in lockstep is not paused: its two sides wait for each other".into());
            }
            Ask::Pause => {
                self.pause(true);
                run.desk.leave(Task::Rest(reply));
            }
            Ask::Resume => {
                self.pause(false);
                reply.done("the run goes on".into());
            }
            Ask::Trace { seconds } => self.trace(seconds, reply),
            Ask::Checkpoint => run.desk.leave(Task::Checkpoint(reply)),
            Ask::Options(text) => {
                let options = Config::from_toml(&text).map_err(|e| e.to_string());
                match options.and_then(|options| run.set_options(options).map_err(|e| e.to_string())) {
                    Ok(()) => reply.done("changed".into()),
                    Err(why) => reply.refused(why),
                }
            }
        }
    }

    /// The answer, when it is written, names the processes that record; the launcher has begun on its own. Those of other hosts do not:
    /// their files would be there.
    fn trace(&self, seconds: f64, reply: Reply) {
        let (run, mut links) = (&self.run, self.run.links.all());
        links.retain(|link| is_here(link.actor));
        let mut names: Vec<String> = links.iter().map(|link| actor::name(link.actor)).collect();
        let (sender, result) = crossbeam::channel::bounded(1);
        let length = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        if let Err(error) = trace::record(&run.dir, "learner", length, move |end| drop(sender.send(end))) {
            return reply.refused(error.to_string());
        }
        links.iter().for_each(|link| link.trace(&run.dir, seconds));
        if run.evaluations.trace(seconds) {
            names.push(EVALUATION_ACTOR.into());
        }
        thread::spawn(move || match result.recv() {
            Ok(Ok(())) => reply.done(format!("launcher learner {}", names.join(" "))),
            Ok(Err(error)) => reply.refused(format!("the learner's trace is not written: {error}")),
            Err(gone) => reply.refused(gone.to_string()),
        });
    }

    fn pause(&self, on: bool) {
        self.run.limiter.pause(on);
        self.run.links.all().iter().for_each(|link| link.pause(on));
    }

    fn invite(self: &Arc<Self>, expected: Expected) {
        if self.run.is_stopping() {
            return;
        }
        let Expected { actor, generation } = expected;
        let door = match Doorway::open() {
            Ok(door) => door,
            Err(error) => {
                let (door, reason) = (String::new(), error.to_string());
                return self.tell(&Notice::NotJoined { actor, generation, door, reason });
            }
        };
        let name = door.name().to_string();
        self.tell(&Notice::Invitation { actor, generation, door: name.clone() });
        let inner = self.clone();
        thread::spawn(move || {
            let notice = match inner.admit(door, expected) {
                Ok(()) => Notice::Joined { actor },
                Err(reason) => Notice::NotJoined { actor, generation, door: name, reason },
            };
            inner.tell(&notice);
        });
    }

    /// The evaluation actor gets in by a door of its own and is spoken with by the thread that let it in.
    fn invite_evaluator(self: &Arc<Self>) {
        if self.run.is_stopping() {
            return;
        }
        let opened = match Doorway::open() {
            Ok(opened) => opened,
            Err(error) => {
                let (door, reason) = (String::new(), error.to_string());
                return self.tell(&Notice::EvaluatorNotJoined { door, reason });
            }
        };
        let door = opened.name().to_string();
        self.tell(&Notice::EvaluatorInvitation { door: door.clone() });
        let inner = self.clone();
        thread::spawn(move || {
            inner.tell(&match inner.admit_evaluator(opened) {
                Ok(()) => Notice::EvaluatorLost { door },
                Err(reason) => Notice::EvaluatorNotJoined { door, reason },
            });
        });
    }

    fn admit_evaluator(&self, door: Doorway) -> Result<(), String> {
        let visitor: Visitor<FromEvaluator, ToEvaluator> = self.wait_at(door)?;
        let FromEvaluator::Hello { token, pid, binary } = &visitor.first else {
            let reason = "a visitor that did not introduce itself";
            self.run.refuse(format!("refused at the door of the evaluation actor: {reason}"));
            return Err(reason.into());
        };
        if let Err(reason) = check_process(&self.run.token, (token, "the evaluation actor"), *pid, binary) {
            self.run.refuse(format!("refused at the door of the evaluation actor: {reason}"));
            // The refused one may have gone already.
            let _ = visitor.sender.send(&ToEvaluator::Refused { reason: reason.clone() });
            return Err(reason);
        }
        serve(&self.run, &visitor, *pid);
        Ok(())
    }

    /// Wait for somebody who was invited. One that comes and says what is no message is a stranger, too.
    fn wait_at<In, Out>(&self, door: Doorway) -> Result<Visitor<In, Out>, String>
    where
        In: DeserializeOwned,
        Out: Serialize,
    {
        door.accept(self.limit()).map_err(|error| {
            if matches!(error, WireError::Decode { .. } | WireError::Malformed { .. }) {
                self.run.refuse(format!("refused at a door: {error}"));
            }
            error.to_string()
        })
    }

    /// How long somebody who was invited may take to come.
    fn limit(&self) -> Duration {
        Duration::try_from_secs_f64(self.run.config.sync.join_timeout).unwrap_or(Duration::from_secs(60))
    }

    /// A restarted actor opens new streams: its generation is higher than any before, over all resumes.
    fn next_generation(&self, actor: u32) -> u32 {
        let mut totals = self.run.totals.lock();
        let generations = &mut totals.counters.generations;
        let next = generations.get(&actor).map_or(0, |generation| generation + 1);
        generations.insert(actor, next);
        next
    }

    fn admit(&self, door: Doorway, expected: Expected) -> Result<(), String> {
        let name = door.name().to_string();
        let visitor: Visitor<ToLearner, ToActor> = self.wait_at(door)?;
        let published = self.run.counters().version;
        let hello = match check(&self.run.token, (expected, published), &visitor.first) {
            Ok(hello) => hello.clone(),
            Err(reason) => {
                self.run.refuse(format!("refused at the door of actor {}: {reason}", expected.actor));
                // The refused one may have gone already.
                let _ = visitor.sender.send(&ToActor::Refused { reason: reason.clone() });
                return Err(reason);
            }
        };
        let arrivals = self.arrivals.lock().clone().ok_or("the run is ending")?;
        let Expected { actor, generation } = expected;
        let notices = self.notices.clone();
        // A launcher that has gone is noticed by whoever follows its orders.
        let lost = move || drop(notices.send(&Notice::Lost { actor, generation, door: name }));
        Link::open(&self.run, &hello, visitor, arrivals, lost).map_err(|e| e.to_string())
    }

    /// A launcher that has gone is noticed by whoever follows its orders.
    fn tell(&self, notice: &Notice) {
        let _ = self.notices.send(notice);
    }
}

/// Whether a process has the run's secret and is of this version.
fn check_process(token: &str, (shown, name): (&str, &str), pid: u32, binary: &str) -> Result<(), String> {
    let own = env!("CARGO_PKG_VERSION");
    if shown != token {
        return Err(format!("process {pid}, which calls itself {name}, does not have the run's token"));
    }
    if binary != own {
        return Err(format!("process {pid} is of version {binary}, the learner of {own}"));
    }
    Ok(())
}

/// Whether it is who is expected, and has acted with nothing newer than what was published.
fn check<'a>(token: &str, (expected, published): (Expected, u64), first: &'a ToLearner) -> Result<&'a Hello, String> {
    let ToLearner::Hello(hello) = first else { return Err("a visitor that did not introduce itself".into()) };
    check_process(token, (&hello.token, &format!("actor {}", hello.actor)), hello.pid, &hello.binary)?;
    if (hello.actor, hello.generation) != (expected.actor, expected.generation) {
        return Err(format!("actor {} came to another actor's door", hello.actor));
    }
    if hello.version > published {
        return Err(format!("it holds version {}, but the newest that is known here is {published}", hello.version));
    }
    Ok(hello)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_refused_and_named() {
        let hello = |token: &str, actor| Hello {
            token: token.into(),
            actor,
            generation: 2,
            pid: 77,
            binary: env!("CARGO_PKG_VERSION").into(),
            version: 5,
        };
        let expected = (Expected { actor: 1, generation: 2 }, 5);
        let ask = |hello: Hello| check("secret", expected, &ToLearner::Hello(Box::new(hello))).map(drop);
        assert_eq!(ask(hello("secret", 1)), Ok(()));
        assert!(ask(hello("guess", 1)).unwrap_err().contains("process 77"));
        assert!(ask(hello("secret", 0)).is_err());
        assert!(ask(Hello { binary: "0".into(), ..hello("secret", 1) }).unwrap_err().contains("version"));
        assert!(ask(Hello { version: 6, ..hello("secret", 1) }).unwrap_err().contains("version 6"));
        assert!(check("secret", expected, &ToLearner::Goodbye { reason: String::new(), steps: vec![] }).is_err());
    }
}
