//! The numbers of a picture as CSV.

use std::fmt::Write;

use super::{Plot, Point};

/// Lines of run, x and y, with every digit.
pub(super) fn csv(plot: &Plot) -> String {
    let runs = plot.curves.iter().map(|curve| (curve.name.as_str(), &curve.points));
    let band = plot.band.iter().flat_map(|band| [("mean", &band.mean), ("min", &band.min), ("max", &band.max)]);
    let mut text = String::from("run,x,y\n");
    for (name, points) in runs.chain(band) {
        rows(&mut text, &quoted(name), points);
    }
    text
}

fn rows(text: &mut String, name: &str, points: &[Point]) {
    for (x, y) in points {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name},{x},{y}");
    }
}

/// A name as one field (RFC 4180).
fn quoted(name: &str) -> String {
    match name.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", name.replace('"', "\"\"")),
        false => name.into(),
    }
}
