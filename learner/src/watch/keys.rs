//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use shared::metrics::Phase;

use super::state::{Mode, Stage, State};
use crate::control::Request;

/// Longest number of actors that can be typed.
const DIGITS: usize = 4;

/// Every key, and what it does, for the help.
pub(super) const KEYS: [(&str, &str); 11] = [
    ("q, Esc, Ctrl-C", "leave; the run goes on"),
    ("+ -", "one actor more, one less"),
    ("a number, Enter or s", "that many actors"),
    ("p", "pause, and go on"),
    ("c", "write a checkpoint"),
    ("x", "save and stop the run"),
    ("l", "another loss in the chart"),
    ("s", "order of actors: by number, lag, rate"),
    ("up down j k", "scroll by a row"),
    ("PgUp PgDn Home End", "scroll by a page, to an end"),
    ("?", "this help"),
];

/// What a key calls for outside the screen.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Deed {
    /// Leave the screen.
    Leave,
    /// Ask the run.
    Ask(Request),
}

/// Take a key.
pub(super) fn press(state: &mut State, key: KeyEvent) -> Option<Deed> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Deed::Leave);
    }
    match std::mem::take(&mut state.mode) {
        Mode::Plain => plain(state, key.code),
        Mode::Number(typed) => number(state, typed, key.code),
        Mode::Help => None,
        Mode::Stop if matches!(key.code, KeyCode::Char('y' | 'Y')) => ask(state, Request::Stop),
        Mode::Stop => {
            state.notice = Some("not stopped".into());
            None
        }
    }
}

fn plain(state: &mut State, key: KeyCode) -> Option<Deed> {
    state.notice = None;
    match key {
        KeyCode::Char('q') | KeyCode::Esc => return Some(Deed::Leave),
        KeyCode::Char('?') => state.mode = Mode::Help,
        KeyCode::Char('l') => state.loss = state.loss.wrapping_add(1),
        KeyCode::Char('s') => state.order = state.order.following(),
        KeyCode::Char(digit) if digit.is_ascii_digit() => state.mode = Mode::Number(digit.into()),
        KeyCode::Char('+' | '=') => return scale(state, 1),
        KeyCode::Char('-') => return scale(state, -1),
        KeyCode::Char('p') => return ask(state, if paused(state) { Request::Resume } else { Request::Pause }),
        KeyCode::Char('c') => return ask(state, Request::Checkpoint),
        KeyCode::Char('x') if state.stage == Stage::Live => state.mode = Mode::Stop,
        KeyCode::Char('x') => return ask(state, Request::Stop),
        key => scroll(state, key),
    }
    None
}

/// The list ends with its last row at the bottom; drawing sees to that.
fn scroll(state: &mut State, key: KeyCode) {
    let page = state.rows[0].max(1);
    state.top = match key {
        KeyCode::Up | KeyCode::Char('k') => state.top.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => state.top + 1,
        KeyCode::PageUp => state.top.saturating_sub(page),
        KeyCode::PageDown => state.top + page,
        KeyCode::Home | KeyCode::Char('g') => 0,
        KeyCode::End | KeyCode::Char('G') => state.rows[1],
        _ => return,
    }
    .min(state.rows[1].saturating_sub(page));
}

fn number(state: &mut State, mut typed: String, key: KeyCode) -> Option<Deed> {
    match key {
        KeyCode::Enter | KeyCode::Char('s') => {
            let actors = typed.parse().ok()?;
            state.wanted = Some(actors);
            return ask(state, Request::Scale { actors });
        }
        KeyCode::Esc => return None,
        KeyCode::Backspace => drop(typed.pop()),
        KeyCode::Char(digit) if digit.is_ascii_digit() && typed.len() < DIGITS => typed.push(digit),
        _ => {}
    }
    state.mode = if typed.is_empty() { Mode::Plain } else { Mode::Number(typed) };
    None
}

/// From the number asked for last, so that pressing a key twice counts twice.
fn scale(state: &mut State, by: isize) -> Option<Deed> {
    let now = state.report.as_ref().map_or(0, |report| report.actors_on(None).count());
    let actors = state.wanted.unwrap_or(now).saturating_add_signed(by);
    state.wanted = Some(actors);
    ask(state, Request::Scale { actors })
}

fn paused(state: &State) -> bool {
    state.report.as_ref().is_some_and(|report| report.phase == Phase::Paused)
}

fn ask(state: &mut State, request: Request) -> Option<Deed> {
    if state.stage != Stage::Live {
        state.wanted = None;
        state.notice = Some(format!("the run has ended; go on with: lucid train --run {}", state.run));
        return None;
    }
    let what = match &request {
        Request::Scale { actors } => format!("for {actors} actors"),
        Request::Pause => "for a pause".into(),
        Request::Resume => "to go on".into(),
        Request::Checkpoint => "for a checkpoint".into(),
        _ => "to save and stop".into(),
    };
    state.notice = Some(format!("asked {what} …"));
    Some(Deed::Ask(request))
}
