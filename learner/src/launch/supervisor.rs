//! The launcher's loop: what the learner says, how children fare, what people want.

use std::io::IsTerminal;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, unbounded};
use shared::metrics::{HostReport, Report, StartReport};
use shared::trace::{self, span};
use shared::wire::{LinkReceiver, LinkSender, Visitor};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::actors::Actors;
use super::evaluator::Evaluator;
use super::hosts::{Gate, GateCame, HostNotice, HostOrder};
use super::learner::{Came, Learner};
use super::requests::Requests;
use super::temporary::Temporary;
use super::{Notice, Order, Resolved};
use crate::RunError;
use crate::control::{Asked, Hub, Socket, Word};
use crate::desk::Ask;
use crate::error::wire;
use crate::report::{Screen, complain, counted, say};
use crate::threads::{on_signals, spawn};
use crate::web::{Server, URL_FILE};

/// How often children are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long a learner may say nothing, which otherwise reports twice a second.
const SILENCE: Duration = Duration::from_secs(30);
/// How long actors may take to end once the learner has.
const FAREWELL: Duration = Duration::from_secs(5);

pub(super) enum Event {
    /// The learner came, or did not.
    Came(Came),
    /// The learner of this number said something.
    Said(u32, Notice),
    /// The gate came, or did not.
    GateCame(GateCame),
    /// The gate of this number said something.
    Gate(u32, HostNotice),
    /// Ctrl-C or a request to terminate.
    Signal(i32),
    /// Somebody asks for something.
    Asked(Asked),
}

impl From<Came> for Event {
    fn from(came: Came) -> Self {
        Self::Came(came)
    }
}

impl Event {
    /// What is done about it, in a trace.
    fn name(&self) -> &'static str {
        match self {
            Self::Came(_) => "greet the learner",
            Self::Said(..) => "hear the learner",
            Self::GateCame(_) => "greet the gate",
            Self::Gate(..) => "hear the gate",
            Self::Signal(_) => "stop",
            Self::Asked(_) => "take a request",
        }
    }
}

/// Run until the end. `extra`: arguments that only the learner understands.
pub fn supervise(resolved: &Resolved, extra: &[String]) -> Result<(), RunError> {
    if !cfg!(feature = "hosts") && !resolved.config.hosts.listen.is_empty() {
        let what = "hosts.listen is set, and this lucid was built without other hosts".into();
        return Err(RunError::Child { what, help: "build it with the feature `hosts`, or clear the option".into() });
    }
    trace::name_thread("supervise");
    // Without it, doors of killed processes stay in the system's folder for temporary files.
    let temporary = Temporary::open();
    if let Err(error) = &temporary {
        tracing::warn!("no folder for doors: {error}");
    }
    let (hub, asked) = Hub::new();
    // Some file systems have no sockets: the run goes on without.
    let socket = Socket::open(&resolved.dir, hub.clone());
    if let Err(error) = &socket {
        complain(format!("{error}; `lucid watch`, `scale` and the like will not reach this run"));
    }
    let page = page(resolved, &hub)?;
    let token = token();
    let (sender, events) = unbounded();
    let learner = Learner::start(resolved, &token, extra, &sender)?;
    watch_signals(sender.clone())?;
    pass_on(asked, sender.clone())?;
    let supervisor = Supervisor {
        resolved,
        hub,
        requests: Requests::new(resolved),
        screen: Screen::new(&resolved.config.log),
        last: Report::default(),
        actors: Actors::new(&resolved.config),
        evaluator: Evaluator::new(&resolved.config),
        token,
        learner,
        gate: Gate::new(resolved),
        hosts: Vec::new(),
        orders: None,
        ready: false,
        was_ready: false,
        paused: false,
        heard: Instant::now(),
        stopping: false,
        interrupted: false,
        outcome: None,
    };
    let result = supervisor.run(&events, &sender);
    drop((socket, page, temporary));
    result
}

/// Serve the page about the run, unless the config does without.
fn page(resolved: &Resolved, hub: &Hub) -> Result<Option<Server>, RunError> {
    let config = &resolved.config.web;
    if !config.enabled {
        return Ok(None);
    }
    let server = Server::open(config, &resolved.dir, hub.clone())?;
    let dir = resolved.dir.display();
    // Who reads a log is not always who may steer the run.
    if std::io::stdout().is_terminal() {
        say(format!("watch it at {} or with: lucid watch {dir}", server.url()));
    } else {
        say(format!(
            "watch it at {} ({dir}/{URL_FILE} has the whole address) or with: lucid watch {dir}",
            server.address()
        ));
    }
    Ok(Some(server))
}

fn pass_on(asked: Receiver<Asked>, events: Sender<Event>) -> Result<(), RunError> {
    spawn("requests", move || asked.into_iter().try_for_each(|asked| events.send(Event::Asked(asked))).unwrap_or(()))
}

/// 256 random bits that only processes of this run know.
fn token() -> String {
    let bytes: [u8; 32] = rand::random();
    blake3::Hash::from_bytes(bytes).to_hex().to_string()
}

fn watch_signals(events: Sender<Event>) -> Result<(), RunError> {
    on_signals(&[SIGINT, SIGTERM], move |signal| events.send(Event::Signal(signal)).is_ok())
}

pub(super) struct Supervisor<'a> {
    resolved: &'a Resolved,
    hub: Hub,
    pub(super) requests: Requests,
    pub(super) screen: Screen,
    pub(super) last: Report,
    pub(super) actors: Actors,
    evaluator: Evaluator,
    token: String,
    learner: Learner,
    gate: Gate,
    /// How other hosts fare.
    hosts: Vec<HostReport>,
    orders: Option<LinkSender<Order>>,
    /// The learner has loaded.
    pub(super) ready: bool,
    /// One has before.
    was_ready: bool,
    /// Somebody let the run rest.
    pub(super) paused: bool,
    /// When the learner was last heard of.
    heard: Instant,
    pub(super) stopping: bool,
    /// Ctrl-C was pressed once.
    interrupted: bool,
    outcome: Option<Result<String, String>>,
}

impl Supervisor<'_> {
    fn run(mut self, events: &Receiver<Event>, sender: &Sender<Event>) -> Result<(), RunError> {
        loop {
            let waiting = span("wait for news");
            let event = events.recv_timeout(TICK);
            drop(waiting);
            if let Ok(event) = event {
                self.handle(event, sender)?;
            }
            if let Some(status) = self.learner.ended() {
                // What it said last may still be on its way.
                while let Ok(event) = events.recv_timeout(TICK) {
                    self.handle(event, sender)?;
                }
                if !self.bring_learner_back(status) {
                    return self.end(status);
                }
            }
            if self.learner.is_away() && self.stopping {
                return self.end_without_learner();
            }
            self.learner.restart_if_due(self.resolved, &self.token, sender)?;
            self.notice_silence();
            self.look_after_gate(sender)?;
            self.look_after_actors()?;
            self.settle_requests();
        }
    }

    fn handle(&mut self, event: Event, sender: &Sender<Event>) -> Result<(), RunError> {
        let _span = span(event.name());
        match event {
            // One that has died meanwhile.
            Event::Came((number, _)) | Event::Said(number, _) if number != self.learner.number() => Ok(()),
            Event::Came((_, Ok(visitor))) => self.greet(visitor, sender),
            Event::Came((_, Err(error))) => Err(wire("waiting for the learner to start")(error)),
            Event::Said(_, notice) => {
                self.heard = Instant::now();
                self.hear(notice)
            }
            // One that has died meanwhile.
            Event::GateCame((number, _)) | Event::Gate(number, _) if number != self.gate.number() => Ok(()),
            Event::GateCame((_, Ok(visitor))) => self.greet_gate(visitor, sender),
            Event::GateCame((_, Err(error))) => {
                self.screen.warn(&format!("the gate for other hosts did not come: {error}"));
                Ok(())
            }
            Event::Gate(_, notice) => {
                self.hear_gate(notice);
                Ok(())
            }
            Event::Asked(asked) => {
                self.asked(asked);
                Ok(())
            }
            Event::Signal(SIGINT) if self.interrupted => Err(RunError::Interrupted { help: self.how_to_resume() }),
            // Schedulers of clusters repeat it.
            Event::Signal(_) if self.interrupted => Ok(()),
            Event::Signal(_) => {
                self.interrupted = true;
                self.screen.say("stopping: saving a checkpoint first; Ctrl-C again stops at once");
                self.stop("interrupted");
                Ok(())
            }
        }
    }

    fn greet(&mut self, visitor: Visitor<Notice, Order>, sender: &Sender<Event>) -> Result<(), RunError> {
        if !matches!(&visitor.first, Notice::Hello { token } if *token == self.token) {
            let what = "a stranger, not the learner, came through the learner's door".to_string();
            return Err(RunError::Child { what, help: "start the run again".into() });
        }
        self.orders = Some(visitor.sender);
        if self.stopping {
            self.stop("interrupted");
        }
        let (receiver, events): (LinkReceiver<Notice>, _) = (visitor.receiver, sender.clone());
        let number = self.learner.number();
        spawn("learner's notices", move || {
            while let Ok(incoming) = receiver.recv() {
                if events.send(Event::Said(number, incoming.message)).is_err() {
                    return;
                }
            }
        })
    }

    fn hear(&mut self, notice: Notice) -> Result<(), RunError> {
        match notice {
            Notice::Ready(start) => self.begin(start),
            Notice::Invitation { actor, generation, door } if !self.stopping => {
                self.actors.start(&self.resolved.dir, &self.token, actor, generation, &door)?;
            }
            Notice::NotJoined { actor, generation, door, reason } if !self.stopping => {
                if self.actors.not_joined(actor, generation, &door) {
                    self.screen.warn(&format!("actor {actor} has not joined: {reason}"));
                }
            }
            Notice::Lost { actor, generation, door } if !self.stopping => self.actors.lost(actor, generation, &door),
            Notice::EvaluatorInvitation { door } if !self.stopping => {
                self.evaluator.start(&self.resolved.dir, &self.token, &door)?;
            }
            Notice::EvaluatorLost { door } if !self.stopping => drop(self.evaluator.lost(&door)),
            Notice::EvaluatorNotJoined { door, reason } if !self.stopping => {
                if self.evaluator.lost(&door) {
                    self.screen.warn(&format!("the evaluation actor has not joined: {reason}"));
                }
            }
            Notice::Report(mut report) => {
                if let Some(evaluation) = &mut report.evaluation {
                    evaluation.restarts = self.evaluator.restarts();
                }
                self.actors.complete(&mut report.actors);
                report.hosts = self.actors.hosts(&self.hosts);
                report.learner_restarts = self.learner.number();
                let drawing = span("draw");
                self.screen.update(&report);
                drop(drawing);
                self.last = (*report).clone();
                self.hub.tell(Word::Report(report));
            }
            Notice::Joined { actor } => self.actors.joined(actor),
            Notice::Answered { number, answer } => self.answered(number, answer),
            Notice::Stopping => self.stopping = true,
            Notice::Done { reason } => self.outcome = Some(Ok(reason)),
            Notice::Failed { message } => self.outcome = Some(Err(message)),
            Notice::Hello { .. } | Notice::Invitation { .. } | Notice::NotJoined { .. } | Notice::Lost { .. } => {}
            Notice::EvaluatorInvitation { .. } | Notice::EvaluatorNotJoined { .. } | Notice::EvaluatorLost { .. } => {}
        }
        Ok(())
    }

    /// The learner has loaded. Those that lost another one are let in first.
    fn begin(&mut self, start: Box<StartReport>) {
        self.ready = true;
        if !std::mem::replace(&mut self.was_ready, true) {
            self.screen.start(&start);
        }
        self.hub.tell(Word::Start(start));
        if self.paused {
            // Nobody waits for the answer.
            self.order(&Order::Asked { number: 0, ask: Ask::Pause });
        }
        self.readmit();
    }

    /// Those that run and have lost the learner, or the way to it, are let in again.
    fn readmit(&mut self) {
        for (actor, generation) in self.actors.take_orphans() {
            self.order(&Order::Readmit { actor, generation });
        }
    }

    fn greet_gate(&mut self, visitor: Visitor<HostNotice, HostOrder>, sender: &Sender<Event>) -> Result<(), RunError> {
        if !matches!(&visitor.first, HostNotice::Hello { token } if *token == self.token) {
            self.screen.warn("a stranger, not the gate for other hosts, came through the gate's door");
            return Ok(());
        }
        self.gate.orders = Some(visitor.sender);
        let (receiver, events): (LinkReceiver<HostNotice>, _) = (visitor.receiver, sender.clone());
        let number = self.gate.number();
        spawn("gate's notices", move || {
            while let Ok(incoming) = receiver.recv() {
                if events.send(Event::Gate(number, incoming.message)).is_err() {
                    return;
                }
            }
        })
    }

    fn hear_gate(&mut self, notice: HostNotice) {
        match notice {
            HostNotice::Came { host, actors, running } => {
                let Some(orders) = self.gate.orders.clone() else { return };
                self.screen.say(&format!("host {host} is there, with {}", counted(actors.into(), "actor")));
                for who in self.actors.host_came(&host, actors, &running, &orders) {
                    // A gate that has gone is noticed by whoever watches it.
                    let _ = orders.send(&HostOrder::Kill { host: host.clone(), who });
                }
            }
            HostNotice::Gone { host, why } => {
                if self.actors.host_gone(&host) {
                    self.screen.warn(&format!("host {host} is away: {why}"));
                } else {
                    self.screen.say(&format!("host {host} has left"));
                }
            }
            HostNotice::Leaving { host } => {
                self.screen.say(&format!("host {host} leaves: its actors send what they have"));
                self.actors.host_leaves(&host);
            }
            HostNotice::Started { who, pid } => self.actors.host_started(who, pid),
            HostNotice::Ended { who, end } => self.actors.host_ended(who, end),
            HostNotice::Hosts(hosts) => self.hosts = hosts,
            HostNotice::Refused { what } => self.screen.warn(&format!("refused: {what}")),
            HostNotice::Hello { .. } => {}
        }
    }

    fn look_after_gate(&mut self, sender: &Sender<Event>) -> Result<(), RunError> {
        if self.stopping {
            return Ok(());
        }
        if let Some(news) = self.gate.watch() {
            self.screen.warn(&news);
            self.actors.hosts_gone();
            self.hosts.clear();
        }
        self.gate.start_if_due(self.resolved, &self.token, sender)
    }

    /// The learner has ended: have it started again if it died while it was at work. False if the run is over.
    fn bring_learner_back(&mut self, status: ExitStatus) -> bool {
        if self.stopping || self.outcome.is_some() || !self.was_ready {
            return false;
        }
        let Some(news) = self.learner.bring_back(status) else { return false };
        self.screen.warn(&news);
        (self.orders, self.ready) = (None, false);
        self.requests.learner_died();
        self.actors.orphan();
        self.evaluator.orphan();
        true
    }

    /// A learner that is stopped from outside, or stuck, says nothing.
    fn notice_silence(&mut self) {
        if self.ready && self.heard.elapsed() > SILENCE {
            self.heard = Instant::now();
            let pid = self.learner.process().pid();
            let seconds = SILENCE.as_secs();
            self.screen.warn(&format!("the learner (process {pid}) has said nothing for {seconds} s: is it stopped?"));
        }
    }

    fn look_after_actors(&mut self) -> Result<(), RunError> {
        let _span = span("look after actors");
        if !self.ready || self.stopping || self.outcome.is_some() {
            return Ok(());
        }
        for news in self.actors.watch()? {
            self.screen.warn(&news);
        }
        if let Some(news) = self.evaluator.watch() {
            self.screen.warn(&news);
        }
        if self.evaluator.due() {
            self.order(&Order::InviteEvaluator);
        }
        self.readmit();
        for actor in self.actors.due() {
            self.order(&Order::Invite { actor });
        }
        for actor in self.actors.unwanted() {
            self.order(&Order::Dismiss { actor });
        }
        Ok(())
    }

    pub(super) fn stop(&mut self, reason: &str) {
        self.stopping = true;
        self.order(&Order::Stop { reason: reason.into() });
    }

    /// If the learner cannot be told, it has ended, which the loop sees by itself.
    pub(super) fn order(&self, order: &Order) {
        if let Some(Err(error)) = self.orders.as_ref().map(|orders| orders.send(order)) {
            tracing::warn!("the learner does not hear: {error}");
        }
    }

    /// The learner has ended: see the actors out, and say how the run ended.
    fn end(mut self, status: ExitStatus) -> Result<(), RunError> {
        let deadline = Instant::now() + FAREWELL;
        while !(self.actors.all_ended() && self.evaluator.ended()) && Instant::now() < deadline {
            thread::sleep(TICK);
        }
        let outcome = self.outcome.take();
        self.gate.stop(if outcome.is_some() { "the run has ended" } else { "the run has broken off" });
        while !self.gate.ended() && Instant::now() < deadline {
            thread::sleep(TICK);
        }
        let how = match &outcome {
            Some(Ok(reason)) => format!("ended in order: {reason}"),
            Some(Err(message)) => message.clone(),
            None => format!("the learner ended: {status}"),
        };
        self.requests.end(matches!(outcome, Some(Ok(_))), &how);
        self.hub.tell(Word::End(how));
        match outcome {
            Some(Ok(reason)) if status.success() => {
                self.screen.finish(&self.last);
                say(format!("ended in order ({reason}); {}", self.how_to_resume()));
                Ok(())
            }
            Some(Err(message)) => Err(RunError::Learner { message, help: self.how_to_resume() }),
            _ => Err(RunError::Child {
                what: format!("the learner ended: {status}; its last lines:{}", self.learner.process().last_lines()),
                help: format!(
                    "its whole output is in {}; {}",
                    self.learner.process().log().display(),
                    self.how_to_resume()
                ),
            }),
        }
    }

    /// Asked to stop while there is none: what a checkpoint lacks is in the journal.
    fn end_without_learner(mut self) -> Result<(), RunError> {
        let how = "stopped while the learner was to be started again";
        self.requests.end(false, how);
        self.hub.tell(Word::End(how.into()));
        Err(RunError::Learner { message: how.into(), help: self.how_to_resume() })
    }

    fn how_to_resume(&self) -> String {
        format!("go on with: lucid train --run {}", self.resolved.dir.display())
    }
}
