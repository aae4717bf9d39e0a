//! The rows of actors: their order, who lags most, and why.

use std::time::{Duration, Instant};

use console::{Alignment, measure_text_width, pad_str};
use shared::metrics::{ActorReport, Phase, Report};

use super::state::State;
use crate::report::live::named;
use crate::report::text::{bytes, clean, count, counted, cut, duration};

/// Time without a step and an acknowledgement after which an actor is said to be stuck.
const PATIENCE: Duration = Duration::from_secs(10);
/// Share of time below which the learner is not said to hold actors back.
const NOTABLE: f64 = 0.01;
/// Heads of columns where there is room, and where there is not.
const HEADS: [(&str, &str); 13] = [
    ("", ""),
    ("actor", "#"),
    ("pid", "pid"),
    ("version", "held"),
    ("lag", "lag"),
    ("updates", "upd."),
    ("age", "age"),
    ("ack", "ack"),
    ("steps", "steps"),
    ("steps/s", "/s"),
    ("restarts", "re."),
    ("memory", "memory"),
    ("state", "state"),
];
/// Columns that are left out first where the screen is too narrow for all: process, acknowledgement, memory.
const SPARE: [usize; 3] = [2, 7, 11];

/// How rows are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// By number.
    #[default]
    Index,
    /// The largest lag first.
    Lag,
    /// The slowest first.
    Rate,
}

impl Order {
    /// The one after this.
    pub fn following(self) -> Self {
        match self {
            Self::Index => Self::Lag,
            Self::Lag => Self::Rate,
            Self::Rate => Self::Index,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Index => "by number",
            Self::Lag => "by lag, largest first",
            Self::Rate => "by steps/s, slowest first",
        }
    }

    /// Put rows in order; equal ones by number.
    pub fn sort(self, actors: &mut [&ActorReport]) {
        actors.sort_by_key(|actor| actor.index);
        match self {
            Self::Index => {}
            Self::Lag => actors.sort_by_key(|actor| std::cmp::Reverse(behind(actor))),
            Self::Rate => actors.sort_by(|a, b| a.steps_per_s.total_cmp(&b.steps_per_s)),
        }
    }
}

fn behind(actor: &ActorReport) -> (u64, u64) {
    (actor.lag_versions, actor.lag_updates)
}

/// The actor with the largest lag; none where no actor lags.
pub(super) fn last(report: &Report) -> Option<&ActorReport> {
    let lagging = report.actors.iter().filter(|actor| actor.lag_versions > 0);
    // The first of several that lag alike.
    lagging.rev().max_by_key(|actor| behind(actor))
}

/// Who lags most and why, in a sentence.
pub(super) fn sentence(state: &State, now: Instant) -> String {
    let Some(report) = &state.report else { return String::new() };
    match last(report) {
        None if report.actors.is_empty() => "no actors".into(),
        None => match report.actors.iter().find(|actor| actor.pid == 0) {
            Some(actor) => format!("actor {} is restarting; no other lags", actor.index),
            None => "every actor holds the newest snapshot".into(),
        },
        Some(actor) => {
            let lag = counted(actor.lag_versions, "version");
            format!("▶ actor {} lags most, by {lag}: {}", actor.index, why(state, report, actor, now))
        }
    }
}

fn why(state: &State, report: &Report, actor: &ActorReport, now: Instant) -> String {
    let idle = state.idle(actor, now);
    let others_move = report.actors.iter().any(|other| state.idle(other, now) < PATIENCE);
    let held_back = report.actors_wait >= NOTABLE && !others_move;
    let silent = actor.silence().unwrap_or_default();
    match actor.waits_for.as_str() {
        _ if actor.pid == 0 => "it is restarting".into(),
        _ if report.phase == Phase::Paused => "the run is paused".into(),
        _ if report.phase == Phase::Stopping => "the run is stopping".into(),
        _ if silent > 0.0 => format!("not heard of for {}: stopped, or in a long step", duration(silent)),
        "snapshot" => "it waits for a snapshot".into(),
        "credits" if idle < PATIENCE || held_back => "it waits for credits: the learner is behind".into(),
        _ if idle >= PATIENCE => {
            format!("no step, no acknowledgement for {}: stuck or stopped", duration(idle.as_secs_f64()))
        }
        "" => format!("it acts, {:.1} steps/s, and takes a snapshot between two steps", actor.steps_per_s),
        reason => format!("it waits for {}", clean(reason)),
    }
}

/// One word that goes before a row.
fn mark(report: &Report, actor: &ActorReport) -> &'static str {
    match last(report) {
        Some(last) if last.index == actor.index => "▶",
        _ if actor.pid == 0 || actor.silence().is_some() => "!",
        _ => "",
    }
}

/// Head and rows of all actors in the order chosen, no line wider than `width`.
pub(super) fn table(state: &State, width: usize) -> Vec<String> {
    let Some(report) = &state.report else { return Vec::new() };
    let rows: Vec<Vec<String>> = state.actors().iter().map(|actor| cells(actor, mark(report, actor))).collect();
    let long: Vec<String> = HEADS.iter().map(|head| head.0.into()).collect();
    let short: Vec<String> = HEADS.iter().map(|head| head.1.into()).collect();
    let mut tries = vec![(long, 2, 0)];
    tries.extend([(2, 0), (1, 0), (1, 1), (1, 2), (1, 3)].map(|(gap, spared)| (short.clone(), gap, spared)));
    let mut lines = Vec::new();
    for (head, gap, spared) in tries {
        let mut cells = rows.clone();
        cells.insert(0, head);
        for row in &mut cells {
            SPARE[..spared].iter().rev().for_each(|column| drop(row.remove(*column)));
        }
        lines = aligned(&cells, gap);
        if lines.iter().all(|line| measure_text_width(line) <= width) {
            return lines;
        }
    }
    lines.iter().map(|line| cut(line, width)).collect()
}

fn cells(actor: &ActorReport, mark: &str) -> Vec<String> {
    vec![
        mark.into(),
        named(actor),
        if actor.pid == 0 { "-".into() } else { actor.pid.to_string() },
        count(actor.version),
        count(actor.lag_versions),
        count(actor.lag_updates),
        seconds(actor.lag_seconds),
        if actor.ack_ms < 10_000.0 { format!("{:.1}ms", actor.ack_ms) } else { seconds(actor.ack_ms / 1e3) },
        count(actor.steps),
        format!("{:.1}", actor.steps_per_s),
        actor.restarts.to_string(),
        bytes(actor.rss),
        match actor.waits_for.as_str() {
            _ if actor.pid == 0 => "restarting".into(),
            reason => match actor.silence() {
                Some(seconds) => format!("silent for {}", duration(seconds)),
                None if reason.is_empty() => "acts".into(),
                None => format!("waits: {}", clean(reason)),
            },
        },
    ]
}

fn seconds(seconds: f64) -> String {
    if seconds < 100.0 { format!("{seconds:.2}s") } else { duration(seconds).replace(' ', "") }
}

/// Rows in columns, numbers to the right, the last column to the left.
fn aligned(rows: &[Vec<String>], gap: usize) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let widest = |column: usize| rows.iter().map(|row| measure_text_width(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let side = |column: usize| if column + 1 == columns { Alignment::Left } else { Alignment::Right };
    let cell = |(i, cell): (usize, &String)| pad_str(cell, widths[i].max(1), side(i), None).into_owned();
    let line = |row: &Vec<String>| row.iter().enumerate().map(cell).collect::<Vec<_>>().join(&" ".repeat(gap));
    rows.iter().map(|row| line(row).trim_end().to_string()).collect()
}
