//! Lines about the whole run.

use shared::metrics::Report;

use super::history::History;
use super::state::{Stage, State};
use crate::report::live;
use crate::report::text::{bytes, clean, count, cut, duration, fit, grouped, number, rate, wrap};

/// What the run does, in a word or a few.
pub(super) fn phase(state: &State) -> String {
    match (&state.stage, &state.report) {
        (Stage::Ended(why), _) => format!("ended: {}", clean(why)),
        (Stage::Record, _) => "not running".into(),
        (Stage::Live, None) => "loading".into(),
        (Stage::Live, Some(report)) => live::phase(report.phase).into(),
    }
}

/// Steps, updates, time.
pub(super) fn progress(state: &State, width: usize) -> String {
    let parts = match (&state.report, &state.stage) {
        (Some(report), _) => live::progress(report),
        (None, Stage::Record) => recorded(&state.history),
        (None, _) => vec!["nothing reported yet: the learner loads and actors start".into()],
    };
    // `fit` is for lines with a label.
    cut(fit("", &parts, width.saturating_add(10)).trim_start(), width)
}

/// The same from the newest record.
fn recorded(history: &History) -> Vec<String> {
    let whole = |(name, unit): (&str, &str)| Some(format!("{} {unit}", grouped(history.number(name)? as u64)));
    [("step", "steps"), ("update", "updates"), ("episode/count", "episodes")].into_iter().filter_map(whole).collect()
}

/// Rates and memory, replay, who waits for whom, lag, and evaluations and other hosts where there are some: no line wider than `width`.
pub(super) fn lines(report: &Report, width: usize) -> Vec<String> {
    let actors: u64 = report.actors.iter().map(|actor| actor.rss).sum();
    let learner = [
        format!("updates {}", rate(report.updates_per_s)),
        format!("steps {}", rate(report.steps_per_s)),
        format!("memory {} + actors {}", bytes(report.rss), bytes(actors)),
    ];
    let mut replay = live::fill(report);
    replay.push(format!("replay ratio {}", number(report.replay_ratio)));
    let limiter = [live::waits(report), format!("newest snapshot {}", count(report.version)), shares(report)];
    let mut lag = live::lag(report);
    lag.truncate(4);
    // What the three numbers are is what may be cut off.
    if let [first, _, ..] = &mut lag[..] {
        *first = "med/p95/max".into();
        lag.rotate_left(1);
    }
    let mut lines = vec![
        fit("learner", &learner, width),
        fit("replay", &replay, width),
        fit("limiter", &limiter, width),
        fit("lag", &lag, width),
    ];
    lines.extend(live::evaluation(report, width));
    lines.extend(live::hosts(report, width));
    lines
}

fn shares(report: &Report) -> String {
    format!("waiting: learner {:.0}%, actors {:.0}%", report.learner_waits * 100.0, report.actors_wait * 100.0)
}

/// The newest warnings in at most `height` lines, oldest first, each with the time of the run at which it was seen.
pub(super) fn warnings(state: &State, width: usize, height: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (at, text) in state.warnings.iter().rev() {
        let mut block = wrap(&format!("! {} {text}", duration(*at)), width);
        if lines.len() + block.len() > height {
            block.truncate(if lines.is_empty() { height } else { 0 });
            lines.splice(0..0, block);
            break;
        }
        lines.splice(0..0, block);
    }
    lines
}

/// Every number of the newest record, a line each.
pub(super) fn record(history: &History) -> Vec<String> {
    let shown = |(name, value): &(String, f64)| match name.as_str() {
        name if name.ends_with("bytes") || name.starts_with("memory/") => bytes(*value as u64),
        _ if value.fract() == 0.0 && (0.0..1e15).contains(value) => grouped(*value as u64),
        _ => number(*value),
    };
    let known = |name: &&(String, f64)| name.0 != "time";
    history.record.iter().filter(known).map(|entry| format!("{}  {}", clean(&entry.0), shown(entry))).collect()
}
