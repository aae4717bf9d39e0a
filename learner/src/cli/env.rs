//! `lucid env`.

use std::path::PathBuf;

use actor::env::{Action, Env, Outcome, TASKS, make, sample_action, tasks};
use clap::Subcommand;
use console::{Alignment, pad_str};
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::config::{Config, GYMNASIUM};
use shared::env::{FLAGS, Spaces};

use crate::RunError;
use crate::env_check::{Entry, Finding, Report, words};
use crate::evaluation::{Film, Filmed};
use crate::film_file;

/// What [`Config`] lets the agent observe.
const OBSERVE: [&str; 3] = ["pixels", "vector", "both"];
/// Tasks that are processes of their own, whose names nobody can list.
const IN_PYTHON: [[&str; 2]; 7] = [
    ["gymnasium:ID", "any environment of Gymnasium, such as gymnasium:CartPole-v1 (docs/environments.md)"],
    ["dmc:DOMAIN_TASK", "DeepMind Control, such as dmc:walker_walk (docs/suites.md, as those below)"],
    ["atari:GAME", "Atari with sticky actions, such as atari:pong"],
    ["atari100k:GAME", "Atari as in the benchmark of 100,000 steps"],
    ["minigrid:ID", "MiniGrid, such as minigrid:MiniGrid-DoorKey-6x6-v0"],
    ["procgen:GAME", "Procgen, such as procgen:coinrun"],
    ["crafter:reward", "Crafter; crafter:noreward without rewards"],
];
/// Longest random episode.
const LONGEST: usize = 100_000;

/// Look at environments before training in them.
#[derive(Debug, Subcommand)]
pub enum Args {
    /// The tasks that are built in, and those that this program adds, with what each lets an agent see and do.
    List,
    /// Step a task with random actions, and say what of it would hinder training. Ends with an error if anything makes training
    /// impossible or wrong.
    Check(CheckArgs),
    /// Film an episode of random actions. (`lucid eval RUN --video` films a trained agent.)
    Play(PlayArgs),
}

/// A task and its options.
#[derive(Debug, clap::Args)]
pub struct Task {
    /// Task, as in `env.task`.
    task: String,
    /// Override one option, such as env.observe=vector.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Seed of the environment and of the actions.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    task: Task,
    /// Steps.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct PlayArgs {
    #[command(flatten)]
    task: Task,
    /// The film; its first 1,000 frames. MP4 needs ffmpeg.
    #[arg(long, value_name = "FILE.gif|FILE.mp4")]
    video: PathBuf,
}

/// Run it.
pub fn run(args: &Args) -> Result<(), RunError> {
    match args {
        Args::List => list(),
        Args::Check(args) => check(args),
        Args::Play(args) => play(args),
    }
}

impl Task {
    /// Nothing here meets an agent, so no option of one is in the way.
    fn config(&self) -> Result<Config, RunError> {
        let sets = [vec![format!("env.task={}", self.task)], self.set.clone()].concat();
        Ok(Config::load(&[] as &[&str], &sets)?)
    }
}

fn list() -> Result<(), RunError> {
    let mut rows = vec![["task", "actions", "agents see"].map(String::from)];
    for task in TASKS.into_iter().chain(tasks().names()) {
        let made = |observe: &'static str| {
            let task = Task { task: task.into(), set: vec![format!("env.observe={observe}")], seed: 0 };
            Some((observe, make(&task.config().ok()?.env, 0).ok()?))
        };
        let found: Vec<_> = OBSERVE.into_iter().filter_map(made).collect();
        let actions = found.first().map_or(String::new(), |(_, env)| in_words(&env.act_space()));
        rows.push([task.into(), actions, seen(&found)]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1)];
    for [task, actions, see] in &rows {
        println!("{}  {}  {see}", pad(task, widths[0]), pad(actions, widths[1]));
    }
    println!();
    for [task, what] in IN_PYTHON {
        println!("{}  {what}", pad(task, widths[0]));
    }
    Ok(())
}

/// Which of `env.observe` there is, or what is seen where it makes no difference.
fn seen(found: &[(&str, Box<dyn Env>)]) -> String {
    let spaces: Vec<Spaces> = found.iter().map(|(_, env)| env.obs_space()).collect();
    match spaces.split_first() {
        Some((first, rest)) if !rest.is_empty() && rest.iter().all(|other| other == first) => {
            let flag = |key: &String| FLAGS.contains(&key.as_str());
            in_words(
                &first.iter().filter(|(key, _)| !flag(key)).map(|(key, space)| (key.clone(), space.clone())).collect(),
            )
        }
        _ => found.iter().map(|(observe, _)| *observe).collect::<Vec<_>>().join(", "),
    }
}

fn in_words(spaces: &Spaces) -> String {
    spaces.iter().map(|(key, space)| format!("{key}: {}", words(space))).collect::<Vec<_>>().join("; ")
}

fn pad(text: &str, width: usize) -> String {
    pad_str(text, width, Alignment::Left, None).into_owned()
}

fn check(args: &CheckArgs) -> Result<(), RunError> {
    let config = args.task.config()?;
    let report = Report::make(&config.env, args.steps as usize, args.task.seed)?;
    match args.json {
        true => println!("{}", serde_json::json!(report)),
        false => show(&report, &config.env.observe),
    }
    match report.faults() {
        0 => Ok(()),
        count => Err(RunError::EnvFaults { task: report.task, count }),
    }
}

fn show(report: &Report, observe: &str) {
    // What an environment of Gymnasium shows is its own affair.
    let observe = if report.task.starts_with(GYMNASIUM) { String::new() } else { format!(", env.observe={observe}") };
    println!("{}{observe}", report.task);
    let entries = |title: &str, entries: &[Entry]| {
        println!("{title}");
        for Entry { key, space, seen } in entries {
            let seen = seen.map_or(String::new(), |[low, high]| format!("seen: {low} to {high}"));
            println!("  {} {} {seen}", pad(key, 12), pad(space, 36));
        }
    };
    entries("observations", &report.observations);
    entries("actions", &report.actions);
    println!("{} steps of random actions, seed {}", report.steps, report.seed);
    let episodes = &report.episodes;
    if let (Some([shortest, longest]), Some([least, mean, most])) = (episodes.length, episodes.returns) {
        let (count, cut) = (episodes.count, episodes.count - episodes.terminal);
        println!(
            "  {count} episodes of {shortest} to {longest} steps: {} ended by the task, {cut} cut",
            episodes.terminal
        );
        println!("  returns {least:.3} to {most:.3}, mean {mean:.3}");
    }
    if let Some([low, high]) = report.reward {
        println!("  rewards {low} to {high}, not 0 in {:.1} % of the steps", 100.0 * report.rewarded);
    }
    println!("  {:.0} steps/s", report.steps_per_s);
    for Finding { fault, what, help } in &report.findings {
        println!("{}: {what}\n  {help}", if *fault { "fault" } else { "note" });
    }
    if report.findings.is_empty() {
        println!("nothing to object to");
    }
}

fn play(args: &PlayArgs) -> Result<(), RunError> {
    let config = args.task.config()?.env;
    let film = Film::default();
    let mut env = Filmed::new(make(&config, args.task.seed)?, film.clone());
    let (space, mut draws) = (env.act_space(), Xoshiro256PlusPlus::seed_from_u64(args.task.seed));
    let (mut total, mut steps, mut last) = (0.0, 0, Outcome::default());
    while !last.is_last && steps < LONGEST {
        last = Outcome::of(&env.step(&Action { reset: steps == 0, values: sample_action(&space, &mut draws) })?);
        total += f64::from(last.reward);
        steps += 1;
    }
    let frames = film.frames().ok_or_else(|| RunError::Film { task: config.task.clone() })?;
    film_file::write(&args.video, &frames)?;
    println!("{} steps of random actions, return {total:.3}: {}", steps - 1, args.video.display());
    Ok(())
}
