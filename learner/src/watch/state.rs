//! What is known of the run, and what the person at the keyboard is doing.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use shared::metrics::{ActorReport, Report};

use super::actors::Order;
use super::history::History;
use crate::control::Word;
use crate::report::text::clean;

/// Warnings that are kept.
const WARNINGS: usize = 50;

/// Where the run stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// It goes on.
    Live,
    /// It ended while it was watched: why.
    Ended(String),
    /// It does not go on: only its record is there.
    Record,
}

/// What keys mean now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Mode {
    /// Commands.
    #[default]
    Plain,
    /// A number of actors is being typed.
    Number(String),
    /// Asked whether to stop the run.
    Stop,
    /// The help is shown.
    Help,
}

/// All that the screen shows.
pub(super) struct State {
    /// Run folder, as people read it.
    pub run: String,
    pub stage: Stage,
    /// The newest report.
    pub report: Option<Report>,
    pub history: History,
    /// Seconds of the run at which they were seen, and warnings.
    pub warnings: VecDeque<(f64, String)>,
    pub mode: Mode,
    /// What the status line says, where there is something to say.
    pub notice: Option<String>,
    /// Which of the losses is drawn.
    pub loss: usize,
    pub order: Order,
    /// First row shown of the list that scrolls.
    pub top: usize,
    /// Rows of it that are shown and that there are, as they were last drawn.
    pub rows: [usize; 2],
    /// The number of actors asked for last, until there is an answer.
    pub wanted: Option<usize>,
    seen: HashMap<usize, Seen>,
}

/// An actor as it last changed.
struct Seen {
    mark: (u32, u64, u64),
    since: Instant,
}

impl State {
    /// Nothing is known but what the folder holds.
    pub fn new(run: &Path, history: History, stage: Stage) -> Self {
        Self {
            run: clean(&run.display().to_string()),
            stage,
            notice: history.damage.clone(),
            report: None,
            history,
            warnings: VecDeque::new(),
            mode: Mode::Plain,
            loss: 0,
            order: Order::default(),
            top: 0,
            rows: [0, 0],
            wanted: None,
            seen: HashMap::new(),
        }
    }

    /// The run says something.
    pub fn hear(&mut self, word: Word, now: Instant) {
        match word {
            Word::Start(_) => {}
            Word::Report(report) => self.take(*report, now),
            Word::End(why) => self.end(why),
        }
    }

    fn take(&mut self, mut report: Report, now: Instant) {
        self.history.extend(&report);
        for warning in report.warnings.drain(..) {
            self.warnings.push_back((report.elapsed, warning));
        }
        self.warnings.drain(..self.warnings.len().saturating_sub(WARNINGS));
        for actor in &report.actors {
            let mark = (actor.pid, actor.steps, actor.version);
            let seen = self.seen.entry(actor.index).or_insert(Seen { mark, since: now });
            if seen.mark != mark {
                *seen = Seen { mark, since: now };
            }
        }
        self.seen.retain(|index, _| report.actors.iter().any(|actor| actor.index == *index));
        self.report = Some(report);
    }

    /// The run has ended; the first reason counts.
    pub fn end(&mut self, why: String) {
        if self.stage == Stage::Live {
            self.stage = Stage::Ended(why);
            self.mode = Mode::Plain;
            self.notice = None;
        }
    }

    /// A request was answered.
    pub fn answered(&mut self, answer: Result<String, String>) {
        self.wanted = None;
        self.notice = Some(match answer {
            Ok(what) => what,
            Err(why) => format!("refused: {why}"),
        });
    }

    /// For how long an actor has neither taken a step nor acknowledged a snapshot.
    pub fn idle(&self, actor: &ActorReport, now: Instant) -> Duration {
        self.seen.get(&actor.index).map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen.since))
    }

    /// The rows of the actors that are running, in the order chosen.
    pub fn actors(&self) -> Vec<&ActorReport> {
        let mut actors: Vec<&ActorReport> = self.report.iter().flat_map(|report| &report.actors).collect();
        self.order.sort(&mut actors);
        actors
    }
}
