//! The numbers of a picture as CSV.

use std::fmt::Write;

use super::{Curve, Plot, Point};

/// Lines of run, x and y, with every digit.
pub(super) fn csv(plot: &Plot) -> String {
    let runs = plot.curves.iter().enumerate().map(|(i, curve)| (numbered(plot, i), &curve.points));
    let bands = plot.bands.iter().flat_map(|band| {
        let named = |what: &str| format!("{} {what}", band.name).trim_start().to_string();
        [(named("mean"), &band.mean), (named("min"), &band.min), (named("max"), &band.max)]
    });
    let mut text = String::from("run,x,y\n");
    for (name, points) in runs.chain(bands) {
        rows(&mut text, &quoted(&name), points);
    }
    text
}

/// The name of a run, with its number among those that share it.
fn numbered(plot: &Plot, index: usize) -> String {
    let name = &plot.curves[index].name;
    let before = |curves: &[Curve]| curves.iter().filter(|curve| curve.name == *name).count();
    if before(&plot.curves) > 1 { format!("{name} {}", before(&plot.curves[..index])) } else { name.clone() }
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
