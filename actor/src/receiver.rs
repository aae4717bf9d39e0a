//! What arrives from the learner: snapshots, credits, its clock, and the word to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use shared::config::AgentConfig;
use shared::dreamer::Acting;
use shared::env::Spaces;
use shared::params::Params;
use shared::snapshot::format::SnapshotView;
use shared::snapshot::{Store, digest};
use shared::trace::{self, span};
use shared::wire::{Bulk, Credits, LinkReceiver, LinkSender, ToActor, ToLearner, Welcome, WireError};

use crate::process::{Args, Kit, join};
use crate::{ActorError, Features, wire};

/// A policy to act with: networks that read one snapshot in place.
pub struct Policy {
    /// Version of the snapshot.
    pub version: u64,
    /// Updates the learner had made when it was taken.
    pub update: u64,
    /// When it arrived here.
    pub taken: Instant,
    /// The networks.
    pub acting: Acting,
}

/// What the act loop sees of the learner.
#[derive(Default)]
pub struct Inbox {
    /// The newest policy.
    pub policy: Store<Policy>,
    /// Chunks that may be sent.
    pub credits: Credits,
    /// Updates the learner has made, as far as it told.
    pub clock: AtomicU64,
    /// Chunks sent over this link that outlive the learner.
    pub stored: AtomicU64,
    /// What observations go through from the next step on, if that has changed.
    pub features: Mutex<Option<Features>>,
    stop: AtomicBool,
    pause: AtomicBool,
    rejoined: Mutex<Option<Rejoined>>,
    taken: Condvar,
    failure: Mutex<Option<ActorError>>,
    changed: Condvar,
}

/// The way to a learner that has taken the place of one that died.
pub struct Rejoined {
    /// Where experience goes.
    pub link: LinkSender<ToLearner>,
    /// Steps of each environment that it has.
    pub stored: Vec<u64>,
}

impl Inbox {
    /// Whether the learner said stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Whether the learner said pause and has not said go on.
    pub fn paused(&self) -> bool {
        self.pause.load(Ordering::Acquire)
    }

    /// What ended the receiver, once.
    pub fn take_failure(&self) -> Option<ActorError> {
        self.failure.lock().take()
    }

    /// The way to another learner, once. What the last one allowed and had stored is forgotten: nothing of the new one is heard before.
    pub fn take_rejoined(&self) -> Option<Rejoined> {
        let mut held = self.rejoined.lock();
        let rejoined = held.take()?;
        self.credits.reset();
        self.stored.store(0, Ordering::Release);
        self.taken.notify_all();
        Some(rejoined)
    }

    /// Wait until whoever records goes on with this.
    pub(crate) fn hand_over(&self, rejoined: Rejoined) {
        let mut held = self.rejoined.lock();
        *held = Some(rejoined);
        while held.is_some() {
            self.taken.wait(&mut held);
        }
    }

    /// Wait for any news, at most `limit`.
    pub fn wait(&self, limit: Duration) {
        let mut failure = self.failure.lock();
        if failure.is_none() && !self.stopped() {
            self.changed.wait_until(&mut failure, Instant::now() + limit);
        }
    }

    fn tell(&self, failure: Option<ActorError>) {
        let mut held = self.failure.lock();
        if failure.is_some() {
            *held = failure;
        }
        self.changed.notify_all();
    }
}

/// What policies are built from.
pub struct Blueprint {
    /// Options.
    pub config: AgentConfig,
    /// The agent's observation spaces.
    pub obs: Spaces,
    /// Action spaces.
    pub act: Spaces,
    /// Fingerprint that every snapshot must have.
    pub layout: u64,
}

impl Blueprint {
    /// A policy over a snapshot's region, with the digest of the weights it reads.
    pub fn build(&self, version: u64, bulk: Bulk) -> Result<(Policy, u64), ActorError> {
        let refuse = |message: String| ActorError::Snapshot { version, message };
        let view = SnapshotView::open(bulk.into_region()).map_err(|e| refuse(e.to_string()))?;
        if view.version() != version || view.fingerprint() != self.layout {
            return Err(refuse(format!(
                "its header says version {} and layout {:016x}, but version {version} and layout {:016x} were announced",
                view.version(),
                view.fingerprint(),
                self.layout
            )));
        }
        let params = Params::read_only(&[("", &view)])?;
        let acting = Acting::new(&self.config, &self.obs, &self.act, &params)?;
        Ok((Policy { version, update: view.update(), taken: Instant::now(), acting }, digest(&view)))
    }
}

/// Receives until the link closes, and then from the learner's successor; the thread's whole life.
pub struct Receiver {
    /// Where messages come from.
    pub link: LinkReceiver<ToActor>,
    /// Where snapshots are acknowledged.
    pub reply: LinkSender<ToLearner>,
    /// What this process was started with.
    pub args: Args,
    /// How to build policies.
    pub blueprint: Blueprint,
    /// What it was welcomed with.
    pub welcome: Box<Welcome>,
    /// Whether it stays when its learner dies.
    pub stays: bool,
    /// Who is told.
    pub inbox: Arc<Inbox>,
}

impl Receiver {
    /// Run until the run ends or something fails; the inbox is told.
    pub fn run(mut self) {
        let failure = loop {
            let Err(error) = self.next() else { continue };
            let died = matches!(error, ActorError::Wire { source: WireError::Closed, .. });
            if !died || !self.stays || self.inbox.stopped() {
                break error;
            }
            tracing::warn!("the learner has gone; acting goes on with what it allowed, until another one opens a door");
            if let Err(error) = self.rejoin() {
                break error;
            }
        };
        self.inbox.tell(Some(failure));
        self.inbox.credits.close();
    }

    /// Wait for a door of the learner's successor and go through it. If the launcher has gone, so has this process.
    fn rejoin(&mut self) -> Result<(), ActorError> {
        while let Ok(door) = self.args.doors.recv() {
            let version = self.inbox.policy.newest().map_or(0, |policy| policy.version);
            let (sender, link, welcome, encoder) = match join(&self.args, &door, version) {
                Err(error @ ActorError::Wire { .. }) => {
                    tracing::warn!("{error}; waiting for another door");
                    continue;
                }
                joined => joined?,
            };
            if *welcome != (Welcome { stored: welcome.stored.clone(), ..(*self.welcome).clone() }) {
                return Err(ActorError::Order { wanted: "the same run as before" });
            }
            // The encoder is in memory once: in that of the new learner.
            *self.inbox.features.lock() = Some(Kit::new(&welcome, encoder)?.features);
            (self.link, self.reply) = (link, sender.clone());
            self.inbox.clock.store(0, Ordering::Release);
            self.inbox.pause.store(false, Ordering::Release);
            self.inbox.hand_over(Rejoined { link: sender, stored: welcome.stored.clone() });
            tracing::info!("joined another learner");
            return Ok(());
        }
        Err(wire("waiting for another learner")(WireError::Closed))
    }

    fn next(&self) -> Result<(), ActorError> {
        let incoming = match self.link.recv() {
            Err(WireError::Decode { bytes, message }) => {
                tracing::warn!("a message of {bytes} bytes from the learner was not understood: {message}");
                return Ok(());
            }
            other => other.map_err(wire("listening to the learner"))?,
        };
        let _span = span("message");
        match incoming.message {
            ToActor::Snapshot { version, update } => {
                self.inbox.clock.fetch_max(update, Ordering::Release);
                if let Some(held) = self.inbox.policy.newest().filter(|held| held.version >= version) {
                    let message = format!("version {} is acted with already", held.version);
                    return Err(ActorError::Snapshot { version, message });
                }
                let (policy, digest) = self.blueprint.build(version, incoming.bulk)?;
                self.inbox.policy.swap(Arc::new(policy));
                let taken = ToLearner::SnapshotTaken { version, digest };
                self.reply.send(&taken).map_err(wire("acknowledging a snapshot"))?;
            }
            ToActor::Credits { count, stored } => {
                self.inbox.stored.fetch_max(stored, Ordering::Release);
                self.inbox.credits.add(count);
            }
            ToActor::Clock { update } => drop(self.inbox.clock.fetch_max(update, Ordering::Release)),
            ToActor::Pause { on } => self.inbox.pause.store(on, Ordering::Release),
            ToActor::Trace { run, seconds } => trace::record_aside(&run, &crate::name(self.args.actor), seconds),
            ToActor::Stop => self.inbox.stop.store(true, Ordering::Release),
            ToActor::Refused { reason } => return Err(ActorError::Refused { reason }),
            ToActor::Welcome(_) => return Err(ActorError::Order { wanted: "snapshots, credits or stop" }),
        }
        self.inbox.tell(None);
        Ok(())
    }
}
