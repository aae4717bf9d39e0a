//! The table of metrics.

use super::MetricError;

/// How the values of one window become the number reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// Their mean.
    Mean,
    /// The newest; it stays until there is a newer one.
    Last,
    /// Their sum.
    Sum,
    /// The largest.
    Max,
    /// Their sum by the seconds of the window.
    Rate,
    /// Three numbers: `name/median`, `name/p95`, `name/max`.
    Spread,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name; one that ends in `*` stands for all names that begin so.
    pub name: &'static str,
    /// Unit.
    pub unit: &'static str,
    /// How values are put together.
    pub average: Average,
    /// What it says.
    pub meaning: &'static str,
    /// How to read it: what is good, and what to do where it is not. Empty where the meaning says it.
    pub reading: &'static str,
}

const fn metric(
    name: &'static str,
    unit: &'static str,
    average: Average,
    meaning: &'static str,
    reading: &'static str,
) -> Metric {
    Metric { name, unit, average, meaning, reading }
}

/// Every metric; `train/` names are those of the official DreamerV3.
pub const METRICS: &[Metric] = &[
    metric("env/steps", "steps", Average::Last, "environment steps over all actors and resumes", ""),
    metric(
        "env/steps_per_s",
        "steps/s",
        Average::Rate,
        "environment steps over all actors",
        "where it is too low, `limiter/*` tells which side to speed up",
    ),
    metric(
        "episode/return",
        "reward",
        Average::Mean,
        "sum of rewards of finished episodes",
        "what the agent is trained to raise; actions are sampled, as in `lucid eval`",
    ),
    metric("episode/length", "steps", Average::Mean, "length of finished episodes", ""),
    metric("episode/count", "episodes", Average::Last, "finished episodes over all resumes", ""),
    metric(
        "eval/return",
        "reward",
        Average::Mean,
        "mean return of an evaluation's episodes",
        "what the agent earns with one policy from start to end; `eval.actions` says how actions are chosen, `eval/step` which policy it was",
    ),
    metric(
        "eval/return_std",
        "reward",
        Average::Mean,
        "standard deviation of their returns",
        "divided by the root of `eval/episodes`, how far `eval/return` is a matter of chance",
    ),
    metric("eval/length", "steps", Average::Mean, "mean length of an evaluation's episodes", ""),
    metric("eval/episodes", "episodes", Average::Mean, "episodes of an evaluation", "`eval.episodes`"),
    metric(
        "eval/step",
        "steps",
        Average::Mean,
        "environment steps of training when an evaluation began",
        "the record in which it is told is of the time at which it ended",
    ),
    metric("eval/version", "version", Average::Mean, "the snapshot that acted, from the first to the last step", ""),
    metric("eval/update", "updates", Average::Mean, "updates made when that snapshot was taken", ""),
    metric(
        "eval/seconds",
        "s",
        Average::Mean,
        "time that an evaluation took",
        "longer than the time of `eval.every` steps: evaluations follow each other without a break; fewer `eval.episodes` do",
    ),
    metric("learner/updates", "updates", Average::Last, "updates over all resumes", ""),
    metric(
        "learner/updates_per_s",
        "updates/s",
        Average::Rate,
        "updates",
        "falls short of `1000 / learner/update_ms` by the time the learner waits or publishes",
    ),
    metric(
        "learner/update_ms",
        "ms",
        Average::Mean,
        "time of one update",
        "grows with the agent's size and the batch; actors on the same cores slow it",
    ),
    metric(
        "learner/batch_ms",
        "ms",
        Average::Mean,
        "time that an update waited for its batch",
        "should be small beside `learner/update_ms`; if not, reading replay is slow: see `replay.disk_gib`",
    ),
    metric(
        "learner/skipped",
        "updates",
        Average::Sum,
        "updates skipped because a value was not finite",
        "should be 0; the batches lie in `nonfinite/`; lower `agent.opt.lr` if it repeats",
    ),
    metric(
        "replay/fill",
        "steps",
        Average::Last,
        "steps held",
        "once `replay.size` or `replay.gib` is reached, old steps make room for new ones",
    ),
    metric("replay/items", "items", Average::Last, "starts that can be sampled", ""),
    metric(
        "replay/bytes",
        "bytes",
        Average::Last,
        "memory held by steps",
        "bounded by `replay.gib`; `replay.disk_gib` moves full blocks to disk",
    ),
    metric("replay/disk_bytes", "bytes", Average::Last, "steps that are on disk only", "0 without `replay.disk_gib`"),
    metric(
        "replay/ratio",
        "steps/step",
        Average::Last,
        "replayed steps trained on per environment step",
        "nears `run.train_ratio`; lower while the first steps are collected",
    ),
    metric(
        "limiter/learner_waits",
        "s",
        Average::Sum,
        "time the learner waited for experience",
        "near the time between records: actors are the slow side; add some with `--actors`, or raise `run.train_ratio`",
    ),
    metric(
        "limiter/actors_wait",
        "s",
        Average::Sum,
        "time credits were withheld so that the learner catches up",
        "near the time between records: the learner is the slow side; fewer actors do, or lower `run.train_ratio`",
    ),
    metric(
        "lag/versions",
        "versions",
        Average::Spread,
        "published minus held version of each actor",
        "0 or 1 is as new as can be; an actor takes the newest at its next step",
    ),
    metric(
        "lag/updates",
        "updates",
        Average::Spread,
        "updates since the snapshot that each actor holds",
        "low is good; `sync.publish_every` raises it, `sync.max_lag_updates` bounds it",
    ),
    metric(
        "lag/seconds",
        "s",
        Average::Spread,
        "age of the snapshot that each actor holds",
        "grows where the learner waits, too; a maximum far above the median is one stuck actor: see `logs/`",
    ),
    metric(
        "lag/ack_ms",
        "ms",
        Average::Spread,
        "from the offer of a snapshot until the actor holds it",
        "about the time of one step of the actor; much more: it waits, or its cores are busy",
    ),
    metric(
        "lag/first_use_ms",
        "ms",
        Average::Spread,
        "from the publishing of a snapshot until an actor's first step with it",
        "`lag/ack_ms` and the rest of the step that was under way; snapshots that a newer one overtook are not in it",
    ),
    metric(
        "lag/acting",
        "updates",
        Average::Spread,
        "updates between the snapshot acted with and the learner, each actor's mean over its steps",
        "what `lag/updates` is when it matters; actors hear of the learner's updates with snapshots and twice a second",
    ),
    metric(
        "lag/beyond",
        "steps",
        Average::Sum,
        "steps acted with a snapshot older than `sync.max_lag_updates`, with `sync.max_lag_mode` soft",
        "0 if the bound holds; if not, raise it, publish more often or use fewer actors",
    ),
    metric(
        "lag/insert",
        "updates",
        Average::Spread,
        "updates between the snapshot that acted and the learner, for each step as it enters replay",
        "the lag at acting and the time until a chunk is full and let in: `actor.chunk`, `limiter/actors_wait`",
    ),
    metric(
        "lag/flight",
        "updates",
        Average::Spread,
        "updates between the snapshot that chose an action and the one that acts when its step comes back, the most of each actor's \
         report; with `actor.wait_for` only",
        "how old the action of the slowest environment is when it has been carried out; `lag/insert` counts only until the step that \
         the action was chosen in is in replay",
    ),
    metric(
        "acting/rows",
        "environments",
        Average::Mean,
        "environments that one call of the policy acts for; with `actor.wait_for` only",
        "at least `actor.wait_for`; more use a call better",
    ),
    metric(
        "acting/ready_ms",
        "ms",
        Average::Spread,
        "from the end of an environment's step until its next action is chosen, each actor's mean over its steps; with \
         `actor.wait_for` only",
        "more than a call of the policy takes is waiting: for other environments (lower `actor.wait_for`), or for the learner \
         (`limiter/actors_wait`)",
    ),
    metric(
        "acting/slowest",
        "share",
        Average::Mean,
        "steps of an actor's slowest environment by those of its fastest, over half a second; with `actor.wait_for` only",
        "1: all are as fast; that much less of the slowest one's experience is in replay",
    ),
    metric(
        "staleness/updates",
        "updates",
        Average::Spread,
        "update at training minus update that acted, per sampled step",
        "how far replay is off policy; grows with `replay/fill`, which is no fault; a smaller `replay.size` bounds it",
    ),
    metric(
        "staleness/latents",
        "updates",
        Average::Spread,
        "update at training minus update that computed the stored latents a sampled row begins with",
        "the age of replay's latents: training overwrites those it meets, so it stays below `staleness/updates`; none without `agent.replay_context`",
    ),
    metric("snapshot/version", "versions", Average::Last, "newest published version", ""),
    metric(
        "snapshot/publish_ms",
        "ms",
        Average::Mean,
        "time to publish a snapshot",
        "the train thread pays it; if it is not small beside `learner/update_ms`, raise `sync.publish_every`",
    ),
    metric(
        "snapshot/held",
        "versions",
        Average::Last,
        "versions that actors hold",
        "1 where all are as new; at most the number of actors",
    ),
    metric(
        "snapshot/alive",
        "versions",
        Average::Last,
        "published versions whose memory the learner still has",
        "the newest, and one for each actor that one is under way to; if it rises without end, report it",
    ),
    metric("snapshot/bytes", "bytes", Average::Last, "size of a snapshot", ""),
    metric(
        "checkpoint/seconds",
        "s",
        Average::Last,
        "time to write the last checkpoint",
        "should be far below `checkpoint.every`; if not, raise that",
    ),
    metric(
        "memory/rss/*",
        "bytes",
        Average::Last,
        "resident memory of one process",
        "levels off once replay is full; memory that processes share, such as the frozen ViT, is in each",
    ),
    metric(
        "actor/restarts",
        "restarts",
        Average::Last,
        "processes before those that act now, over all resumes",
        "each resume adds one per actor; what comes on top are crashes: see `logs/`",
    ),
    metric(
        "train/loss/dyn",
        "nats",
        Average::Mean,
        "KL divergence of posterior and prior, for the prior",
        "falls to `agent.dyn.rssm.free_nats` where the model foresees all; rises with what the agent sees anew",
    ),
    metric(
        "train/loss/rep",
        "nats",
        Average::Mean,
        "KL divergence of posterior and prior, for the posterior",
        "the value of `train/loss/dyn`, with other gradients",
    ),
    metric(
        "train/loss/rew",
        "nats",
        Average::Mean,
        "prediction of the reward",
        "falls; if it stays while rewards differ, the model does not see what they depend on",
    ),
    metric(
        "train/loss/con",
        "nats",
        Average::Mean,
        "prediction of whether the episode goes on",
        "falls to its floor, which `agent.contdisc` keeps above 0",
    ),
    metric(
        "train/loss/policy",
        "nats",
        Average::Mean,
        "the policy's loss on imagined steps",
        "its sign and height say little: see `episode/return`, `train/rand/*`",
    ),
    metric(
        "train/loss/value",
        "nats",
        Average::Mean,
        "prediction of the returns of imagined steps",
        "rises while returns change, falls as they settle",
    ),
    metric(
        "train/loss/repval",
        "nats",
        Average::Mean,
        "prediction of the returns of replayed steps",
        "as `train/loss/value`",
    ),
    metric(
        "train/loss/*",
        "nats",
        Average::Mean,
        "a loss before its scale: prediction of the observation of this name",
        "should fall early and then slowly; if not, the latent state lacks what the observation shows",
    ),
    metric("train/opt/loss", "nats", Average::Mean, "sum of the losses by their scales", ""),
    metric(
        "train/opt/grad_norm",
        "",
        Average::Mean,
        "norm of all gradients before clipping",
        "single peaks are harmless, a lasting rise is not: lower `agent.opt.lr`",
    ),
    metric(
        "train/opt/*",
        "",
        Average::Mean,
        "the optimizer: root mean squares of gradients, updates and parameters; counts",
        "`update_rms` by `param_rms` is the relative step",
    ),
    metric("train/ent/*", "nats", Average::Mean, "entropy of the policy for one action", "see `train/rand/*`"),
    metric(
        "train/rand/*",
        "fraction",
        Average::Mean,
        "entropy of the policy for one action, 1: uniform",
        "falls as the policy decides; near 0 before returns are good: raise `agent.imag_loss.actent`",
    ),
    metric("train/adv", "", Average::Mean, "mean advantage of imagined steps, in units of the return's range", ""),
    metric(
        "train/adv_mag",
        "",
        Average::Mean,
        "mean size of the advantages",
        "near 0: all actions look alike to the value",
    ),
    metric("train/ret", "", Average::Mean, "mean imagined return, in units of the return's range", ""),
    metric(
        "train/ret_rate",
        "fraction",
        Average::Mean,
        "share of imagined returns of size 1 or more, in units of the return's range",
        "",
    ),
    metric(
        "train/val",
        "",
        Average::Mean,
        "mean value of imagined states",
        "about what the agent earns in the next `agent.horizon` steps; far above that, it is overestimated",
    ),
    metric(
        "train/rew",
        "reward",
        Average::Mean,
        "mean reward that the model predicts in imagination",
        "for long above what episodes earn per step: the model promises too much",
    ),
    metric(
        "train/con",
        "fraction",
        Average::Mean,
        "mean prediction that the episode goes on, in imagination",
        "with `agent.contdisc` the discount is in it",
    ),
    metric(
        "train/dyn_ent",
        "nats",
        Average::Mean,
        "entropy of the prior, one step",
        "falls as the model foresees more",
    ),
    metric(
        "train/rep_ent",
        "nats",
        Average::Mean,
        "entropy of the posterior, one step",
        "near 0 for long: the latent state carries little",
    ),
    metric("train/*", "", Average::Mean, "other numbers of the agent, as the official code names them", ""),
    metric(
        "report/loss/*",
        "nats",
        Average::Mean,
        "the loss of this name on a batch that is drawn anew, where nothing is learned",
        "near `train/loss/*`; far above it for long: replay is too small for what is learned from it",
    ),
    metric(
        "report/openloop_error/*",
        "nats",
        Average::Mean,
        "loss of an observation on steps that the world model imagines after it saw the first half of a sample",
        "nears `report/loss/*` of the same name as the model foresees what comes; see `media/`",
    ),
    metric(
        "report/gradnorm/*",
        "",
        Average::Mean,
        "norm of the gradient of one loss alone, before its scale, with `agent.report_gradnorms`",
        "which losses shape the world model",
    ),
    metric(
        "report/seconds",
        "s",
        Average::Mean,
        "time of one report, for which the next update waits",
        "if it is not small beside `log.report_every`, raise that",
    ),
    metric(
        "wire/refused",
        "messages",
        Average::Sum,
        "what other processes said and the learner did not take: a wrong token or version at a door, bytes that are no message, \
         chunks and answers out of order",
        "0; each is a warning too, which names the process",
    ),
    metric(
        "wire/repeated",
        "steps",
        Average::Sum,
        "steps that arrived although replay had them already, and were dropped",
        "0",
    ),
];

/// The metric of this name; exact names first, then the longest family.
pub fn find(name: &str) -> Result<&'static Metric, MetricError> {
    let family = |m: &&Metric| m.name.strip_suffix('*').is_some_and(|p| name.len() > p.len() && name.starts_with(p));
    let exact = METRICS.iter().find(|m| m.name == name && !name.ends_with('*'));
    exact.or_else(|| METRICS.iter().filter(family).max_by_key(|m| m.name.len())).ok_or_else(|| MetricError::Unknown {
        name: name.into(),
        nearest: crate::config::nearest(name, METRICS.iter().map(|m| m.name)),
    })
}
