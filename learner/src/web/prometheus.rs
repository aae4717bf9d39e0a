//! A run's numbers in the text format of Prometheus: base units, `lucid_` before every name.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text::encode};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use serde_json::{Map, Value};
use shared::metrics::{ActorReport, HostReport, Report};

use super::tail::Tail;

/// From the last report and the records so far.
pub fn text(report: Option<Arc<Report>>, tail: &Tail) -> Result<String, Error> {
    let mut registry = Registry::with_prefix("lucid");
    registry.register_collector(Box::new(Numbers { report, newest: tail.newest.clone(), skipped: tail.skipped }));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Numbers {
    report: Option<Arc<Report>>,
    newest: Map<String, Value>,
    skipped: f64,
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let mut out = Out(&mut encoder);
        if let Some(report) = &self.report {
            whole(&mut out, report)?;
            actors(&mut out, &report.actors)?;
            hosts(&mut out, &report.hosts)?;
        }
        out.counter("updates_skipped", "Updates skipped because a value was not finite", self.skipped)?;
        recorded(&mut out, &self.newest)
    }
}

fn whole(out: &mut Out, r: &Report) -> Result<(), Error> {
    out.counter("environment_steps", "Environment steps over all actors and resumes", r.steps as f64)?;
    out.counter("updates", "Updates over all resumes", r.updates as f64)?;
    out.counter("episodes", "Finished episodes over all resumes", r.episodes as f64)?;
    out.gauge("uptime", "Since the learner started", Some(Unit::Seconds), r.elapsed)?;
    out.gauge("replay_steps", "Steps that replay holds", None, r.replay.steps as f64)?;
    out.gauge("replay_capacity_steps", "Steps that replay may hold", None, r.replay.cap as f64)?;
    out.gauge("replay_memory", "Memory of replay", Some(Unit::Bytes), r.replay.bytes as f64)?;
    out.gauge("replay_memory_capacity", "Memory replay may take", Some(Unit::Bytes), r.replay.cap_bytes as f64)?;
    out.gauge("replay_disk", "Steps that are on disk only", Some(Unit::Bytes), r.replay.disk_bytes as f64)?;
    let ratio = || Some(Unit::Other("ratio".into()));
    out.gauge("train", "Replayed steps trained on per environment step", ratio(), r.replay_ratio)?;
    out.gauge("learner_waiting", "Share of time the learner waits for experience", ratio(), r.learner_waits)?;
    out.gauge("actors_waiting", "Share of time actors wait for the learner", ratio(), r.actors_wait)?;
    out.gauge("snapshot_version", "Newest published snapshot", None, r.version as f64)?;
    out.gauge("learner_resident_memory", "Memory of the learner", Some(Unit::Bytes), r.rss as f64)?;
    out.counter("learner_restarts", "How often the learner was restarted", f64::from(r.learner_restarts))?;
    out.gauge("actors", "Actors of the run", None, r.actors.len() as f64)
}

fn actors(out: &mut Out, actors: &[ActorReport]) -> Result<(), Error> {
    let mut each = |name, help, unit, kind, value: fn(&ActorReport) -> f64| {
        out.family(name, help, unit, kind, "actor", actors.iter().map(|a| (a.index.to_string(), value(a))))
    };
    let (gauge, counter) = (MetricType::Gauge, MetricType::Counter);
    each("actor_up", "1: it has a process, 0: it is being restarted", None, gauge, |a| f64::from(a.pid != 0))?;
    each("actor_waiting", "1: it waits", None, gauge, |a| f64::from(!a.waits_for.is_empty()))?;
    each("actor_snapshot_version", "Snapshot it holds", None, gauge, |a| a.version as f64)?;
    each("actor_lag_versions", "Published minus held version", None, gauge, |a| a.lag_versions as f64)?;
    each("actor_lag_updates", "Updates since the held snapshot", None, gauge, |a| a.lag_updates as f64)?;
    each("actor_lag", "Age of the held snapshot", Some(Unit::Seconds), gauge, |a| a.lag_seconds)?;
    each("actor_acknowledge", "From offer to holding", Some(Unit::Seconds), gauge, |a| a.ack_ms / 1e3)?;
    each("actor_silent", "Since it was last heard of", Some(Unit::Seconds), gauge, |a| a.silent)?;
    each("actor_environment_steps", "Steps since it started", None, counter, |a| a.steps as f64)?;
    each("actor_restarts", "How often it was restarted", None, counter, |a| f64::from(a.restarts))?;
    each("actor_resident_memory", "Its memory", Some(Unit::Bytes), gauge, |a| a.rss as f64)
}

fn hosts(out: &mut Out, hosts: &[HostReport]) -> Result<(), Error> {
    let mut each = |name, help, unit, kind, value: fn(&HostReport) -> f64| {
        out.family(name, help, unit, kind, "host", hosts.iter().map(|h| (h.name.clone(), value(h))))
    };
    let (gauge, counter) = (MetricType::Gauge, MetricType::Counter);
    each("host_up", "1: it takes part, 0: it is away", None, gauge, |h| f64::from(h.away.is_none()))?;
    let bytes = || Some(Unit::Bytes);
    each("host_sent", "To it since it came or came back", bytes(), counter, |h| h.sent as f64)?;
    each("host_received", "From it since it came or came back", bytes(), counter, |h| h.received as f64)?;
    each("host_snapshots", "Snapshots that arrived there since then", None, counter, |h| h.snapshots as f64)?;
    let seconds = Some(Unit::Seconds);
    each("host_round_trip", "From a word to its echo", seconds, gauge, |h| h.round_trip_ms / 1e3)
}

/// What only records have.
fn recorded(out: &mut Out, record: &Map<String, Value>) -> Result<(), Error> {
    let rows = [
        ("episode/return", "episode_return", None, 1.0, "Mean return of the last episodes"),
        ("episode/length", "episode_steps", None, 1.0, "Mean length of the last episodes"),
        ("eval/return", "evaluation_return", None, 1.0, "Mean return of the last evaluation"),
        ("eval/length", "evaluation_steps", None, 1.0, "Mean length of its episodes"),
        ("learner/update_ms", "update", Some(Unit::Seconds), 1e-3, "Mean time of an update"),
        ("learner/batch_ms", "batch_wait", Some(Unit::Seconds), 1e-3, "Mean time an update waited for its batch"),
        ("snapshot/publish_ms", "snapshot_publish", Some(Unit::Seconds), 1e-3, "Mean time to publish a snapshot"),
        ("snapshot/bytes", "snapshot_size", Some(Unit::Bytes), 1.0, "Size of a snapshot"),
        ("checkpoint/seconds", "checkpoint", Some(Unit::Seconds), 1.0, "Time to write the last checkpoint"),
        ("staleness/updates/p95", "staleness_p95_updates", None, 1.0, "Age of 95% of sampled steps is at most this"),
    ];
    for (key, name, unit, scale, help) in rows {
        if let Some(value) = record.get(key).and_then(Value::as_f64) {
            out.gauge(name, help, unit, value * scale)?;
        }
    }
    let loss = |(key, value): (&String, &Value)| Some((key.strip_prefix("train/loss/")?.to_string(), value.as_f64()?));
    out.family("loss", "A loss before its scale", None, MetricType::Gauge, "loss", record.iter().filter_map(loss))
}

/// Where numbers go.
struct Out<'a, 'e>(&'a mut DescriptorEncoder<'e>);

impl Out<'_, '_> {
    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: f64) -> Result<(), Error> {
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?)
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) -> Result<(), Error> {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    /// One number for each value of a label; nothing without any.
    fn family(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        kind: MetricType,
        label: &str,
        rows: impl Iterator<Item = (String, f64)>,
    ) -> Result<(), Error> {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut encoder = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (value, number) in rows {
            let labels = [(label, value.as_str())];
            let row = encoder.encode_family(&labels)?;
            match kind {
                MetricType::Counter => ConstCounter::new(number).encode(row)?,
                _ => ConstGauge::new(number).encode(row)?,
            }
        }
        Ok(())
    }
}
