//! What the learner tells the launcher for people to see.

use serde::{Deserialize, Serialize};

use super::Spread;
use crate::config::Difference;

/// Seconds without a word after which an actor may be stopped.
const SILENT: f64 = 5.0;

/// Told once, before the first update.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StartReport {
    /// Parameters per module, in the order of the network.
    pub modules: Vec<ModuleRow>,
    /// The frozen ViT, where the agent sees through one.
    pub vit: Option<VitReport>,
    /// Steps that replay holds when full.
    pub replay_steps: u64,
    /// Memory that replay takes when full, bytes.
    pub replay_bytes: u64,
    /// Disk that it takes when full, bytes.
    pub replay_disk_bytes: u64,
    /// Where the config departs from its defaults.
    pub differences: Vec<Difference>,
}

/// Parameters of one module, in numbers of elements (4 bytes each).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModuleRow {
    /// First part of the parameters' paths, such as `dyn`.
    pub module: String,
    /// Elements the optimizer changes.
    pub trainable: u64,
    /// Elements nothing changes.
    pub frozen: u64,
}

/// What the frozen ViT is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VitReport {
    /// What it sees of the frames: a sentence for each camera.
    pub input: Vec<String>,
    /// Where its weights came from.
    pub source: String,
    /// BLAKE3 digest of its weights, in hex.
    pub digest: String,
}

/// The state of a run, told every second or so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What the learner does.
    pub phase: Phase,
    /// Seconds since the run was started or resumed.
    pub elapsed: f64,
    /// Environment steps over all resumes.
    pub steps: u64,
    /// End of the run in environment steps (0: none).
    pub target_steps: u64,
    /// End of the run in minutes since it was started or resumed (0: none).
    pub target_minutes: f64,
    /// Environment steps per second.
    pub steps_per_s: f64,
    /// Updates over all resumes.
    pub updates: u64,
    /// Updates per second.
    pub updates_per_s: f64,
    /// Finished episodes.
    pub episodes: u64,
    /// Returns of the last finished episodes, newest last.
    pub returns: Vec<f64>,
    /// Losses by name, in the order to show.
    pub losses: Vec<(String, f64)>,
    /// Replay.
    pub replay: ReplayReport,
    /// Share of the last seconds that the learner waited for experience, 0 to 1.
    pub learner_waits: f64,
    /// Share of the last seconds that actors waited for the learner, 0 to 1.
    pub actors_wait: f64,
    /// Newest published snapshot.
    pub version: u64,
    /// Resident memory of the learner, bytes.
    pub rss: u64,
    /// How often the learner died and was started again, since the run was started or resumed.
    #[serde(default)]
    pub learner_restarts: u32,
    /// Replayed steps trained on per environment step so far.
    pub replay_ratio: f64,
    /// Evaluations, where the config asks for them.
    pub evaluation: Option<EvaluationReport>,
    /// One row per actor.
    pub actors: Vec<ActorReport>,
    /// One row per other host.
    #[serde(default)]
    pub hosts: Vec<HostReport>,
    /// New since the last report; each is shown once.
    pub warnings: Vec<String>,
}

/// What the learner does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Waits for actors to join.
    #[default]
    Starting,
    /// Collects this many steps before the first update.
    Filling {
        /// Steps needed.
        need: u64,
    },
    /// Trains.
    Training,
    /// Waits until it is told to go on.
    Paused,
    /// Saves and stops.
    Stopping,
}

/// What replay holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// Steps held.
    pub steps: u64,
    /// Cap in steps.
    pub cap: u64,
    /// Memory held, bytes.
    pub bytes: u64,
    /// Cap of memory, bytes.
    pub cap_bytes: u64,
    /// Bytes that are on disk only.
    pub disk_bytes: u64,
    /// Cap of these; 0 where all is in memory.
    pub disk_cap_bytes: u64,
}

/// Another host that takes part, and its link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostReport {
    /// Its name.
    pub name: String,
    /// For how long it has been away, seconds; none if it is there.
    pub away: Option<f64>,
    /// Bytes to it since it came, or came back.
    pub sent: u64,
    /// Bytes from it since then.
    pub received: u64,
    /// Bytes to it in the last second.
    pub sent_per_s: f64,
    /// Bytes from it in the last second.
    pub received_per_s: f64,
    /// Snapshots that have arrived there since then.
    pub snapshots: u64,
    /// From a word to its echo, milliseconds, on the clock of the learner's host.
    pub round_trip_ms: f64,
}

/// One actor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ActorReport {
    /// Its number, from 0.
    pub index: usize,
    /// Which other host it is on; none if it is beside the learner.
    #[serde(default)]
    pub host: Option<String>,
    /// Its process; 0 while it is being restarted.
    pub pid: u32,
    /// Snapshot it holds.
    pub version: u64,
    /// Published minus held version.
    pub lag_versions: u64,
    /// Updates since the held snapshot.
    pub lag_updates: u64,
    /// Age of the held snapshot, seconds.
    pub lag_seconds: f64,
    /// From offer to holding it, milliseconds.
    pub ack_ms: f64,
    /// Environment steps since it started.
    pub steps: u64,
    /// Environment steps per second.
    pub steps_per_s: f64,
    /// What it waits for; empty: it acts.
    pub waits_for: String,
    /// Since it was last heard of, seconds. One that runs is heard of twice a second, even where it waits.
    #[serde(default)]
    pub silent: f64,
    /// How often it was restarted.
    pub restarts: u32,
    /// Resident memory, bytes.
    pub rss: u64,
}

impl ActorReport {
    /// Seconds without a word from it, if they are so many that it may be stopped.
    pub fn silence(&self) -> Option<f64> {
        (self.pid != 0 && self.silent >= SILENT).then_some(self.silent)
    }
}

/// The evaluation actor, which counts among no others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// Its process; 0 while there is none.
    pub pid: u32,
    /// How often it was restarted.
    pub restarts: u32,
    /// The evaluation that goes on.
    pub running: Option<EvaluatingReport>,
    /// The last one that ended.
    pub last: Option<EvaluatedReport>,
}

/// An evaluation that goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvaluatingReport {
    /// Snapshot that acts.
    pub version: u64,
    /// Episodes that have ended.
    pub played: u64,
    /// Of so many.
    pub episodes: u64,
}

/// An evaluation that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvaluatedReport {
    /// Snapshot that acted.
    pub version: u64,
    /// Updates made when that was taken.
    pub update: u64,
    /// Environment steps of training when the evaluation began.
    pub step: u64,
    /// Episodes.
    pub episodes: u64,
    /// Mean of their returns.
    pub mean: f64,
    /// Standard deviation of their returns.
    pub std: f64,
    /// Mean of their lengths, steps.
    pub length: f64,
    /// Seconds since it ended.
    pub age: f64,
}

impl Report {
    /// Actors that are on this host; on the learner's for none.
    pub fn actors_on<'a>(&'a self, host: Option<&'a str>) -> impl Iterator<Item = &'a ActorReport> {
        self.actors.iter().filter(move |actor| actor.host.as_deref() == host)
    }

    /// Lag over all actors that have a process, in versions, updates and seconds; none without any.
    pub fn lag(&self) -> Option<[Spread; 3]> {
        let there: Vec<&ActorReport> = self.actors.iter().filter(|actor| actor.pid != 0).collect();
        let over = |value: fn(&ActorReport) -> f64| Spread::of(&there.iter().map(|a| value(a)).collect::<Vec<_>>());
        Some([over(|a| a.lag_versions as f64)?, over(|a| a.lag_updates as f64)?, over(|a| a.lag_seconds)?])
    }
}
