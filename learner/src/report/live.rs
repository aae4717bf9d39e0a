//! The block that shows how a run is doing: four lines about the whole, one about evaluations where there are some, then a row per
//! actor.

use console::measure_text_width;
use shared::metrics::{ActorReport, HostReport, Phase, Report, Spread};

use super::text::{bytes, clean, count, counted, duration, fit, grouped, number, rate, table, wrap};

/// Lines about the whole run, before those about evaluations and actors.
pub const SUMMARY: usize = 4;
/// Share of time below which nobody is said to wait.
const NOTABLE: f64 = 0.01;
/// Cells of the progress bar: at least, at most.
const BAR: (usize, usize) = (10, 40);
/// Columns from which there is room for the time that actors take to acknowledge a snapshot.
const WIDE: usize = 100;
/// Where it stands in a row.
const ACK: usize = 7;

/// The whole block, no line wider than `width` columns.
pub fn lines(report: &Report, width: usize) -> Vec<String> {
    within(report, width, usize::MAX)
}

/// The block in at most `height` lines; actors that have no row are summed up in the last line.
pub fn within(report: &Report, width: usize, height: usize) -> Vec<String> {
    let mut lines = summary(report, width).to_vec();
    let [first, ..] = &mut lines[..] else { return lines };
    first.push_str(&bar(report, width.saturating_sub(measure_text_width(first))));
    lines.extend(evaluation(report, width));
    lines.extend(hosts(report, width));
    let room = height.saturating_sub(lines.len() + 1);
    let rows = if report.actors.len() <= room { report.actors.len() } else { room.saturating_sub(1) };
    let (shown, rest) = report.actors.split_at(rows);
    if !shown.is_empty() {
        lines.extend(actors(shown, width));
    }
    if !rest.is_empty() {
        lines.push(fit(&format!("{:>5}", "…"), &others(rest, shown.is_empty()), width));
    }
    lines.truncate(height.max(1));
    lines
}

/// Progress, returns, replay and lag.
pub fn summary(report: &Report, width: usize) -> [String; SUMMARY] {
    [
        fit(phase(report.phase), &progress(report), width),
        fit("return", &returns(report), width),
        fit("replay", &replay(report), width),
        fit("lag", &lag(report), width),
    ]
}

/// What the learner does, in a word.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Filling { .. } => "filling",
        Phase::Training => "training",
        Phase::Paused => "paused",
        Phase::Stopping => "stopping",
    }
}

/// Steps, updates, time.
pub(crate) fn progress(report: &Report) -> Vec<String> {
    let mut parts = Vec::new();
    if let Phase::Filling { need } = report.phase {
        parts.push(format!("{} of {} steps before the first update", count(report.replay.steps), count(need)));
    }
    let target = if report.target_steps > 0 { format!("/{}", count(report.target_steps)) } else { String::new() };
    parts.push(format!("{}{target} steps {}", count(report.steps), rate(report.steps_per_s)));
    parts.push(format!("{} updates {}", count(report.updates), rate(report.updates_per_s)));
    parts.push(duration(report.elapsed));
    if report.phase != Phase::Stopping {
        parts.extend(left(report).map(|seconds| format!("{} left", duration(seconds))));
    }
    parts
}

/// Seconds until the end that comes first, at the present pace.
fn left(report: &Report) -> Option<f64> {
    let steps = report.target_steps.saturating_sub(report.steps) as f64;
    let by_steps = (report.target_steps > 0 && report.steps_per_s > 0.0).then(|| steps / report.steps_per_s);
    let by_time = (report.target_minutes > 0.0).then(|| (report.target_minutes * 60.0 - report.elapsed).max(0.0));
    by_steps.into_iter().chain(by_time).reduce(f64::min)
}

/// How much is done of the end that is nearest, 0 to 1.
fn done(report: &Report) -> Option<f64> {
    let by_steps = (report.target_steps > 0).then(|| report.steps as f64 / report.target_steps as f64);
    let by_time = (report.target_minutes > 0.0).then(|| report.elapsed / (report.target_minutes * 60.0));
    by_steps.into_iter().chain(by_time).reduce(f64::max).map(|share| share.clamp(0.0, 1.0))
}

/// A bar in what is left of a line, if that is enough for one.
fn bar(report: &Report, room: usize) -> String {
    let cells = room.saturating_sub(2).min(BAR.1);
    match done(report) {
        Some(share) if cells >= BAR.0 => {
            let full = (share * cells as f64) as usize;
            format!("  {}{}", "━".repeat(full), "╌".repeat(cells - full))
        }
        _ => String::new(),
    }
}

fn returns(report: &Report) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(mean) = mean(&report.returns) {
        let last = report.returns.last().copied().unwrap_or(mean);
        parts.push(format!("last {}", number(last)));
        parts.push(format!("mean of {}: {}", report.returns.len(), number(mean)));
    }
    parts.push(format!("{} episodes", count(report.episodes)));
    let losses = report.losses.iter().enumerate();
    parts.extend(
        losses.map(|(i, (name, loss))| format!("{}{name} {}", if i == 0 { "loss " } else { "" }, number(*loss))),
    );
    parts
}

/// Mean of the last returns; none without any.
pub fn mean(returns: &[f64]) -> Option<f64> {
    (!returns.is_empty()).then(|| returns.iter().sum::<f64>() / returns.len() as f64)
}

fn replay(report: &Report) -> Vec<String> {
    let mut parts = fill(report);
    parts.insert(1, waits(report));
    parts
}

/// How full replay is.
pub(crate) fn fill(report: &Report) -> Vec<String> {
    let r = report.replay;
    let share = |held: u64, cap: u64| if cap > 0 { held as f64 / cap as f64 } else { 0.0 };
    let full = share(r.steps, r.cap).max(share(r.bytes, r.cap_bytes)).max(share(r.disk_bytes, r.disk_cap_bytes));
    let full = full.min(1.0);
    let disk = format!("{}/{} on disk", bytes(r.disk_bytes), bytes(r.disk_cap_bytes));
    let mut parts = vec![
        format!("{:.0}% full", full * 100.0),
        format!("{}/{} steps", count(r.steps), count(r.cap)),
        format!("{}/{}", bytes(r.bytes), bytes(r.cap_bytes)),
    ];
    parts.extend((r.disk_cap_bytes > 0).then_some(disk));
    parts
}

/// Who waits for whom.
pub(crate) fn waits(report: &Report) -> String {
    let (learner, actors) = (report.learner_waits, report.actors_wait);
    let percent = |share: f64| format!("({:.0}%)", share * 100.0);
    match report.phase {
        Phase::Starting => "learner waits for actors to join".into(),
        Phase::Filling { .. } => "learner waits for experience".into(),
        _ if learner.max(actors) < NOTABLE => "nobody waits".into(),
        _ if learner >= actors => format!("learner waits for actors {}", percent(learner)),
        _ => format!("actors wait for learner {}", percent(actors)),
    }
}

/// How old the policies are that act.
pub(crate) fn lag(report: &Report) -> Vec<String> {
    let Some([versions, updates, seconds]) = report.lag() else { return vec!["no actors".into()] };
    let whole = |s: Spread| [s.median, s.p95, s.max].map(|v| count(v as u64)).join("/");
    vec![
        "median/p95/max".into(),
        format!("versions {}", whole(versions)),
        format!("updates {}", whole(updates)),
        format!("seconds {}", [seconds.median, seconds.p95, seconds.max].map(|v| format!("{v:.2}")).join("/")),
        format!("published {}", grouped(report.version)),
    ]
}

/// The last evaluation, and the one that goes on; none for a run without evaluations.
pub(crate) fn evaluation(report: &Report, width: usize) -> Option<String> {
    let evaluation = report.evaluation.as_ref()?;
    let mut parts = vec![];
    if let Some(last) = &evaluation.last {
        let (mean, std) = (number(last.mean), number(last.std));
        parts.push(format!("return {mean} ± {std} over {} episodes", grouped(last.episodes)));
        parts.push(format!("version {} (update {})", grouped(last.version), grouped(last.update)));
        parts.push(format!("{} ago", duration(last.age)));
    }
    match &evaluation.running {
        Some(now) => parts.push(format!("now version {}, {} of {}", grouped(now.version), now.played, now.episodes)),
        None if evaluation.pid == 0 => parts.push("its actor is not running".into()),
        None if evaluation.last.is_none() => parts.push("none has ended yet".into()),
        None => {}
    }
    parts.extend((evaluation.restarts > 0).then(|| format!("restarts: {}", evaluation.restarts)));
    Some(fit("eval", &parts, width))
}

fn actors(actors: &[ActorReport], width: usize) -> Vec<String> {
    let head = ["actor", "version", "lag", "updates", "age", "steps", "steps/s", "ack", "state"];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(actors.iter().map(row));
    if width < WIDE {
        rows.iter_mut().for_each(|row| drop(row.remove(ACK)));
    }
    table(&rows, &[rows[0].len() - 1], width)
}

fn row(actor: &ActorReport) -> Vec<String> {
    vec![
        named(actor),
        grouped(actor.version),
        count(actor.lag_versions),
        count(actor.lag_updates),
        format!("{:.2}s", actor.lag_seconds),
        count(actor.steps),
        format!("{:.1}", actor.steps_per_s),
        format!("{:.1}ms", actor.ack_ms),
        state(actor),
    ]
}

/// Its number, with the host that it is on if that is another one.
pub(crate) fn named(actor: &ActorReport) -> String {
    match &actor.host {
        Some(host) => format!("{} {}", clean(host), actor.index),
        None => actor.index.to_string(),
    }
}

fn state(actor: &ActorReport) -> String {
    let doing = match (actor.pid, actor.waits_for.as_str(), actor.silence()) {
        (0, ..) => "restarting".into(),
        (.., Some(seconds)) => format!("not heard of for {}", duration(seconds)),
        (_, "", _) => "acts".into(),
        (_, reason, _) => format!("waits for {}", clean(reason)),
    };
    if actor.restarts > 0 { format!("{doing} (restarts: {})", actor.restarts) } else { doing }
}

/// Actors without a row of their own; `all`: there is no row at all.
pub(crate) fn others(rest: &[ActorReport], all: bool) -> Vec<String> {
    let number = |of: fn(&&ActorReport) -> bool| rest.iter().filter(of).count();
    let rate: f64 = rest.iter().map(|a| a.steps_per_s).sum();
    vec![
        format!("{} {}actors", rest.len(), if all { "" } else { "more " }),
        format!("{} waiting", number(|a| a.pid != 0 && !a.waits_for.is_empty())),
        format!("{} restarting", number(|a| a.pid == 0)),
        format!("lag at most {}", rest.iter().map(|a| a.lag_versions).max().unwrap_or(0)),
        format!("{rate:.1} steps/s"),
    ]
}

/// Other hosts of which there are lines.
const HOSTS: usize = 6;

/// A line for each of the first other hosts, those that are away before the rest, and one for all that have none.
pub(crate) fn hosts(report: &Report, width: usize) -> Vec<String> {
    let mut rows: Vec<_> = report.hosts.iter().collect();
    rows.sort_by(|a, b| b.away.unwrap_or(-1.0).total_cmp(&a.away.unwrap_or(-1.0)));
    let shown = if rows.len() <= HOSTS { rows.len() } else { HOSTS - 1 };
    let mut lines: Vec<_> = rows[..shown].iter().map(|row| fit("host", &host(report, row), width)).collect();
    if shown < rows.len() {
        let rest = &rows[shown..];
        let sum =
            |of: fn(&HostReport) -> f64| format!("{}/s", bytes(rest.iter().map(|row| of(row)).sum::<f64>() as u64));
        let most = rest.iter().map(|row| row.round_trip_ms).fold(0.0, f64::max);
        let parts = [
            format!("{} more", rest.len()),
            format!("to them {}", sum(|row| row.sent_per_s)),
            format!("from them {}", sum(|row| row.received_per_s)),
            format!("round trip at most {most:.0} ms"),
        ];
        lines.push(fit("host", &parts, width));
    }
    lines
}

fn host(report: &Report, row: &HostReport) -> Vec<String> {
    let actors: Vec<_> = report.actors_on(Some(&row.name)).collect();
    let lag = actors.iter().map(|actor| actor.lag_updates).max().unwrap_or(0);
    let number = counted(actors.len() as u64, "actor");
    match row.away {
        Some(seconds) => {
            vec![clean(&row.name), format!("away for {}", duration(seconds)), format!("its {number} wait")]
        }
        None => vec![
            clean(&row.name),
            number,
            format!("lag at most {} updates", count(lag)),
            format!("round trip {:.1} ms", row.round_trip_ms),
            format!("to it {}/s", bytes(row.sent_per_s as u64)),
            format!("from it {}/s", bytes(row.received_per_s as u64)),
        ],
    }
}

/// One line for a log file.
pub fn heartbeat(report: &Report) -> String {
    let acting = report.actors.iter().filter(|a| a.pid != 0 && a.waits_for.is_empty()).count();
    let squeeze = |line: String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = summary(report, usize::MAX).into_iter().chain(evaluation(report, usize::MAX));
    let summary = lines.map(squeeze).collect::<Vec<_>>().join(" | ");
    let away = report.hosts.iter().filter(|host| host.away.is_some()).count();
    let hosts = match (report.hosts.len(), away) {
        (0, _) => String::new(),
        (all, 0) => format!(", {}", counted(all as u64, "other host")),
        (all, away) => format!(", {}, {away} away", counted(all as u64, "other host")),
    };
    format!("{summary} | {}, {} acting{hosts}", counted(report.actors.len() as u64, "actor"), count(acting as u64))
}

/// The last words about a run, in lines no wider than `width`.
pub fn closing(report: &Report, width: usize) -> Vec<String> {
    let mut parts = vec![
        format!("{} steps", grouped(report.steps)),
        format!("{} updates", grouped(report.updates)),
        format!("{} episodes", grouped(report.episodes)),
        format!("in {}", duration(report.elapsed)),
    ];
    parts.extend(
        mean(&report.returns).map(|m| format!("mean of the last {} returns: {}", report.returns.len(), number(m))),
    );
    wrap(&format!("stopped: {}", parts.join(", ")), width)
}
