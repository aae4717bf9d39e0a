//! Curves over environment steps, drawn with characters.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Block, Borders, Chart, Dataset, GraphType, Paragraph};

use super::history::Curve;
use super::state::State;
use super::theme::Theme;
use crate::report::live::mean;
use crate::report::text::{clean, count, cut, number};

/// The return on the left, a loss on the right.
pub(super) fn draw(frame: &mut Frame, area: Rect, state: &State, theme: Theme) {
    let half = area.width / 2;
    let left = Rect { width: half.saturating_sub(1), ..area };
    let right = Rect { x: area.x + half, width: area.width - half, ..area };
    curve(frame, left, &returns(state), Some(&state.history.returns), theme);
    let (title, losses) = (loss(state), &state.history.losses);
    curve(frame, right, &title, losses.get(state.loss % losses.len().max(1)).map(|loss| &loss.1), theme);
}

/// The return in numbers.
pub(super) fn returns(state: &State) -> String {
    let live = state.report.as_ref().and_then(|report| {
        let (last, mean) = (report.returns.last()?, mean(&report.returns)?);
        Some(format!("return {}  mean of {}: {}", number(*last), report.returns.len(), number(mean)))
    });
    let recorded = || state.history.returns.last().map(|value| format!("return {}", number(value)));
    live.or_else(recorded).unwrap_or_else(|| "return".into())
}

/// The loss that is drawn, in numbers.
fn loss(state: &State) -> String {
    let losses = &state.history.losses;
    let Some((name, curve)) = losses.get(state.loss % losses.len().max(1)) else { return "loss".into() };
    let told = state.report.iter().flat_map(|report| &report.losses).find(|(n, _)| n == name).map(|(_, value)| *value);
    let value = told.or_else(|| curve.last()).map_or_else(|| "-".into(), number);
    format!("loss {} {value}  {} of {} (l)", clean(name), state.loss % losses.len() + 1, losses.len())
}

fn curve(frame: &mut Frame, area: Rect, title: &str, curve: Option<&Curve>, theme: Theme) {
    let title = cut(title, usize::from(area.width).saturating_sub(1));
    let block = Block::new().borders(Borders::TOP).border_style(theme.faint()).title(Line::styled(title, theme.bold()));
    // Two points side by side fit into a character.
    let points = curve.map(|curve| curve.thinned(2 * usize::from(area.width))).unwrap_or_default();
    if points.is_empty() {
        frame.render_widget(Paragraph::new("no numbers yet").block(block), area);
        return;
    }
    let (x, y) = (range(points.iter().map(|p| p.0)), range(points.iter().map(|p| p.1)));
    let ends = x.map(|x| count(x as u64));
    let lines =
        Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line).style(theme.curve()).data(&points);
    let chart = Chart::new(vec![lines])
        .block(block)
        .x_axis(Axis::default().bounds(x).labels(ends).style(theme.faint()))
        .y_axis(Axis::default().bounds(y).labels(y.map(number)).style(theme.faint()));
    frame.render_widget(chart, area);
}

/// From the least to the greatest, with room around a value that does not change.
fn range(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let [low, high] =
        values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| [low.min(value), high.max(value)]);
    let room = if low < high { 0.0 } else { (low.abs() * 0.1).max(1e-3) };
    [low - room, high + room]
}
