//! The evaluation actor's process: joins, and plays when it is told to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actor::{ActorError, Blueprint, Features, Kit};
use shared::array::Array;
use shared::config::Config;
use shared::dreamer::Choice;
use shared::env::Spaces;
use shared::trace::{self, span};
use shared::wire::{Bulk, Incoming, LinkReceiver, LinkSender, WireError, knock};

use super::{EVALUATION_ACTOR, FILMED, FromEvaluator, Plan, Play, ToEvaluator};
use crate::RunError;
use crate::error::wire;
use crate::media::{Kind, Media, MediaError, Picture};

/// How long to wait for news from the learner before looking around again.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often progress is told.
const EVERY: Duration = Duration::from_millis(500);

/// What an evaluation actor is started with.
#[derive(Clone, Debug)]
pub struct Args {
    /// Name of the doorway.
    pub join: String,
    /// The run's token.
    pub token: String,
    /// Run folder.
    pub run: PathBuf,
    /// How long the learner may take to answer.
    pub timeout: Duration,
}

/// The whole life of the process.
pub fn run(args: &Args) -> Result<(), RunError> {
    trace::name_thread("evaluate");
    let (token, binary) = (args.token.clone(), env!("CARGO_PKG_VERSION").into());
    let hello = FromEvaluator::Hello { token, pid: std::process::id(), binary };
    let (sender, receiver) = knock(&args.join, &hello).map_err(wire("knocking at the learner's door"))?;
    let answer: Incoming<ToEvaluator> =
        receiver.recv_timeout(args.timeout).map_err(wire("waiting for the learner's welcome"))?;
    let welcome = match answer.message {
        ToEvaluator::Welcome(welcome) => welcome,
        ToEvaluator::Refused { reason } => return Err(ActorError::Refused { reason }.into()),
        _ => return Err(ActorError::Order { wanted: "a welcome" }.into()),
    };
    let Kit { config, features, blueprint } = Kit::new(&welcome, answer.bulk)?;
    Evaluator {
        choice: Choice::parse(&config.eval.actions).unwrap_or_default(),
        media: Media::of(&args.run, config.log.media_keep),
        run: args.run.clone(),
        obs: welcome.env_obs,
        features: Arc::new(features),
        paused: false,
        config,
        blueprint,
        sender,
        receiver,
    }
    .run()
}

struct Evaluator {
    config: Config,
    obs: Spaces,
    features: Arc<Features>,
    blueprint: Blueprint,
    choice: Choice,
    media: Media,
    run: PathBuf,
    paused: bool,
    sender: LinkSender<FromEvaluator>,
    receiver: LinkReceiver<ToEvaluator>,
}

/// What the learner wants.
enum Heard {
    Nothing,
    Evaluate { version: u64, step: u64, snapshot: Bulk },
    Stop,
}

impl Evaluator {
    fn run(mut self) -> Result<(), RunError> {
        loop {
            match self.hear(PATIENCE)? {
                Heard::Nothing => {}
                Heard::Evaluate { version, step, snapshot } => {
                    if !self.evaluate(version, step, snapshot)? {
                        return Ok(());
                    }
                }
                Heard::Stop => return Ok(()),
            }
        }
    }

    fn hear(&mut self, patience: Duration) -> Result<Heard, RunError> {
        let waiting = span("wait for the learner");
        let heard = self.receiver.recv_timeout(patience);
        drop(waiting);
        let incoming = match heard {
            Err(WireError::Timeout { .. }) => return Ok(Heard::Nothing),
            other => other.map_err(wire("listening to the learner"))?,
        };
        match incoming.message {
            ToEvaluator::Evaluate { version, step } => Ok(Heard::Evaluate { version, step, snapshot: incoming.bulk }),
            ToEvaluator::Pause { on } => {
                self.paused = on;
                Ok(Heard::Nothing)
            }
            ToEvaluator::Trace { seconds } => {
                trace::record_aside(&self.run, EVALUATION_ACTOR, seconds);
                Ok(Heard::Nothing)
            }
            ToEvaluator::Stop => Ok(Heard::Stop),
            ToEvaluator::Refused { reason } => Err(ActorError::Refused { reason }.into()),
            ToEvaluator::Welcome(_) => Err(ActorError::Order { wanted: "a snapshot, a pause or stop" }.into()),
        }
    }

    /// Play all episodes with one snapshot; false if told to stop.
    fn evaluate(&mut self, version: u64, step: u64, snapshot: Bulk) -> Result<bool, RunError> {
        let (mut policy, digest) = self.blueprint.build(version, snapshot)?;
        policy.acting = policy.acting.choosing(self.choice);
        let (eval, seed) = (&self.config.eval, self.config.run.seed);
        let plan = Plan { envs: eval.envs, episodes: eval.episodes, seed, film: eval.video };
        let mut play = Play::new(&self.config, self.obs.clone(), self.features.clone(), plan)?;
        let (start, mut told) = (Instant::now(), Instant::now());
        tracing::info!("evaluating version {version}");
        loop {
            match self.hear(if self.paused { PATIENCE } else { Duration::ZERO })? {
                Heard::Nothing if self.paused => continue,
                Heard::Nothing => {}
                Heard::Evaluate { .. } => return Err(ActorError::Order { wanted: "a pause or stop" }.into()),
                Heard::Stop => return Ok(false),
            }
            if play.step(&policy)? {
                break;
            }
            if told.elapsed() >= EVERY {
                told = Instant::now();
                self.tell(&FromEvaluator::Progress { played: play.episodes().len() as u64 })?;
            }
        }
        if let Some(Err(error)) = play.film().map(|film| self.keep(&film, step)) {
            self.tell(&FromEvaluator::Warning(format!("the film of an evaluation was not kept: {error}")))?;
        }
        let (episodes, seconds) = (play.episodes().to_vec(), start.elapsed().as_secs_f64());
        self.tell(&FromEvaluator::Evaluated { version, digest, episodes, seconds })?;
        Ok(true)
    }

    /// The film of environment 0 into the run folder.
    fn keep(&self, film: &Array, step: u64) -> Result<(), MediaError> {
        self.media.store(Kind::Eval, FILMED, step, &Picture::animation(film)?).map(drop)
    }

    fn tell(&self, word: &FromEvaluator) -> Result<(), RunError> {
        self.sender.send(word).map_err(wire("telling the learner"))
    }
}
