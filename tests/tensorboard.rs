//! TensorBoard's own reader finds in a run's event files what the run recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::gif::GifDecoder;
use image::{AnimationDecoder, ImageDecoder};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::metrics::{EventFile, Numbers};

use crate::support::{Run, wait_for};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/read_events.py");

#[derive(Deserialize)]
struct Events {
    /// Steps, times and values by tag.
    scalars: BTreeMap<String, Vec<(u64, f64, f64)>>,
    histograms: BTreeMap<String, Vec<Histogram>>,
    /// Steps, heights, widths and files in base64 by tag.
    images: BTreeMap<String, Vec<(u64, usize, usize, String)>>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Histogram {
    step: u64,
    min: f64,
    max: f64,
    num: f64,
    sum: f64,
    sum_squares: f64,
    bucket_limit: Vec<f64>,
    bucket: Vec<f64>,
}

/// Where Python finds TensorBoard: nowhere special, or a folder that pip has filled, once for all runs of the tests.
fn packages() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tensorboard");
        let found = || {
            python(&folder, &["-c", "from tensorboard.backend.event_processing import event_accumulator"])
                .status()
                .is_ok_and(|status| status.success())
        };
        if !found() {
            let target = ["--target", folder.to_str().unwrap(), "tensorboard"];
            let output = python(&folder, &["-m", "pip", "install", "--quiet", "--upgrade"]).args(target).output();
            let output = output.expect("Python 3 with pip");
            assert!(output.status.success() && found(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        folder
    })
}

fn python(packages: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", packages).args(args);
    command
}

fn read(folder: &Path) -> Events {
    let output = python(packages(), &[SCRIPT, folder.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The same curves, but for the rounding of values to float32.
fn assert_alike(found: &BTreeMap<String, Vec<(u64, f64, f64)>>, expected: &BTreeMap<String, Vec<(u64, f64, f64)>>) {
    assert!(found.keys().eq(expected.keys()));
    for (name, points) in expected {
        assert_eq!(found[name].len(), points.len(), "{name}");
        for (a, b) in found[name].iter().zip(points) {
            let alike = (a.0, a.1) == (b.0, b.1) && (a.2 - b.2).abs() <= 2e-7 * b.2.abs();
            assert!(alike, "{name}: {a:?}, not {b:?}");
        }
    }
}

#[test]
fn tensorboard_reads_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let numbers = |value: f64| Numbers::from([("episode/return".into(), value)]);
    let lag: Vec<f64> = (0..=60).map(f64::from).collect();
    let mut first = EventFile::create(folder.path(), 0, 100.5).unwrap();
    first.append(10, 101.5, &numbers(0.1), [("lag/updates", &lag[..])]).unwrap();
    first.append(20, 102.5, &numbers(0.2), []).unwrap();
    first.append(30, 103.5, &numbers(0.3), []).unwrap();
    // It died, and goes on from a checkpoint at step 20.
    let mut second = EventFile::create(folder.path(), 20, 200.5).unwrap();
    second.append(25, 201.5, &numbers(0.4), [("lag/updates", &[7.0; 3][..])]).unwrap();

    let events = read(folder.path());
    let expected = [(10, 101.5, 0.1f32), (20, 102.5, 0.2), (25, 201.5, 0.4)];
    let expected = expected.map(|(step, time, value)| (step, time, f64::from(value)));
    assert_eq!(events.scalars, [("episode/return".to_string(), expected.to_vec())].into());
    let spread = Histogram {
        step: 10,
        min: 0.0,
        max: 60.0,
        num: 61.0,
        sum: 1830.0,
        sum_squares: 73810.0,
        bucket_limit: (1..=30).map(|i| f64::from(2 * i)).collect(),
        bucket: [vec![2.0; 29], vec![3.0]].concat(),
    };
    let [bucket_limit, bucket] = [vec![7.0], vec![3.0]];
    let equal =
        Histogram { step: 25, min: 7.0, max: 7.0, num: 3.0, sum: 21.0, sum_squares: 147.0, bucket_limit, bucket };
    assert_eq!(events.histograms, [("lag/updates".to_string(), vec![spread, equal])].into());
}

#[test]
fn a_report_is_a_file_in_media_and_the_same_picture_in_tensorboard() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let sets = ["log.report_every=1e-9", "log.media_keep=3", "agent.report_length=6", "agent.report_gradnorms=true"];
    let sets: Vec<&str> = sets.into_iter().flat_map(|set| ["--set", set]).collect();
    Run::start(&folder, &[&["-c", "dummy", "--steps", "300"], &sets[..]].concat()).end_well();
    let images = read(&folder.join("tensorboard")).images;
    assert_eq!(images.keys().collect::<Vec<_>>(), ["report/openloop/image"]);
    // A file is overwritten by a later report at the same step.
    let shown: BTreeMap<u64, _> = images["report/openloop/image"]
        .iter()
        .map(|(step, height, width, file)| (*step, (*height, *width, file)))
        .collect();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder.join("media")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() == 3 && shown.len() >= 3, "{files:?}");
    for (file, (step, (height, width, encoded))) in files.iter().rev().zip(shown.iter().rev()) {
        assert_eq!(file.file_name().unwrap().to_str().unwrap(), format!("openloop-image-{step:012}.gif"));
        let decoder = GifDecoder::new(std::io::Cursor::new(std::fs::read(file).unwrap())).unwrap();
        assert_eq!(decoder.dimensions(), (*width as u32, *height as u32));
        // Six steps, and as many black frames behind them.
        assert_eq!(decoder.into_frames().collect_frames().unwrap().len(), 12);
        assert_eq!(STANDARD.encode(std::fs::read(file).unwrap()), **encoded);
    }
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    for name in ["report/loss/dyn", "report/openloop_error/image", "report/gradnorm/policy", "report/seconds"] {
        assert!(text.contains(&format!("\"{name}\":")), "{name}");
    }
}

#[test]
fn the_film_of_an_evaluation_is_the_same_picture_in_tensorboard() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let sets = ["eval.every=1000000", "eval.episodes=1", "eval.video=true", "agent.report=false"];
    let sets: Vec<&str> = sets.into_iter().flat_map(|set| ["--set", set]).collect();
    let mut run = Run::start(&folder, &[&["-c", "dummy"], &sets[..]].concat());
    wait_for("an evaluation", || {
        std::fs::read_to_string(folder.join("eval.jsonl")).is_ok_and(|text| text.ends_with('\n'))
    });
    run.signal(Signal::INT);
    run.end_well();
    let images = read(&folder.join("tensorboard")).images;
    let (step, _, _, encoded) = &images["eval/film/0"][0];
    let file = folder.join("media").join(format!("eval-0-{step:012}.gif"));
    assert_eq!(STANDARD.encode(std::fs::read(file).unwrap()), *encoded);
}

#[test]
fn a_resumed_run_is_one_curve_of_the_numbers_in_metrics_jsonl() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let lockstep = ["--actors", "1", "--set", "sync.mode=lockstep", "--set", "log.updates=2"];
    Run::start(&folder, &[&["-c", "dummy", "--steps", "200"], &lockstep[..]].concat()).end_well();
    Run::start(&folder, &["--steps", "300"]).end_well();
    assert_eq!(std::fs::read_dir(folder.join("tensorboard")).unwrap().count(), 2);

    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let records: Vec<Map<String, Value>> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut expected: BTreeMap<String, Vec<(u64, f64, f64)>> = BTreeMap::new();
    for record in &records {
        let (step, time) = (record["step"].as_u64().unwrap(), record["time"].as_f64().unwrap());
        for (name, value) in record.iter().filter(|(name, _)| name.contains('/')) {
            let value = f64::from(value.as_f64().unwrap() as f32);
            expected.entry(name.clone()).or_default().push((step, time, value));
        }
    }
    let events = read(&folder.join("tensorboard"));
    assert!(expected["train/loss/dyn"].len() > 5 && expected["env/steps"].last().unwrap().0 >= 300);
    assert_alike(&events.scalars, &expected);

    let spreads: Vec<_> = expected.keys().filter_map(|name| name.strip_suffix("/max")).collect();
    assert_eq!(events.histograms.keys().collect::<Vec<_>>(), spreads);
    assert!(["staleness/updates", "staleness/latents", "lag/insert"].iter().all(|name| spreads.contains(name)));
    for (name, histograms) in &events.histograms {
        let largest: Vec<_> = histograms.iter().map(|h| (h.step, h.max as f32)).collect();
        let maxima = &expected[&format!("{name}/max")];
        assert_eq!(largest, maxima.iter().map(|(step, _, max)| (*step, *max as f32)).collect::<Vec<_>>());
        assert!(histograms.iter().all(|h| h.num > 0.0 && h.bucket.iter().sum::<f64>() == h.num), "{histograms:?}");
    }
}

#[test]
fn a_run_may_do_without() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    Run::start(&folder, &["-c", "dummy", "--steps", "100", "--set", "log.tensorboard=false"]).end_well();
    assert!(folder.join("metrics.jsonl").exists() && !folder.join("tensorboard").exists());
}
