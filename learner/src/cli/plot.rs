//! `lucid plot`.

use std::path::{Path, PathBuf};

use shared::config::Config;

use crate::RunError;
use crate::plot::{By, Mark, Plot, PlotError, Request, published};
use crate::report::number;

/// Draw a metric of one run or several.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folders; of several, mean and band from least to greatest are drawn too.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The picture: .png or .svg.
    #[arg(long, default_value = "plot.png")]
    out: PathBuf,
    /// The numbers in it, as CSV: run, x, y.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Which metric.
    #[arg(long, default_value = "episode/return")]
    metric: String,
    /// Environment steps that each point is the mean of, every episode weighing the same [default: 20000, or a tenth of the
    /// longest run where that is less].
    #[arg(long)]
    window: Option<u64>,
    /// The horizontal axis; time is in minutes.
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// Name of a run in the legend, once for each run in their order. Runs that share a name, such as seeds, are drawn as their
    /// mean and band.
    #[arg(long)]
    label: Vec<String>,
    /// A point of reference, X,Y,LABEL, in units of the axes, as in 50000,294,published.
    #[arg(long)]
    mark: Vec<Mark>,
    /// Points of reference from the scores that were published for the runs' task (returns over environment steps).
    #[arg(long)]
    published: bool,
    /// Only the curve of each run, without mean and band.
    #[arg(long)]
    each: bool,
}

/// Run it.
pub fn run(args: &Args) -> Result<(), RunError> {
    let mut marks = args.mark.clone();
    if args.published {
        marks.extend(scores(&args.runs)?);
    }
    let request = Request {
        runs: names(&args.runs, &args.label)?.into_iter().zip(args.runs.iter().cloned()).collect(),
        metric: args.metric.clone(),
        by: args.by,
        window: args.window.map(|steps| steps as f64),
        marks,
        each: args.each,
    };
    let plot = Plot::read(&request)?;
    plot.draw(&args.out)?;
    if let Some(path) = &args.data {
        plot.save(path)?;
    }
    for curve in &plot.curves {
        if let Some((x, y)) = curve.points.last() {
            println!("{}: {} {} at {} {}", curve.name, args.metric, number(*y), x.round(), args.by.unit());
        }
    }
    println!("{}", args.out.display());
    Ok(())
}

/// Published scores for the one task of these runs.
fn scores(runs: &[PathBuf]) -> Result<Vec<Mark>, RunError> {
    let mut marks: Vec<Mark> = Vec::new();
    for run in runs {
        let env = Config::load(&[run.join("config.toml").to_string_lossy()], &[] as &[&str])?.env;
        let found = published(&env.task, &env.observe);
        if found.is_empty() {
            return Err(PlotError::Unpublished { task: env.task, observe: env.observe }.into());
        }
        marks.extend(found.into_iter().filter(|mark| !marks.contains(mark)).collect::<Vec<_>>());
    }
    Ok(marks)
}

/// As given; else the folders' names, or their paths where names are the same.
fn names(runs: &[PathBuf], labels: &[String]) -> Result<Vec<String>, PlotError> {
    if !labels.is_empty() && labels.len() != runs.len() {
        return Err(PlotError::Labels { labels: labels.len(), runs: runs.len() });
    }
    if !labels.is_empty() {
        return Ok(labels.to_vec());
    }
    let short = |run: &Path| run.file_name().map(|name| name.to_string_lossy().into_owned());
    let unique = |run: &Path| runs.iter().filter(|other| short(other) == short(run)).count() == 1;
    let name = |run: &PathBuf| short(run).filter(|_| unique(run)).unwrap_or_else(|| run.display().to_string());
    Ok(runs.iter().map(name).collect())
}
