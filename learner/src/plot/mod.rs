//! Curves of a metric over one run or several, as a picture and as the numbers in it.

mod curves;
mod data;
mod error;
mod picture;
mod published;
pub(crate) mod records;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use curves::{Band, Curve, Point};
pub use error::PlotError;
pub use picture::Mark;
pub use published::published;

/// Longest window without `--window`, environment steps: that of the published curves.
const WINDOW: f64 = 20_000.0;
/// Shortest, as a share of the longest run.
const SHARE: f64 = 0.1;

/// What the horizontal axis counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// Environment steps.
    #[default]
    #[value(name = "env/steps")]
    Steps,
    /// Updates.
    #[value(name = "learner/updates")]
    Updates,
    /// Minutes since the first record, pauses between resumes included.
    Time,
}

impl By {
    /// What it counts, for the axis.
    pub fn unit(self) -> &'static str {
        match self {
            By::Steps => "environment steps",
            By::Updates => "updates",
            By::Time => "minutes",
        }
    }
}

/// What to plot.
#[derive(Clone, Debug)]
pub struct Request {
    /// Name in the legend and folder of each run; runs that share a name are one line with a band.
    pub runs: Vec<(String, PathBuf)>,
    /// The metric.
    pub metric: String,
    /// The horizontal axis.
    pub by: By,
    /// Environment steps that each point is the mean of; none: 20,000, or a tenth of the longest run where that is less.
    pub window: Option<f64>,
    /// Points of reference.
    pub marks: Vec<Mark>,
    /// Leave out mean and band of several runs.
    pub each: bool,
}

/// What a picture shows.
#[derive(Clone, Debug)]
pub struct Plot {
    /// One per run, in the order asked for.
    pub curves: Vec<Curve>,
    /// Mean, least and greatest of several runs: of those of one name where runs share names, else of all.
    pub bands: Vec<Band>,
    /// Points of reference.
    pub marks: Vec<Mark>,
    /// What is shown.
    pub title: String,
    /// Horizontal axis.
    pub x_label: String,
    /// Vertical axis.
    pub y_label: String,
}

impl Plot {
    /// Read the runs' metrics; changes nothing.
    pub fn read(request: &Request) -> Result<Self, PlotError> {
        let read = |(_, run): &(String, PathBuf)| records::read(run, &request.metric);
        let runs = request.runs.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::of(request, &runs))
    }

    /// Of numbers that were read already, for each of the runs.
    pub(crate) fn of(request: &Request, runs: &[Vec<records::Sample>]) -> Self {
        let longest = runs.iter().flatten().map(|sample| sample.step).fold(0.0, f64::max);
        let window = request.window.unwrap_or_else(|| WINDOW.min(round(SHARE * longest)));
        let curve = |(samples, (name, _)): (&Vec<_>, &(String, _))| Curve {
            name: name.clone(),
            points: curves::smooth(samples, request.by, window),
        };
        let curves: Vec<Curve> = runs.iter().zip(&request.runs).map(curve).collect();
        let bands = if request.each { vec![] } else { bands(&curves) };
        let (metric, averaged) = (request.metric.as_str(), picture::compact(window, window));
        let [unit, meaning] = table(metric);
        let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
        let averaged = if window > 0.0 { format!(", mean of {averaged} steps") } else { String::new() };
        Self {
            curves,
            bands,
            marks: request.marks.clone(),
            title: if meaning.is_empty() { metric } else { meaning }.to_string(),
            x_label: request.by.unit().into(),
            y_label: format!("{metric}{unit}{averaged}"),
        }
    }

    /// The picture as SVG.
    pub fn svg(&self) -> Result<String, PlotError> {
        picture::svg(self)
    }

    /// Write the picture; the end of its name says which kind: `.png` or `.svg`.
    pub fn draw(&self, path: &Path) -> Result<(), PlotError> {
        let kind = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let bytes = match kind.as_str() {
            "svg" => self.svg()?.into_bytes(),
            "png" => picture::png(&self.svg()?)?,
            _ => return Err(PlotError::Kind { path: path.into() }),
        };
        write(path, &bytes)
    }

    /// Write the numbers behind it as CSV: run, x, y; of several runs also those named mean, min and max.
    pub fn save(&self, path: &Path) -> Result<(), PlotError> {
        write(path, data::csv(self).as_bytes())
    }
}

/// Of the runs of one name, such as the seeds of one variant; without shared names of all runs.
fn bands(curves: &[Curve]) -> Vec<Band> {
    let mut names: Vec<&str> = curves.iter().map(|curve| curve.name.as_str()).collect();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    match (names.len() < curves.len(), curves.len() > 1) {
        (true, _) => {
            let of = |name: &&str| Band::of(name, &curves.iter().filter(|c| c.name == **name).collect::<Vec<_>>());
            names.iter().filter_map(of).collect()
        }
        (false, true) => Band::of("", &curves.iter().collect::<Vec<_>>()).into_iter().collect(),
        (false, false) => vec![],
    }
}

/// Unit and meaning of a metric; no meaning where it is one of a family.
fn table(metric: &str) -> [&'static str; 2] {
    let base = ["/median", "/p95", "/max"].iter().find_map(|end| metric.strip_suffix(end)).unwrap_or(metric);
    shared::metrics::find(base).map_or([""; 2], |m| [m.unit, if m.name.ends_with('*') { "" } else { m.meaning }])
}

/// The greatest of 1, 2, 5, 10, 20, … that is not above `value`.
fn round(value: f64) -> f64 {
    let ten = 10f64.powf(value.max(1.0).log10().floor());
    [5.0, 2.0].into_iter().map(|n| n * ten).find(|n| *n <= value).unwrap_or(ten)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), PlotError> {
    std::fs::write(path, bytes).map_err(|source| PlotError::Write { path: path.into(), source })
}
