//! The picture: drawn as SVG, turned into pixels where they are wanted.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use resvg::{tiny_skia, usvg};

use super::{Band, Curve, Plot, PlotError, Point};

/// Units of drawing per point of the picture: the library draws at whole units, which would make steps in curves.
const FINE: u32 = 4;
/// Pixels of a PNG per point.
const SCALE: f32 = 2.0;
/// Size of the part with the axes.
const SIZE: (u32, u32) = (860 * FINE, 540 * FINE);
/// Numbers of this size cannot be placed on an axis.
const LARGEST: f64 = 1e100;
const FONT: &str = "sans-serif";
/// Height of small text.
const SMALL: u32 = 14 * FINE;
/// Height of a line of the legend.
const ROW: i32 = 24 * FINE as i32;
/// The colours of Okabe and Ito without yellow, which differ for every kind of colour vision.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(110, 110, 110),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A point of reference, such as a published score.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Place, in units of the axes.
    pub at: Point,
    /// What is written beside it.
    pub label: String,
}

impl std::str::FromStr for Mark {
    type Err = String;

    /// From `X,Y,LABEL`; the label may hold commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ',');
        let mut number = || parts.next().and_then(|n| n.trim().parse::<f64>().ok()).filter(|n| n.is_finite());
        let at = number().zip(number());
        let label = parts.next().map(|label| label.trim().to_string());
        let mark = at.zip(label).map(|(at, label)| Self { at, label });
        mark.ok_or_else(|| "write it as X,Y,LABEL, as in 50000,294,published".into())
    }
}

/// The picture as SVG.
pub(super) fn svg(plot: &Plot) -> Result<String, PlotError> {
    let font = register_font(FONT, FontStyle::Normal, dejavu::sans::regular());
    font.map_err(|_| PlotError::Draw { message: "its font cannot be read".into() })?;
    let mut text = String::new();
    let [w, h] = drawn(plot, &mut text).map_err(|error| PlotError::Draw { message: error.to_string() })?;
    let size = |w: u32, h: u32| format!("width=\"{w}\" height=\"{h}\"");
    Ok(text.replacen(&size(w, h), &size(w / FINE, h / FINE), 1))
}

type Drawn<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Draw everything; returns width and height in units of drawing.
fn drawn(plot: &Plot, text: &mut String) -> Drawn<[u32; 2]> {
    let entries = legend(plot);
    let mut widest = 0;
    for entry in &entries {
        widest = widest.max(width(&entry.label)?);
    }
    let height = SIZE.1.max(80 * FINE + ROW as u32 * entries.len() as u32);
    let beside = if entries.is_empty() { 0 } else { widest + 60 * FINE };
    let whole = SIZE.0 + beside;
    let root = SVGBackend::with_string(text, (whole, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(SIZE.0);
    axes(plot, &left)?;
    for (row, entry) in entries.iter().enumerate() {
        entry.draw(&right, 60 * FINE as i32 + ROW * row as i32)?;
    }
    root.present()?;
    Ok([whole, height])
}

/// Width of small text.
fn width(text: &str) -> Drawn<u32> {
    let ((left, _), (right, _)) = (FONT, SMALL).into_font().layout_box(text)?;
    Ok((right - left).unsigned_abs())
}

fn axes(plot: &Plot, area: &Area) -> Drawn {
    let [x, y] = ranges(plot)?;
    let (x_end, y_end) = (x.end.abs().max(x.start.abs()), y.end.abs().max(y.start.abs()));
    let (x_text, y_text) = (move |v: &f64| compact(*v, x_end), move |v: &f64| compact(*v, y_end));
    let room = width(&y_text(&y.end))?.max(width(&y_text(&y.start))?).max(width("0.005")?) + 44 * FINE;
    let mut chart = ChartBuilder::on(area)
        .margin(16 * FINE)
        .margin_right(28 * FINE)
        .caption(&plot.title, (FONT, 18 * FINE))
        .x_label_area_size(54 * FINE)
        .y_label_area_size(room)
        .build_cartesian_2d(x.clone(), y.clone())?;
    chart
        .configure_mesh()
        .bold_line_style(BLACK.mix(0.12).stroke_width(FINE))
        .set_all_tick_mark_size(5 * FINE)
        .light_line_style(TRANSPARENT)
        .axis_style(BLACK.mix(0.6).stroke_width(FINE))
        .x_labels(10)
        .y_labels(10)
        .x_label_formatter(&x_text)
        .y_label_formatter(&y_text)
        .x_desc(&plot.x_label)
        .y_desc(&plot.y_label)
        .label_style((FONT, SMALL))
        .axis_desc_style((FONT, SMALL + FINE))
        .draw()?;
    for band in &plot.bands {
        chart.draw_series([Polygon::new(outline(band), band_colour(plot, band).mix(0.12).filled())])?;
    }
    curves(plot, &mut chart)?;
    for mark in &plot.marks {
        draw_mark(mark, [x.start, y.start], mark.at.0 > (x.start + x.end) / 2.0, &mut chart)?;
    }
    Ok(())
}

fn curves(plot: &Plot, chart: &mut Chart) -> Drawn {
    let thin = if plot.bands.is_empty() { 2 } else { 1 };
    let mean = plot.bands.iter().map(|band| (&band.mean, band_colour(plot, band), 3));
    let runs = alone(plot).enumerate().map(|(i, curve)| (&curve.points, colour(i), thin));
    for (points, colour, stroke) in runs.chain(mean) {
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(stroke * FINE)))?;
        // A line of one point cannot be seen.
        let lone = points.first().filter(|_| points.len() == 1);
        chart.draw_series(lone.map(|point| Circle::new(*point, 3 * FINE, colour.filled())))?;
    }
    Ok(())
}

/// A dot with its label, and lines from it to both axes.
fn draw_mark(mark: &Mark, [left, bottom]: [f64; 2], at_right: bool, chart: &mut Chart) -> Drawn {
    let (x, y) = mark.at;
    let dashes = |ends: [Point; 2]| DashedLineSeries::new(ends, 5 * FINE, 4 * FINE, BLACK.mix(0.55).stroke_width(FINE));
    chart.draw_series(dashes([(left, y), (x, y)]))?;
    chart.draw_series(dashes([(x, bottom), (x, y)]))?;
    chart.draw_series([Circle::new((x, y), 4 * FINE, BLACK.filled())])?;
    let (side, shift) = if at_right { (HPos::Right, -6) } else { (HPos::Left, 6) };
    let style = (FONT, SMALL).into_text_style(chart.plotting_area()).pos(Pos::new(side, VPos::Bottom));
    let label =
        EmptyElement::at((x, y)) + Text::new(mark.label.clone(), (shift * FINE as i32, -4 * FINE as i32), style);
    chart.draw_series([label])?;
    Ok(())
}

fn outline(band: &Band) -> Vec<Point> {
    band.max.iter().chain(band.min.iter().rev()).copied().collect()
}

/// Runs that are drawn themselves: of those that share a name, the band says where they are.
fn alone(plot: &Plot) -> impl Iterator<Item = &Curve> {
    plot.curves.iter().filter(|curve| !plot.bands.iter().any(|band| band.name == curve.name))
}

/// Black for all runs together; of runs that share a name, the name's.
fn band_colour(plot: &Plot, band: &Band) -> RGBColor {
    let at = plot.bands.iter().position(|other| other.name == band.name).unwrap_or(0);
    if band.name.is_empty() { BLACK } else { colour(at) }
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// From 0 on the horizontal axis; with some air on the vertical one.
fn ranges(plot: &Plot) -> Drawn<[std::ops::Range<f64>; 2]> {
    let bands = || plot.bands.iter().flat_map(|band| band.min.iter().chain(&band.max));
    let points = || alone(plot).flat_map(|c| &c.points).chain(bands()).chain(plot.marks.iter().map(|m| &m.at));
    let (mut low, mut high, mut end) = (f64::INFINITY, f64::NEG_INFINITY, 0.0f64);
    for (x, y) in points() {
        (low, high, end) = (low.min(*y), high.max(*y), end.max(*x));
    }
    if !(low > -LARGEST && high < LARGEST && end < LARGEST) {
        return Err("its numbers are too large for an axis".into());
    }
    // Never so little that the numbers beside the axis could not be told apart.
    let air = match (0.05 * (high - low)).max(1e-6 * high.abs().max(low.abs())) {
        air if high > low => air,
        _ => 0.05 * high.abs().max(1.0),
    };
    // An axis from 0 is easier to read than one from nearly 0.
    let floor = if low >= 0.0 && low < 0.3 * high { 0.0 } else { low - air };
    Ok([0.0..if end > 0.0 { 1.02 * end } else { 1.0 }, floor..high + air])
}

/// A number on an axis that goes to `largest`: all of an axis in the same unit, `0.4`, `250`, `10k`, `2.5M`.
pub(super) fn compact(value: f64, largest: f64) -> String {
    let (unit, name) = match largest {
        2e9.. => (1e9, "G"),
        2e6.. => (1e6, "M"),
        1e4.. => (1e3, "k"),
        _ => (1.0, ""),
    };
    let digits = if largest > 0.0 { (3.0 - (largest / unit).log10().floor()).clamp(0.0, 12.0) as usize } else { 0 };
    let text = format!("{:.digits$}", value / unit);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "0" || text == "-0" { "0".into() } else { format!("{text}{name}") }
}

/// One line of the legend.
struct Entry {
    label: String,
    style: ShapeStyle,
}

impl Entry {
    fn draw(&self, area: &Area, y: i32) -> Drawn {
        let at = |x: u32| ((x * FINE) as i32, y);
        area.draw(&PathElement::new(vec![at(8), at(32)], self.style))?;
        let style = (FONT, SMALL).into_text_style(area).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(self.label.clone(), at(40), style))?;
        Ok(())
    }
}

fn legend(plot: &Plot) -> Vec<Entry> {
    let entry = |label: &str, style: ShapeStyle| Entry { label: label.into(), style };
    // A curve without a name is the only one, and the title says what it is.
    let runs = alone(plot).enumerate().filter(|(_, curve)| !curve.name.is_empty());
    let runs = runs.map(|(i, c)| entry(&c.name, colour(i).stroke_width(2 * FINE)));
    let bands = plot.bands.iter().flat_map(|band| {
        let (colour, name) = (band_colour(plot, band), if band.name.is_empty() { "mean" } else { &band.name });
        let spread = format!("min to max of {}", band.runs);
        [entry(name, colour.stroke_width(3 * FINE)), entry(&spread, colour.mix(0.12).stroke_width(14 * FINE))]
    });
    runs.chain(bands).collect()
}

/// An SVG as PNG, with the font that its sizes were computed for.
pub(super) fn png(svg: &str) -> Result<Vec<u8>, PlotError> {
    let failed = |what: &dyn std::fmt::Display| PlotError::Draw { message: what.to_string() };
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| failed(&error))?;
    let size = tree.size().to_int_size().scale_by(SCALE).ok_or_else(|| failed(&"it is too large"))?;
    let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height()).ok_or_else(|| failed(&"it is too large"))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| failed(&error))
}
