//! Where everything goes on the screen.

use std::time::Instant;

use console::measure_text_width;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};

use super::keys::KEYS;
use super::state::{Mode, Stage, State};
use super::theme::Theme;
use super::{actors, charts, panel};
use crate::report::live::others;
use crate::report::text::{clean, cut, fit};

/// Lines below which there are no charts.
const LOW: u16 = 18;

/// Draw everything. Remembers in the state how much of the list that scrolls fits.
pub(super) fn draw(frame: &mut Frame, state: &mut State, theme: Theme, now: Instant) {
    let mut area = frame.area();
    let (height, width) = (area.height, usize::from(area.width));
    let [title, progress] = [top(&mut area, 1), top(&mut area, 1)];
    frame.render_widget(Paragraph::new(heading(state, width)).style(theme.bold()), title);
    frame.render_widget(Paragraph::new(panel::progress(state, width)), progress);
    let status_area = bottom(&mut area, 1);
    frame.render_widget(Paragraph::new(status(state, width)).style(theme.bold()), status_area);
    let warnings = panel::warnings(state, width, usize::from(height / 12));
    let warned = bottom(&mut area, warnings.len() as u16);
    text(frame, warned, &warnings, theme.warning());
    if let Some(report) = &state.report {
        let lines = panel::lines(report, width);
        let place = top(&mut area, lines.len() as u16);
        text(frame, place, &lines, Style::new());
    }
    if height >= LOW {
        let place = top(&mut area, (height / 4).clamp(6, 16));
        charts::draw(frame, place, state, theme);
    }
    match &state.report {
        None if state.stage == Stage::Record => record(frame, area, state, theme),
        _ => table(frame, area, state, theme, now),
    }
    if state.mode == Mode::Help {
        help(frame);
    }
}

/// The first lines of what is left.
fn top(area: &mut Rect, height: u16) -> Rect {
    let height = height.min(area.height);
    let taken = Rect { height, ..*area };
    *area = Rect { y: area.y + height, height: area.height - height, ..*area };
    taken
}

/// The last lines of what is left.
fn bottom(area: &mut Rect, height: u16) -> Rect {
    let height = height.min(area.height);
    area.height -= height;
    Rect { y: area.y + area.height, height, ..*area }
}

fn text(frame: &mut Frame, area: Rect, lines: &[String], style: Style) {
    let lines: Vec<Line> = lines.iter().map(|line| Line::raw(line.as_str())).collect();
    frame.render_widget(Paragraph::new(lines).style(style), area);
}

/// The run folder on the left, what the run does on the right.
fn heading(state: &State, width: usize) -> String {
    let phase = cut(&panel::phase(state), width * 2 / 3);
    let left = cut(&format!("lucid watch {}", state.run), width.saturating_sub(measure_text_width(&phase) + 2));
    let gap = width.saturating_sub(measure_text_width(&left) + measure_text_width(&phase));
    format!("{left}{}{phase}", " ".repeat(gap))
}

/// A question, an answer, or the most useful keys.
fn status(state: &State, width: usize) -> String {
    let line = match (&state.mode, &state.notice, &state.stage) {
        (Mode::Number(typed), ..) => format!("actors: {typed}_   Enter or s: set   Esc: leave it"),
        (Mode::Stop, ..) => "save and stop the run?   y: yes   any other key: no".into(),
        (_, Some(notice), _) => clean(notice),
        (.., Stage::Live) => "q leave  + - actors  p pause  c checkpoint  x stop  l loss  s sort  ? help".into(),
        _ => format!("the run has ended; go on with: lucid train --run {}   q leave  ? help", state.run),
    };
    cut(&line, width)
}

fn table(frame: &mut Frame, mut area: Rect, state: &mut State, theme: Theme, now: Instant) {
    let width = usize::from(area.width);
    let mut lines = actors::table(state, width).into_iter();
    let (head, rows) = (lines.next().unwrap_or_default(), lines.collect::<Vec<_>>());
    // A rule, the head, and the sentence about who lags most; a line about the rest where there is a rest.
    let room = usize::from(area.height).saturating_sub(3);
    let shown = if rows.len() <= room { rows.len() } else { room.saturating_sub(1) };
    (state.rows, state.top) = ([shown, rows.len()], state.top.min(rows.len() - shown));
    let (rule, heading) = (top(&mut area, 1), top(&mut area, 1));
    frame.render_widget(rule_with(&position("actors", state, state.order.name()), theme), rule);
    frame.render_widget(Paragraph::new(cut(&head, width)).style(theme.faint()), heading);
    for row in &rows[state.top..state.top + shown] {
        let style = if row.starts_with('▶') { theme.marked() } else { Style::new() };
        let place = top(&mut area, 1);
        frame.render_widget(Paragraph::new(row.as_str()).style(style), place);
    }
    if shown < rows.len() {
        let place = top(&mut area, 1);
        frame.render_widget(Paragraph::new(outside(state, shown, width)).style(theme.faint()), place);
    }
    let sentence = cut(&actors::sentence(state, now), width);
    let place = top(&mut area, 1);
    frame.render_widget(Paragraph::new(sentence).style(theme.marked()), place);
}

/// Which rows are shown of how many.
fn position(what: &str, state: &State, order: &str) -> String {
    let [shown, all] = state.rows;
    match shown {
        0 => format!("{what}: {all}"),
        _ => format!("{what} {}-{} of {all}  {order} ", state.top + 1, state.top + shown),
    }
}

fn rule_with(title: &str, theme: Theme) -> Block<'_> {
    Block::new()
        .borders(ratatui::widgets::Borders::TOP)
        .border_style(theme.faint())
        .title(Line::styled(title, theme.bold()))
}

/// The actors above and below those shown, summed up.
fn outside(state: &State, shown: usize, width: usize) -> String {
    let actors = state.actors();
    let (above, below) = (state.top, actors.len() - state.top - shown);
    let rest = actors[..above].iter().chain(&actors[above + shown..]).map(|actor| (*actor).clone());
    let mut parts = vec![format!("↑{above} ↓{below}")];
    parts.extend(others(&rest.collect::<Vec<_>>(), false));
    fit("…", &parts, width)
}

/// The newest record of a run that does not go on, in as many columns as there is room for.
fn record(frame: &mut Frame, mut area: Rect, state: &mut State, theme: Theme) {
    let width = usize::from(area.width);
    let entries = panel::record(&state.history);
    let column = entries.iter().map(|entry| measure_text_width(entry)).max().unwrap_or(0) + 3;
    let columns = (width / column).max(1);
    let rows = entries.len().div_ceil(columns);
    let shown = rows.min(usize::from(area.height).saturating_sub(1));
    (state.rows, state.top) = ([shown, rows], state.top.min(rows - shown));
    let rule = top(&mut area, 1);
    frame.render_widget(rule_with(&position("last numbers: rows", state, ""), theme), rule);
    for row in state.top..state.top + shown {
        let cells = (0..columns).filter_map(|column| entries.get(column * rows + row));
        let cells: Vec<String> =
            cells.map(|cell| console::pad_str(cell, column, console::Alignment::Left, None).into_owned()).collect();
        let place = top(&mut area, 1);
        frame.render_widget(Paragraph::new(cut(&cells.concat(), width)), place);
    }
}

fn help(frame: &mut Frame) {
    let whole = frame.area();
    let lines: Vec<String> = KEYS.iter().map(|(keys, what)| format!(" {keys:<22} {what}")).collect();
    let mut lines = lines;
    lines.extend(
        [
            "",
            " lag, updates, age: of the snapshot an actor holds,",
            " in versions, updates, time; ack: offer to holding it",
        ]
        .map(String::from),
    );
    let (width, height) = (66.min(whole.width), (lines.len() as u16 + 2).min(whole.height));
    let area = Rect { x: whole.x + (whole.width - width) / 2, y: whole.y + (whole.height - height) / 2, width, height };
    frame.render_widget(Clear, area);
    let lines: Vec<Line> = lines.into_iter().map(Line::raw).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys: any key closes ")), area);
}
