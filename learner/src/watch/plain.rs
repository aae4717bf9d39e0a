//! The same as lines of text, for scripts and log files.

use std::time::Instant;

use super::state::{Stage, State};
use super::{actors, charts, panel};
use crate::report::text::number;

/// How the run is, in lines.
pub(super) fn lines(state: &State, now: Instant) -> Vec<String> {
    let all = usize::MAX / 2;
    let mut lines = vec![format!("{}: {}", state.run, panel::phase(state)), panel::progress(state, all)];
    lines.push(charts::returns(state));
    match &state.report {
        Some(report) => {
            let losses = report.losses.iter().map(|(name, loss)| format!("  {name} {}", number(*loss)));
            lines.push(std::iter::once("losses".to_string()).chain(losses).collect());
            lines.extend(panel::lines(report, all));
            lines.extend(actors::table(state, all));
            lines.push(actors::sentence(state, now));
        }
        None => lines.extend(panel::record(&state.history)),
    }
    lines.extend(panel::warnings(state, all, all));
    lines.extend(state.notice.clone());
    if state.stage != Stage::Live {
        lines.push(format!("the run has ended; go on with: lucid train --run {}", state.run));
    }
    lines.iter().map(|line| crate::report::text::clean(line)).collect()
}
