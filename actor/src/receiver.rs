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
use shared::wire::{Bulk, Credits, LinkReceiver, LinkSender, ToActor, ToLearner, WireError};

use crate::{ActorError, wire};

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
    stop: AtomicBool,
    pause: AtomicBool,
    failure: Mutex<Option<ActorError>>,
    changed: Condvar,
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

/// Receives until the link closes; the thread's whole life.
pub struct Receiver {
    /// Where messages come from.
    pub link: LinkReceiver<ToActor>,
    /// Where snapshots are acknowledged.
    pub reply: LinkSender<ToLearner>,
    /// Index of this actor.
    pub index: u32,
    /// How to build policies.
    pub blueprint: Blueprint,
    /// Who is told.
    pub inbox: Arc<Inbox>,
}

impl Receiver {
    /// Run until the link closes or something fails; the inbox is told.
    pub fn run(self) {
        let failure = loop {
            if let Err(error) = self.next() {
                break error;
            }
        };
        self.inbox.tell(Some(failure));
        self.inbox.credits.close();
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
            ToActor::Credits { count } => self.inbox.credits.add(count),
            ToActor::Clock { update } => drop(self.inbox.clock.fetch_max(update, Ordering::Release)),
            ToActor::Pause { on } => self.inbox.pause.store(on, Ordering::Release),
            ToActor::Trace { run, seconds } => trace::record_aside(&run, &crate::name(self.index), seconds),
            ToActor::Stop => self.inbox.stop.store(true, Ordering::Release),
            ToActor::Refused { reason } => return Err(ActorError::Refused { reason }),
            ToActor::Welcome(_) => return Err(ActorError::Order { wanted: "snapshots, credits or stop" }),
        }
        self.inbox.tell(None);
        Ok(())
    }
}
