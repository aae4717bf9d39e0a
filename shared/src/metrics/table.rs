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
}

const fn metric(name: &'static str, unit: &'static str, average: Average, meaning: &'static str) -> Metric {
    Metric { name, unit, average, meaning }
}

/// Every metric; `train/` names are those of the official DreamerV3.
pub const METRICS: &[Metric] = &[
    metric("env/steps", "steps", Average::Last, "environment steps over all actors and resumes"),
    metric("env/steps_per_s", "steps/s", Average::Rate, "environment steps over all actors"),
    metric("episode/return", "reward", Average::Mean, "sum of rewards of finished episodes"),
    metric("episode/length", "steps", Average::Mean, "length of finished episodes"),
    metric("episode/count", "episodes", Average::Last, "finished episodes over all resumes"),
    metric("learner/updates", "updates", Average::Last, "updates over all resumes"),
    metric("learner/updates_per_s", "updates/s", Average::Rate, "updates"),
    metric("learner/update_ms", "ms", Average::Mean, "time of one update"),
    metric("learner/batch_ms", "ms", Average::Mean, "time that an update waited for its batch"),
    metric("learner/skipped", "updates", Average::Sum, "updates skipped because a value was not finite"),
    metric("replay/fill", "steps", Average::Last, "steps held"),
    metric("replay/items", "items", Average::Last, "starts that can be sampled"),
    metric("replay/bytes", "bytes", Average::Last, "memory held by steps"),
    metric("replay/disk_bytes", "bytes", Average::Last, "steps that are on disk only"),
    metric("replay/ratio", "steps/step", Average::Last, "replayed steps trained on per environment step"),
    metric("limiter/learner_waits", "s", Average::Sum, "time the learner waited for experience"),
    metric("limiter/actors_wait", "s", Average::Sum, "time credits were withheld so that the learner catches up"),
    metric("lag/versions", "versions", Average::Spread, "published minus held version of each actor"),
    metric("lag/updates", "updates", Average::Spread, "updates since the snapshot that each actor holds"),
    metric("lag/seconds", "s", Average::Spread, "age of the snapshot that each actor holds"),
    metric("lag/ack_ms", "ms", Average::Spread, "from the offer of a snapshot until the actor holds it"),
    metric(
        "staleness/updates",
        "updates",
        Average::Spread,
        "update at training minus update that acted, per sampled step",
    ),
    metric("snapshot/version", "versions", Average::Last, "newest published version"),
    metric("snapshot/publish_ms", "ms", Average::Mean, "time to publish a snapshot"),
    metric("snapshot/bytes", "bytes", Average::Last, "size of a snapshot"),
    metric("checkpoint/seconds", "s", Average::Last, "time to write the last checkpoint"),
    metric("memory/rss/*", "bytes", Average::Last, "resident memory of one process"),
    metric("actor/restarts", "restarts", Average::Last, "processes before those that act now, over all resumes"),
    metric("train/loss/*", "nats", Average::Mean, "a loss before its scale"),
    metric("train/opt/*", "", Average::Mean, "the optimizer: learning rate, gradient norm, …"),
    metric("train/ent/*", "nats", Average::Mean, "entropy of the policy for one action"),
    metric("train/rand/*", "fraction", Average::Mean, "entropy of the policy for one action, 1: uniform"),
    metric(
        "train/*",
        "",
        Average::Mean,
        "the agent: returns, values, advantages, entropies, as the official code names them",
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
