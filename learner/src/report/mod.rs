//! The screen: a block that stays in place on a terminal, plain lines elsewhere.
//!
//! What is shown is made by pure functions ([`live`], [`start`]); [`Screen`] decides where it goes. A screen never fails: a
//! run does not end because nobody looks at it any more.

mod echo;
pub(crate) mod live;
mod start;
#[cfg(test)]
mod tests;
pub(crate) mod text;

use std::io::Write;
use std::time::{Duration, Instant};

use console::{Term, style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use shared::config::LogConfig;
use shared::metrics::{Phase, Report, StartReport};

use echo::Unechoed;
pub use live::{closing, heartbeat, lines, within};
pub use start::lines as start_lines;
pub(crate) use text::counted;
pub use text::number;
use text::wrap;

/// What the launcher shows on standard output.
pub struct Screen {
    out: Output,
}

enum Output {
    Terminal { term: Term, bar: ProgressBar, _unechoed: Option<Unechoed> },
    Plain(Beat),
}

impl Screen {
    /// A block if standard output is a terminal that can move its cursor, else plain lines.
    pub fn new(log: &LogConfig) -> Self {
        let term = Term::stdout();
        if !term.is_term() || console::is_dumb() {
            return Self { out: Output::Plain(Beat::new(log.heartbeat)) };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::term(term.clone(), 20))
            .with_finish(ProgressFinish::Abandon);
        if let Ok(only_message) = ProgressStyle::with_template("{msg}") {
            bar.set_style(only_message);
        }
        Self { out: Output::Terminal { term, bar, _unechoed: Unechoed::new() } }
    }

    /// Show what the run consists of.
    pub fn start(&mut self, report: &StartReport) {
        self.print(&start_lines(report, self.width()));
    }

    /// Show how the run is doing, and each of the report's warnings above it.
    pub fn update(&mut self, report: &Report) {
        for warning in &report.warnings {
            self.warn(warning);
        }
        match &mut self.out {
            Output::Terminal { term, bar, .. } => bar.set_message(block(report, term)),
            Output::Plain(beat) => {
                if beat.due(report.phase, Instant::now()) {
                    self.print(&[heartbeat(report)]);
                }
            }
        }
    }

    /// Show what has happened in order: it stays, above the block.
    pub fn say(&mut self, text: &str) {
        self.print(&wrap(text, self.width()));
    }

    /// Show a warning that stays: above the block, or on standard error where there is none.
    pub fn warn(&mut self, text: &str) {
        let lines = wrap(&format!("warning: {text}"), self.width());
        match &self.out {
            Output::Terminal { bar, .. } => {
                let yellow: Vec<String> = lines.into_iter().map(|line| style(line).yellow().to_string()).collect();
                bar.println(yellow.join("\n"));
            }
            Output::Plain(_) => write(std::io::stderr().lock(), &lines),
        }
    }

    /// Leave the last state on the screen, and say what the run has come to.
    pub fn finish(&mut self, report: &Report) {
        for warning in &report.warnings {
            self.warn(warning);
        }
        match &self.out {
            Output::Terminal { term, bar, .. } => bar.abandon_with_message(block(report, term)),
            Output::Plain(_) => self.print(&[heartbeat(report)]),
        }
        write(std::io::stdout().lock(), &closing(report, self.width()));
    }

    /// Columns that a line may take.
    fn width(&self) -> usize {
        match &self.out {
            Output::Terminal { term, .. } => usize::from(term.size().1),
            Output::Plain(_) => usize::MAX,
        }
    }

    fn print(&self, lines: &[String]) {
        match &self.out {
            Output::Terminal { bar, .. } => bar.println(lines.join("\n")),
            Output::Plain(_) => write(std::io::stdout().lock(), lines),
        }
    }
}

/// Print a line on standard output.
pub fn say(line: String) {
    write(std::io::stdout().lock(), &[line]);
}

/// Print a line on standard error.
pub fn complain(line: String) {
    write(std::io::stderr().lock(), &[line]);
}

fn write(mut out: impl Write, lines: &[String]) {
    // A closed pipe or a full disk is no reason to end a run.
    let _ = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
    let _ = out.flush();
}

/// The block as this terminal takes it, one line left free for the cursor.
fn block(report: &Report, term: &Term) -> String {
    let (height, width) = term.size();
    let lines = within(report, width.into(), usize::from(height).saturating_sub(1));
    let whole = live::SUMMARY + usize::from(report.evaluation.is_some());
    let painted = |(i, line): (usize, String)| match i {
        _ if i < whole => label(&line),
        _ if i == whole => style(line).dim().to_string(),
        _ => line,
    };
    lines.into_iter().enumerate().map(painted).collect::<Vec<_>>().join("\n")
}

/// With its first word in bold.
fn label(line: &str) -> String {
    let (word, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
    format!("{}{rest}", style(word).bold())
}

/// When the next plain line is due.
struct Beat {
    every: Duration,
    last: Option<(Phase, Instant)>,
}

impl Beat {
    fn new(seconds: f64) -> Self {
        Self { every: Duration::try_from_secs_f64(seconds).unwrap_or_default(), last: None }
    }

    /// At first, when the phase changes, and then every so often.
    fn due(&mut self, phase: Phase, now: Instant) -> bool {
        let due = self.last.is_none_or(|(before, at)| before != phase || now.duration_since(at) >= self.every);
        if due {
            self.last = Some((phase, now));
        }
        due
    }
}
