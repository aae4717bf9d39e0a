//! The actor process: join, act until told to stop, say goodbye.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crossbeam::channel::Receiver;
use shared::config::Config;
use shared::env::Spaces;
use shared::experience::StreamId;
use shared::trace;
use shared::wire::{Bulk, Hello, Incoming, LinkReceiver, LinkSender, ToActor, ToLearner, Waiting, Welcome, knock};

use crate::act_loop::ActLoop;
use crate::env::Interrupt;
use crate::meter::{Meter, Part};
use crate::receiver::{self, Blueprint, Inbox, Policy};
use crate::recorder::Recorder;
use crate::scheduler::Scheduler;
use crate::{ActorError, Features, env, wire};

/// Environment variable with the run's token; not an argument, which everybody on the machine could read.
pub const TOKEN_VAR: &str = "LUCID_TOKEN";
/// How long to wait for news from the learner before looking around again.
const PATIENCE: Duration = Duration::from_millis(100);

/// What an actor process is started with.
#[derive(Clone, Debug)]
pub struct Args {
    /// Name of the doorway.
    pub join: String,
    /// The run's token.
    pub token: String,
    /// Index of the actor.
    pub actor: u32,
    /// How often it was started before.
    pub generation: u32,
    /// How long the learner may take to answer.
    pub timeout: Duration,
    /// Names of further doorways, each of a learner that has taken the place of one that died.
    pub doors: Receiver<String>,
}

/// The whole life of an actor process.
pub fn run(args: &Args) -> Result<(), ActorError> {
    let (sender, link, welcome, encoder) = join(args, &args.join, 0)?;
    let Kit { config, features, blueprint } = Kit::new(&welcome, encoder)?;
    let inbox = Arc::new(Inbox::default());
    // In lockstep a learner's successor begins a round of its own.
    let (reply, stays) = (sender.clone(), !config.lockstep());
    let (args, obs) = (args.clone(), welcome.env_obs.clone());
    let receiver =
        receiver::Receiver { link, reply, args: args.clone(), blueprint, welcome, stays, inbox: inbox.clone() };
    thread::Builder::new().name("receiver".into()).spawn(move || receiver.run())?;
    trace::name_thread("act");
    Session::new(&args, &config, obs, features, sender, inbox)?.run()
}

/// What a process that acts makes of its welcome.
pub struct Kit {
    /// Options of the run.
    pub config: Config,
    /// What turns observations of environments into those of the agent.
    pub features: Features,
    /// How policies are built.
    pub blueprint: Blueprint,
}

impl Kit {
    /// From a welcome and the frozen encoder's region beside it. Kernels have as many threads as the config says from now on.
    pub fn new(welcome: &Welcome, encoder: Bulk) -> Result<Self, ActorError> {
        let config = Config::from_toml(&welcome.config)?;
        let threads = config.actor.threads.max(1);
        // Fails only where a pool exists already, which then serves.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        let sizes = welcome.vit.as_deref().map(Features::sizes).transpose()?;
        let features = Features::mapped(&config.vit, welcome.agent_obs.clone(), sizes.as_ref(), encoder, threads)?;
        let blueprint = Blueprint {
            config: config.acting_through(sizes.as_ref(), &welcome.env_obs)?,
            obs: welcome.agent_obs.clone(),
            act: welcome.act.clone(),
            layout: welcome.layout,
        };
        Ok(Self { config, features, blueprint })
    }
}

type Joined = (LinkSender<ToLearner>, LinkReceiver<ToActor>, Box<Welcome>, Bulk);

/// Go through a door. `version`: the newest snapshot that was acted with.
pub(crate) fn join(args: &Args, door: &str, version: u64) -> Result<Joined, ActorError> {
    let hello = ToLearner::Hello(Box::new(Hello {
        token: args.token.clone(),
        actor: args.actor,
        generation: args.generation,
        pid: std::process::id(),
        binary: env!("CARGO_PKG_VERSION").into(),
        version,
    }));
    let (sender, receiver) = knock(door, &hello).map_err(wire("knocking at the learner's door"))?;
    let answer: Incoming<ToActor> =
        receiver.recv_timeout(args.timeout).map_err(wire("waiting for the learner's welcome"))?;
    match answer.message {
        ToActor::Welcome(welcome) => Ok((sender, receiver, welcome, answer.bulk)),
        ToActor::Refused { reason } => Err(ActorError::Refused { reason }),
        _ => Err(ActorError::Order { wanted: "a welcome" }),
    }
}

/// Name of an actor's process, among files and threads.
pub fn name(actor: u32) -> String {
    format!("actor-{actor}")
}

/// Seed of one environment stream: from the run's seed and the stream's identity, the same on every machine.
pub fn stream_seed(seed: u64, stream: StreamId) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    for part in [stream.actor, stream.generation, stream.env] {
        hasher.update(&part.to_le_bytes());
    }
    let hash = hasher.finalize();
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

struct Session {
    max_lag: u64,
    /// Whether a step waits for a snapshot that is new enough.
    waits: bool,
    inbox: Arc<Inbox>,
    acts: ActLoop,
    recorder: Recorder,
    meter: Meter,
}

impl Session {
    fn new(
        args: &Args,
        config: &Config,
        obs: Spaces,
        features: Features,
        sender: LinkSender<ToLearner>,
        inbox: Arc<Inbox>,
    ) -> Result<Self, ActorError> {
        let id = |env: usize| StreamId { actor: args.actor, generation: args.generation, env: env as u32 };
        let streams: Vec<StreamId> = (0..config.actor.envs.max(1)).map(id).collect();
        let seed = |stream: &StreamId| stream_seed(config.run.seed, *stream);
        let interrupt = Interrupt::default();
        let envs = env::make_all(&config.env, &streams.iter().map(seed).collect::<Vec<_>>(), &interrupt)?;
        let (task, noise) = (&config.env.task, stream_seed(config.run.seed, id(u32::MAX as usize)));
        let scheduler = match config.actor.wait_for {
            // In lockstep all streams are equally long.
            0 if config.lockstep() => Scheduler::together(envs),
            0 => Scheduler::leaving_behind(envs),
            wait_for => Scheduler::apart(task, envs, wait_for, interrupt)?,
        };
        Ok(Self {
            max_lag: config.sync.max_lag_updates,
            waits: config.sync.max_lag_mode == "hard",
            inbox,
            meter: Meter::new(streams.len()),
            acts: ActLoop::new(task, obs, scheduler, features, noise),
            recorder: Recorder::new(streams, config.actor.chunk, config.lockstep(), sender),
        })
    }

    fn run(mut self) -> Result<(), ActorError> {
        while !self.inbox.stopped() {
            if let Some(failure) = self.inbox.take_failure() {
                return Err(failure);
            }
            self.recorder.settle(&self.inbox)?;
            if let Some(features) = self.inbox.features.lock().take() {
                self.acts.see_through(features);
            }
            if self.inbox.paused() {
                self.meter.time(Part::Wait, || self.inbox.wait(PATIENCE));
                self.recorder.report(Waiting::Resume, &mut self.meter)?;
                continue;
            }
            if self.inbox.policy.newest().is_none() {
                self.wait_for_snapshot()?;
                continue;
            }
            self.recorder.begin(&self.inbox, &mut self.meter)?;
            if self.inbox.stopped() {
                break;
            }
            if !self.acts.wait(&mut self.meter)? {
                self.recorder.report(Waiting::Nothing, &mut self.meter)?;
                continue;
            }
            match self.policy() {
                Some((policy, lag)) => {
                    self.meter.acts(&policy, self.acts.ready(), lag, self.max_lag);
                    // A step holds one snapshot from its start to its end.
                    let acts = self.acts.act(&policy, &mut self.meter)?;
                    self.recorder.record(&acts, &self.inbox, &mut self.meter)?;
                    self.recorder.report(Waiting::Nothing, &mut self.meter)?;
                }
                None => self.wait_for_snapshot()?,
            }
        }
        self.recorder.flush(&self.inbox, &mut self.meter)?;
        self.recorder.goodbye("told to stop", &mut self.meter)
    }

    fn wait_for_snapshot(&mut self) -> Result<(), ActorError> {
        self.meter.time(Part::Wait, || self.inbox.wait(PATIENCE));
        self.recorder.report(Waiting::Snapshot, &mut self.meter)
    }

    /// The newest policy and its age in updates, unless there is none yet or it is too old.
    fn policy(&self) -> Option<(Arc<Policy>, u64)> {
        let policy = self.inbox.policy.newest()?;
        let lag = self.inbox.clock.load(Ordering::Acquire).saturating_sub(policy.update);
        (self.max_lag == 0 || !self.waits || lag <= self.max_lag).then_some((policy, lag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_has_a_seed_of_its_own_that_never_changes() {
        let id = |actor, generation, env| StreamId { actor, generation, env };
        let seeds = [id(0, 0, 0), id(1, 0, 0), id(0, 1, 0), id(0, 0, 1)].map(|s| stream_seed(7, s));
        for (i, a) in seeds.iter().enumerate() {
            assert!(seeds[i + 1..].iter().all(|b| a != b));
        }
        assert_eq!(stream_seed(7, id(0, 0, 0)), seeds[0]);
        assert_ne!(stream_seed(8, id(0, 0, 0)), seeds[0]);
    }
}
