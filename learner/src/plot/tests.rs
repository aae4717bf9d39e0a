//! What people read off a picture is what the runs reported.

use std::fs;
use std::path::Path;

use resvg::tiny_skia::Pixmap;

use super::*;

/// A run folder with these lines in its `metrics.jsonl`.
fn run(dir: &Path, name: &str, text: &str) -> (String, PathBuf) {
    let folder = dir.join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("metrics.jsonl"), text).unwrap();
    (name.to_string(), folder)
}

fn request(runs: Vec<(String, PathBuf)>, window: u64) -> Request {
    let (metric, window) = ("episode/return".to_string(), Some(window as f64));
    Request { runs, metric, by: By::Steps, window, marks: vec![], each: false }
}

fn csv(request: &Request) -> String {
    data::csv(&Plot::read(request).unwrap())
}

/// Six episodes in three records; one record without a number, one that is not finite, one that is still being written.
const RECORDS: &str = r#"{"step":100,"update":10,"time":1000.0,"episode/count":0,"episode/return":null}
{"step":200,"update":20,"time":1060.0,"episode/count":1,"episode/return":10.0}
{"step":300,"update":30,"time":1120.0,"episode/count":4,"episode/return":2.0}
{"step":350,"update":35,"time":1150.0,"episode/count":4}
{"step":400,"update":40,"time":1180.0,"episode/count":6,"episode/return":0.5}
{"step":500,"upd"#;

#[test]
fn a_point_is_the_mean_of_the_episodes_within_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let runs = vec![run(dir.path(), "one", RECORDS)];
    assert_eq!(csv(&request(runs.clone(), 0)), "run,x,y\none,200,10\none,300,2\none,400,0.5\n");
    // 200 steps: (10 + 3 * 2) / 4, then (3 * 2 + 2 * 0.5) / 5.
    assert_eq!(csv(&request(runs.clone(), 200)), "run,x,y\none,200,10\none,300,4\none,400,1.4\n");
    let minutes = Request { by: By::Time, ..request(runs.clone(), 0) };
    assert_eq!(csv(&minutes), "run,x,y\none,1,10\none,2,2\none,3,0.5\n");
    let updates = Request { by: By::Updates, metric: "episode/count".into(), ..request(runs, 0) };
    assert_eq!(csv(&updates), "run,x,y\none,10,0\none,20,1\none,30,4\none,35,4\none,40,6\n");
}

#[test]
fn without_a_window_it_is_that_of_the_published_curves_or_shorter() {
    let dir = tempfile::tempdir().unwrap();
    let label = |steps: u64| {
        let text = RECORDS.replace(r#""step":400"#, &format!(r#""step":{steps}"#));
        let request = Request { window: None, ..request(vec![run(dir.path(), "one", &text)], 0) };
        Plot::read(&request).unwrap().y_label
    };
    assert_eq!(label(400), "episode/return (reward), mean of 20 steps");
    assert_eq!(label(119_000), "episode/return (reward), mean of 10k steps");
    assert_eq!(label(5_000_000), "episode/return (reward), mean of 20k steps");
}

#[test]
fn what_came_after_the_checkpoint_that_a_run_went_on_from_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let resumed = r#"{"step":250,"update":22,"time":2000.0,"episode/count":3,"episode/return":4.0}
"#;
    let whole = RECORDS.rsplit_once('\n').unwrap().0;
    let runs = vec![run(dir.path(), "one", &format!("{whole}\n{resumed}"))];
    assert_eq!(csv(&request(runs, 1000)), "run,x,y\none,200,10\none,250,6\n");
}

#[test]
fn several_runs_have_a_mean_and_a_band_where_all_of_them_are() {
    let dir = tempfile::tempdir().unwrap();
    let line = |step: u64, value: f64| format!("{{\"step\":{step},\"update\":0,\"time\":0,\"train/ret\":{value}}}\n");
    let one = run(dir.path(), "one", &[line(0, 0.0), line(100, 8.0), line(200, 8.0)].concat());
    let two = run(dir.path(), "a \"b\", c", &[line(50, 2.0), line(150, 2.0)].concat());
    let request = Request { metric: "train/ret".into(), ..request(vec![one, two], 0) };
    let expected = "run,x,y\none,0,0\none,100,8\none,200,8\n\"a \"\"b\"\", c\",50,2\n\"a \"\"b\"\", c\",150,2\n\
        mean,50,3\nmean,100,5\nmean,150,5\nmin,50,2\nmin,100,2\nmin,150,2\nmax,50,4\nmax,100,8\nmax,150,8\n";
    assert_eq!(csv(&request), expected);
    assert_eq!(Plot::read(&Request { each: true, ..request }).unwrap().bands, []);
}

#[test]
fn runs_that_share_a_name_are_one_line_with_a_band_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let line = |step: u64, value: f64| format!("{{\"step\":{step},\"update\":0,\"time\":0,\"train/ret\":{value}}}\n");
    let seed = |folder: &str, name: &str, value: f64| {
        (name.to_string(), run(dir.path(), folder, &[line(0, value), line(100, value)].concat()).1)
    };
    let runs = vec![seed("a", "vit", 1.0), seed("b", "cnn", 5.0), seed("c", "vit", 3.0), seed("d", "cnn", 9.0)];
    let request = Request { metric: "train/ret".into(), ..request(runs, 0) };
    let text = csv(&request);
    for line in
        ["vit 0,0,1", "vit 1,100,3", "cnn 0,0,5", "vit mean,100,2", "cnn mean,0,7", "cnn min,0,5", "vit max,0,3"]
    {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    let svg = picture::svg(&Plot::read(&request).unwrap()).unwrap();
    let times = |label: &str| svg.matches(label).count();
    assert_eq!((times("vit"), times("cnn"), times("min to max of 2")), (1, 1, 2));
}

#[test]
fn the_picture_is_a_png_with_the_curve_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let marks = vec!["300,20,published, 5 seeds".parse().unwrap()];
    let plot = Plot::read(&Request { marks, ..request(vec![run(dir.path(), "one", RECORDS)], 0) }).unwrap();
    let [png, svg] = ["plot.png", "plot.svg"].map(|name| dir.path().join(name));
    plot.draw(&png).unwrap();
    plot.draw(&svg).unwrap();
    let bytes = fs::read(&png).unwrap();
    assert_eq!(bytes[..8], *b"\x89PNG\r\n\x1a\n");
    let pixels = Pixmap::decode_png(&bytes).unwrap();
    let like = |rgb: [u8; 3]| pixels.pixels().iter().filter(|p| [p.red(), p.green(), p.blue()] == rgb).count();
    let all = pixels.pixels().len();
    assert!(like([0, 114, 178]) > 1000, "the curve");
    assert!(like([0, 0, 0]) > 1000, "text and mark");
    assert!(like([255, 255, 255]) > all * 8 / 10, "paper");
    let text = fs::read_to_string(&svg).unwrap();
    for expected in ["published, 5 seeds", "environment steps", "episode/return (reward)", "one"] {
        assert!(text.contains(expected), "{expected}");
    }
}

#[test]
fn curves_that_leave_no_room_for_an_axis_are_drawn_too() {
    let dir = tempfile::tempdir().unwrap();
    let line = |value: f64| format!("{{\"step\":0,\"update\":0,\"time\":0,\"train/ret\":{value:e}}}\n");
    for (index, value) in [0.0, -3.0, 1e-12, 1e12, f64::MAX].into_iter().enumerate() {
        let lines = [line(value), line(value), line(value.next_down())].concat();
        let runs = vec![run(dir.path(), &index.to_string(), &lines)];
        let plot = Plot::read(&Request { metric: "train/ret".into(), ..request(runs, 0) }).unwrap();
        let drawn = plot.draw(&dir.path().join("plot.svg"));
        assert_eq!(drawn.is_ok(), value != f64::MAX, "{value}: {drawn:?}");
    }
}

#[test]
fn ticks_of_an_axis_share_a_unit() {
    let ticks = |largest: f64| [0.0, 0.25, 0.5, 1.0].map(|share| picture::compact(share * largest, largest));
    assert_eq!(ticks(1.0), ["0", "0.25", "0.5", "1"]);
    assert_eq!(ticks(4000.0), ["0", "1000", "2000", "4000"]);
    assert_eq!(ticks(20_000.0), ["0", "5k", "10k", "20k"]);
    assert_eq!(ticks(1e6), ["0", "250k", "500k", "1000k"]);
    assert_eq!(ticks(1e7), ["0", "2.5M", "5M", "10M"]);
    assert_eq!(ticks(4e-5), ["0", "0.00001", "0.00002", "0.00004"]);
}

#[test]
fn errors_name_the_culprit() {
    let dir = tempfile::tempdir().unwrap();
    let error = |metric: &str, text: &str| {
        let runs = vec![run(dir.path(), "one", text)];
        Plot::read(&Request { metric: metric.into(), ..request(runs, 0) }).unwrap_err().to_string()
    };
    assert!(error("episode/retrun", RECORDS).contains("(did you mean `episode/return`?)"));
    assert!(error("checkpoint/seconds", RECORDS).contains("no number for `checkpoint/seconds` yet"));
    assert!(error("episode/return", "").contains("no number for `episode/return` yet"));
    for (bad, expected) in [
        ("{\"step\":1\n", "line 6: not a record"),
        ("\n", "line 6: not a record"),
        ("\u{fffd}\n", "line 6: not a record"),
        ("{\"step\":1,\"update\":\"x\",\"time\":0}\n", "line 6: `update` is \"x\", not a number"),
        ("{\"step\":1,\"update\":1}\n", "line 6: `time` is missing"),
    ] {
        let whole = RECORDS.rsplit_once('\n').unwrap().0;
        let message = error("episode/return", &format!("{whole}\n{bad}"));
        assert!(message.contains("metrics.jsonl, ") && message.contains(expected), "{message}");
    }
    let none = request(vec![("x".into(), dir.path().join("none"))], 0);
    assert!(Plot::read(&none).unwrap_err().to_string().contains("has no metrics.jsonl"));
    let plot = Plot::read(&request(vec![run(dir.path(), "one", RECORDS)], 0)).unwrap();
    assert!(plot.draw(Path::new("plot.gif")).unwrap_err().to_string().contains(".png or .svg"));
    assert!("5,x".parse::<Mark>().unwrap_err().contains("X,Y,LABEL"));
}
