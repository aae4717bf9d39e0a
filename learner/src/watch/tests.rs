//! What people see on screens of common sizes, and what keys do.

use std::fs;
use std::thread;

use console::measure_text_width;
use ratatui::Terminal as Painter;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;
use shared::metrics::{ActorReport, Phase, ReplayReport, Report};

use super::*;
use crate::control::{Answer, Hub, Socket, Word};

#[path = "../../../tests/pty.rs"]
#[allow(dead_code)]
mod pty;
use pty::OnTerminal;

const PLAIN: Theme = Theme { colours: false };

fn actor(index: usize) -> ActorReport {
    ActorReport {
        index,
        pid: 4000 + index as u32,
        version: 11_840,
        ack_ms: 1.5,
        steps: 24_100 + index as u64,
        steps_per_s: 30.5 + index as f64,
        rss: 40 << 20,
        ..Default::default()
    }
}

/// Of `actors` actors, of which number 1 lags.
fn report(actors: usize) -> Report {
    let mut actors: Vec<ActorReport> = (0..actors).map(actor).collect();
    if let Some(slow) = actors.get_mut(1) {
        let late = ActorReport { version: 11_833, lag_versions: 7, lag_updates: 14, lag_seconds: 0.52, ..slow.clone() };
        *slow = ActorReport { waits_for: "credits".into(), restarts: 2, ..late };
    }
    Report {
        phase: Phase::Training,
        elapsed: 800.0,
        target_minutes: 0.0,
        steps: 48_210,
        target_steps: 100_000,
        steps_per_s: 61.2,
        updates: 11_840,
        updates_per_s: 15.1,
        episodes: 5356,
        returns: vec![-1.0, 1.0, 1.0, 1.0],
        losses: [("dyn", 1.32), ("rew", 0.0214)].map(|(name, loss)| (name.into(), loss)).into(),
        replay: ReplayReport {
            steps: 48_210,
            cap: 5_000_000,
            bytes: 118 << 20,
            cap_bytes: 2 << 30,
            ..Default::default()
        },
        learner_waits: 0.02,
        actors_wait: 0.38,
        version: 11_840,
        rss: 1 << 30,
        learner_restarts: 0,
        replay_ratio: 31.9,
        evaluation: None,
        actors,
        hosts: Vec::new(),
        warnings: vec!["actor 1 (process 4001) has not taken a snapshot for 30 s: it may be stuck".into()],
    }
}

fn watched(report: Report, now: Instant) -> State {
    let mut state = State::new(Path::new("runs/quickstart"), History::default(), Stage::Live);
    state.hear(Word::Report(Box::new(report)), now);
    state
}

fn painted(state: &mut State, [width, height]: [u16; 2], theme: Theme, now: Instant) -> Buffer {
    let mut painter = Painter::new(TestBackend::new(width, height)).unwrap();
    painter.draw(|frame| screen::draw(frame, state, theme, now)).unwrap();
    painter.backend().buffer().clone()
}

fn drawn(state: &mut State, size: [u16; 2], now: Instant) -> Vec<String> {
    let buffer = painted(state, size, PLAIN, now);
    let cells: Vec<&str> = buffer.content.iter().map(|cell| cell.symbol()).collect();
    cells.chunks(size[0].into()).map(|row| row.concat()).collect()
}

fn shows(lines: &[String], words: &[&str]) {
    for word in words {
        assert!(lines.iter().any(|line| line.contains(word)), "no {word:?} in\n{}", lines.join("\n"));
    }
}

fn press(state: &mut State, keys: &str) -> Vec<Deed> {
    keys.chars().filter_map(|c| keys::press(state, KeyEvent::from(KeyCode::Char(c)))).collect()
}

fn ask(request: Request) -> Vec<Deed> {
    vec![Deed::Ask(request)]
}

#[test]
fn all_that_matters_is_on_screens_of_both_sizes() {
    let now = Instant::now();
    for size in [[80, 24], [160, 50]] {
        let lines = drawn(&mut watched(report(2), now), size, now);
        let title =
            ["runs/quickstart", "training", "48,210/100k steps 61.2/s", "11,840 updates", "13m 20s", "14m 6s left"];
        let charts = ["return 1.00  mean of 4: 0.500", "loss dyn 1.32  1 of 2 (l)"];
        let panel = ["updates 15.1/s", "memory 1.00 GiB + actors 80.0 MiB", "6% full", "48,210/5.00M steps"];
        let more = ["118 MiB/2.00 GiB", "replay ratio 31.9", "actors wait for learner (38%)", "newest snapshot 11,840"];
        let lag = ["versions 0/7/7", "updates 0/14/14", "seconds 0.00/0.52/0.52"];
        let rest = ["actors 1-2 of 2", "! 13m 20s actor 1 (process 4001) has not", "q leave", "? help"];
        [&title[..], &charts, &panel, &more, &lag, &rest].into_iter().for_each(|words| shows(&lines, words));
        let row = lines.iter().find(|line| line.starts_with('▶') && line.contains("4001")).expect("a row for actor 1");
        for word in ["11,833", " 7 ", " 14 ", "0.52s", "1.5ms", "24,101", "31.5", " 2 ", "40.0 MiB", "waits: credits"] {
            assert!(row.contains(word), "{word}: {row}");
        }
        shows(&lines, &["▶ actor 1 lags most, by 7 versions: it waits for credits: the learner is behind"]);
    }
}

#[test]
fn without_actors_and_before_the_first_report() {
    let now = Instant::now();
    let lines = drawn(&mut watched(report(0), now), [80, 24], now);
    shows(&lines, &["no actors", "actors: 0", "training"]);
    let mut state = State::new(Path::new("runs/a"), History::default(), Stage::Live);
    let lines = drawn(&mut state, [80, 24], now);
    shows(&lines, &["loading", "nothing reported yet", "no numbers yet"]);
}

#[test]
fn scrolling_reaches_every_one_of_64_actors() {
    let now = Instant::now();
    for size in [[80, 24], [160, 50], [200, 60]] {
        let mut state = watched(report(64), now);
        let lines = drawn(&mut state, size, now);
        let [shown, all] = state.rows;
        assert!(shown >= 3 && all == 64, "{shown} rows");
        shows(
            &lines,
            &[&format!("actors 1-{shown} of 64"), &format!("↑0 ↓{}  {} more actors", 64 - shown, 64 - shown)],
        );
        press(&mut state, "jj");
        shows(&drawn(&mut state, size, now), &[&format!("actors 3-{} of 64", shown + 2), "lag at most 7"]);
        keys::press(&mut state, KeyEvent::from(KeyCode::End));
        let lines = drawn(&mut state, size, now);
        shows(&lines, &[" 4063 ", "-64 of 64", "↓0"]);
        keys::press(&mut state, KeyEvent::from(KeyCode::PageUp));
        shows(&drawn(&mut state, size, now), &[&format!("-{} of 64", shown.max(64 - shown))]);
        press(&mut state, "kg");
        shows(&drawn(&mut state, size, now), &[" 4000 ", "↑0"]);
        for _ in 0..64 {
            press(&mut state, "j");
        }
        shows(&drawn(&mut state, size, now), &[" 4063 "]);
        press(&mut state, "k");
        assert_eq!(state.top, 63 - shown, "keys beyond the end do not count");
    }
}

#[test]
fn a_run_that_is_scaled_down_leaves_no_empty_rows() {
    let now = Instant::now();
    let mut state = watched(report(64), now);
    drawn(&mut state, [80, 24], now);
    press(&mut state, "G");
    state.hear(Word::Report(Box::new(report(2))), now);
    shows(&drawn(&mut state, [80, 24], now), &["actors 1-2 of 2", " 4000 ", " 4001 "]);
}

#[test]
fn actors_in_another_order() {
    let now = Instant::now();
    let first = |state: &State| state.actors()[0].index;
    let mut late = report(9);
    late.actors[5].steps_per_s = 0.25;
    let mut state = watched(late, now);
    assert_eq!(first(&state), 0);
    press(&mut state, "s");
    assert_eq!(first(&state), 1, "the largest lag first");
    shows(&drawn(&mut state, [80, 24], now), &["by lag, largest first"]);
    press(&mut state, "s");
    assert_eq!(first(&state), 5, "the slowest first");
    press(&mut state, "s");
    assert_eq!(first(&state), 0);
}

#[test]
fn why_an_actor_lags() {
    let start = Instant::now();
    let later = start + Duration::from_secs(12);
    let why = |change: fn(&mut Report), others_move: bool, now: Instant| {
        let mut report = report(3);
        report.actors[1].waits_for = String::new();
        change(&mut report);
        let mut state = watched(report.clone(), start);
        report.actors[0].steps += u64::from(others_move);
        state.hear(Word::Report(Box::new(report)), now);
        actors::sentence(&state, now)
    };
    let says = |found: String, expected: &str| {
        assert_eq!(found, format!("▶ actor 1 lags most, by 7 versions: {expected}"));
    };
    says(why(|_| {}, true, start), "it acts, 31.5 steps/s, and takes a snapshot between two steps");
    says(why(|_| {}, true, later), "no step, no acknowledgement for 12s: stuck or stopped");
    says(why(|r| r.phase = Phase::Paused, false, later), "the run is paused");
    says(why(|r| r.actors[1].pid = 0, true, later), "it is restarting");
    says(why(|r| r.actors[1].waits_for = "snapshot".into(), true, later), "it waits for a snapshot");
    let credits = |r: &mut Report| r.actors[1].waits_for = "credits".into();
    says(why(credits, true, start), "it waits for credits: the learner is behind");
    says(why(credits, false, later), "it waits for credits: the learner is behind");
    says(why(credits, true, later), "no step, no acknowledgement for 12s: stuck or stopped");
    let silent = |r: &mut Report| (r.actors[1].waits_for, r.actors[1].silent) = ("credits".into(), 8.0);
    says(why(silent, true, start), "not heard of for 8s: stopped, or in a long step");
    let mut even = report(2);
    even.actors[1].lag_versions = 0;
    assert_eq!(actors::sentence(&watched(even.clone(), start), start), "every actor holds the newest snapshot");
    even.actors[1].pid = 0;
    assert_eq!(actors::sentence(&watched(even, start), start), "actor 1 is restarting; no other lags");
}

#[test]
fn keys_ask_for_what_they_say() {
    let mut state = watched(report(4), Instant::now());
    assert_eq!(press(&mut state, "+"), ask(Request::Scale { actors: 5 }));
    assert_eq!(press(&mut state, "+"), ask(Request::Scale { actors: 6 }), "before the answer to the first");
    state.answered(Err("6 are too many".into()));
    assert_eq!(state.notice.as_deref(), Some("refused: 6 are too many"));
    assert_eq!(press(&mut state, "-"), ask(Request::Scale { actors: 3 }), "counted from those that run");
    state.answered(Ok("3 actors".into()));
    assert_eq!(press(&mut state, "12s"), ask(Request::Scale { actors: 12 }));
    assert_eq!(press(&mut state, "3"), []);
    let lines = drawn(&mut state, [80, 24], Instant::now());
    shows(&lines, &["actors: 3_"]);
    assert_eq!(keys::press(&mut state, KeyEvent::from(KeyCode::Esc)), None, "leaves the number, not the screen");
    assert_eq!(press(&mut state, "c"), ask(Request::Checkpoint));
    assert_eq!(press(&mut state, "p"), ask(Request::Pause));
    let paused = Report { phase: Phase::Paused, ..report(4) };
    state.hear(Word::Report(Box::new(paused)), Instant::now());
    assert_eq!(press(&mut state, "p"), ask(Request::Resume));
    assert_eq!(press(&mut state, "q"), [Deed::Leave]);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(keys::press(&mut state, control_c), Some(Deed::Leave));
    assert_eq!(keys::press(&mut state, KeyEvent::from(KeyCode::Esc)), Some(Deed::Leave));
}

#[test]
fn a_run_is_stopped_only_when_that_is_confirmed() {
    let mut state = watched(report(1), Instant::now());
    assert_eq!(press(&mut state, "x"), []);
    shows(&drawn(&mut state, [80, 24], Instant::now()), &["save and stop the run?"]);
    assert_eq!(press(&mut state, "n"), []);
    assert_eq!(press(&mut state, "y"), [], "the question is over");
    assert_eq!(press(&mut state, "xy"), ask(Request::Stop));
}

#[test]
fn the_help_names_every_key_and_any_key_closes_it() {
    let mut state = watched(report(1), Instant::now());
    press(&mut state, "?");
    let lines = drawn(&mut state, [80, 24], Instant::now());
    keys::KEYS.iter().for_each(|(keys, what)| shows(&lines, &[keys, what]));
    assert_eq!(press(&mut state, "q"), []);
    assert_eq!(state.mode, state::Mode::Plain);
}

#[test]
fn another_loss_with_its_newest_number() {
    let now = Instant::now();
    let mut state = watched(report(1), now);
    press(&mut state, "l");
    shows(&drawn(&mut state, [80, 24], now), &["loss rew 0.021  2 of 2 (l)"]);
    press(&mut state, "l");
    shows(&drawn(&mut state, [80, 24], now), &["loss dyn 1.32  1 of 2 (l)"]);
}

#[test]
fn a_run_that_ends_keeps_its_last_state_on_the_screen() {
    let now = Instant::now();
    let mut state = watched(report(2), now);
    state.hear(Word::End("100,000 steps are done".into()), now);
    state.end("its launcher has gone".into());
    let lines = drawn(&mut state, [80, 24], now);
    shows(
        &lines,
        &["ended: 100,000 steps are done", "48,210/100k steps", " 4001 ", "lucid train --run runs/quickstart"],
    );
    assert_eq!(press(&mut state, "cx+"), [], "nothing is asked of a run that has ended");
    assert!(farewell(&state).contains("has ended: 100,000 steps are done"));
    assert!(farewell(&watched(report(1), now)).contains("goes on"));
}

#[test]
fn text_from_outside_and_numbers_out_of_range_do_no_harm() {
    let now = Instant::now();
    let hostile = "\x1b[2J\x1b]0;title\x07 bell\r\nnext 環境".repeat(4);
    let mut odd = report(3);
    odd.warnings = vec![hostile.clone()];
    odd.actors[1].waits_for = hostile.clone();
    odd.losses = vec![(hostile.clone(), f64::NAN), ("inf".into(), f64::INFINITY)];
    odd.returns = vec![f64::NAN, f64::INFINITY, -f64::MAX, f64::MAX];
    (odd.steps_per_s, odd.elapsed, odd.replay_ratio) = (f64::NAN, f64::INFINITY, f64::NEG_INFINITY);
    (odd.actors[2].lag_seconds, odd.actors[2].ack_ms, odd.actors[2].steps_per_s) = (f64::NAN, f64::MAX, f64::NAN);
    (odd.actors[2].version, odd.actors[2].rss, odd.actors[2].steps) = (u64::MAX, u64::MAX, u64::MAX);
    let mut state = State::new(Path::new("a\x1bb\nc"), History::default(), Stage::Live);
    state.hear(Word::Report(Box::new(odd)), now);
    state.answered(Err(hostile.clone()));
    press(&mut state, "s");
    for size in [[80, 24], [160, 50], [200, 60], [20, 5], [1, 1], [7, 40], [300, 2]] {
        let buffer = painted(&mut state, size, PLAIN, now);
        assert!(buffer.content.iter().all(|cell| !cell.symbol().contains(char::is_control)));
    }
    assert!(plain::lines(&state, now).iter().all(|line| !line.contains(char::is_control)));
    state.end(hostile);
    assert!(!farewell(&state).contains(char::is_control));
    for width in [1, 20, 60, 80, 100, 200] {
        let lines = actors::table(&state, width).into_iter().chain(panel::lines(state.report.as_ref().unwrap(), width));
        for line in lines.chain(panel::warnings(&state, width.max(4), 9)) {
            assert!(measure_text_width(&line) <= width.max(4), "{width}: {line}");
        }
    }
}

#[test]
fn every_size_of_terminal_can_be_drawn_on() {
    let now = Instant::now();
    for (width, height) in (0..130).step_by(13).flat_map(|w| (0..40).map(move |h| (w, h))) {
        for actors in [0, 2, 64] {
            let mut state = watched(report(actors), now);
            painted(&mut state, [width, height], PLAIN, now);
            press(&mut state, "G?");
            painted(&mut state, [width, height], PLAIN, now);
        }
    }
}

#[test]
fn colours_say_nothing_that_text_does_not_say() {
    let now = Instant::now();
    let plain = painted(&mut watched(report(2), now), [80, 24], PLAIN, now);
    let coloured = painted(&mut watched(report(2), now), [80, 24], Theme { colours: true }, now);
    assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert!(coloured.content.iter().any(|cell| cell.fg != Color::Reset));
    let text = |buffer: &Buffer| buffer.content.iter().map(|cell| cell.symbol().to_string()).collect::<String>();
    assert_eq!(text(&plain), text(&coloured));
}

const RECORDS: &str = r#"{"step":100,"update":10,"time":1000.0,"episode/count":2,"episode/return":1.0,"train/loss/dyn":4.0}
not a record
{"step":300,"update":30,"time":1060.0,"episode/count":4,"episode/return":3.0,"train/loss/dyn":2.0,"replay/bytes":1048576}
{"step":500,"upd"#;

fn recorded() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("metrics.jsonl"), RECORDS).unwrap();
    dir
}

#[test]
fn the_charts_begin_with_what_the_run_folder_has_and_go_on_with_reports() {
    let dir = recorded();
    let mut history = History::read(dir.path());
    assert_eq!(history.returns.thinned(100), [(100.0, 1.0), (300.0, 3.0)]);
    assert_eq!(
        (history.losses[0].0.as_str(), history.losses[0].1.thinned(100)),
        ("dyn", vec![(100.0, 4.0), (300.0, 2.0)])
    );
    assert!(history.damage.as_ref().is_some_and(|damage| damage.contains("line 2")), "{:?}", history.damage);
    let told = |steps, episodes, loss| Report {
        steps,
        episodes,
        returns: vec![3.0, 5.0, 7.0],
        losses: vec![("dyn".into(), loss)],
        ..Default::default()
    };
    history.extend(&told(400, 5, 2.0));
    assert_eq!(history.returns.thinned(100).last(), Some(&(400.0, 7.0)), "one episode is new");
    assert_eq!(history.losses[0].1.last(), Some(2.0));
    history.extend(&told(500, 5, f64::NAN));
    history.extend(&told(600, 7, 1.5));
    let whole = history.returns.thinned(1);
    assert_eq!(whole.len(), 1);
    assert!((whole[0].0 - 2400.0 / 7.0).abs() < 1e-9 && (whole[0].1 - 27.0 / 7.0).abs() < 1e-9, "{whole:?}");
    assert_eq!(history.losses[0].1.thinned(100), [(100.0, 4.0), (300.0, 2.0), (600.0, 1.5)]);
}

#[test]
fn a_curve_stays_small_and_keeps_its_mean() {
    let mut curve = history::Curve::default();
    (0..100_000).for_each(|step| curve.push(f64::from(step), f64::from(step % 2), 1.0));
    let points = curve.thinned(160);
    assert!(points.len() <= 160 && points.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(points.iter().all(|(_, value)| (value - 0.5).abs() < 0.02), "{points:?}");
}

#[test]
fn a_run_that_does_not_go_on_shows_its_record() {
    let dir = recorded();
    let (events, _news) = unbounded();
    let mut state = open(dir.path(), &events).unwrap();
    let lines = drawn(&mut state, [80, 24], Instant::now());
    shows(&lines, &["not running", "300 steps", "30 updates", "4 episodes", "return 3.00", "loss dyn 2.00"]);
    shows(&lines, &["replay/bytes  1.00 MiB", "line 2"]);
    press(&mut state, "g");
    shows(&drawn(&mut state, [160, 50], Instant::now()), &["the run has ended; go on with: lucid train --run"]);
    let text = plain::lines(&state, Instant::now());
    shows(&text, &["300 steps", "return 3.00", "go on with: lucid train --run"]);
}

#[test]
fn a_folder_without_a_run_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (events, _news) = unbounded();
    let error = |run: &Path| open(run, &events).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error(dir.path()).contains("it holds no run"), "{}", error(dir.path()));
    assert!(error(&dir.path().join("none")).contains("there is no such folder"));
}

#[test]
fn the_present_state_as_lines() {
    let now = Instant::now();
    let lines = plain::lines(&watched(report(64), now), now);
    shows(
        &lines,
        &["runs/quickstart: training", "48,210/100k steps", "replay ratio 31.9", "losses  dyn 1.32  rew 0.021"],
    );
    shows(&lines, &[" 4063 ", "▶ actor 1 lags most, by 7 versions", "! 13m 20s actor 1"]);
}

#[test]
fn a_run_is_heard_and_asked_through_its_socket() {
    let dir = recorded();
    let (hub, asked) = Hub::new();
    let _socket = Socket::open(dir.path(), hub.clone()).unwrap();
    thread::spawn(move || {
        for ask in asked {
            let answer = match ask.request {
                Request::Scale { actors: 3 } => Answer::Done("3 actors".into()),
                _ => Answer::Refused("not now".into()),
            };
            ask.answer.send(answer).unwrap();
        }
    });
    hub.tell(Word::Report(Box::new(report(2))));
    let (events, news) = unbounded();
    let mut state = open(dir.path(), &events).unwrap();
    let requests = feed::asker(dir.path(), events).unwrap();
    let mut until = |done: fn(&State) -> bool| {
        while !done(&state) {
            let event = news.recv_timeout(Duration::from_secs(60)).expect("the run says something");
            take(&mut state, event).unwrap();
        }
    };
    until(|state| state.report.as_ref().is_some_and(|report| report.steps == 48_210));
    requests.send(Request::Scale { actors: 3 }).unwrap();
    until(|state| state.notice.as_deref() == Some("3 actors"));
    requests.send(Request::Pause).unwrap();
    until(|state| state.notice.as_deref() == Some("refused: not now"));
    hub.tell(Word::End("enough".into()));
    until(|state| state.stage == Stage::Ended("enough".into()));
}

/// How the test below ends on the terminal on which it starts itself again.
const ENDING: &str = "LUCID_TEST_ENDING";

#[test]
fn the_terminal_is_given_back_after_a_panic_and_after_an_error() {
    if let Ok(how) = std::env::var(ENDING) {
        return end_on_the_screen(&how);
    }
    let own = std::env::current_exe().unwrap();
    let name = "watch::tests::the_terminal_is_given_back_after_a_panic_and_after_an_error";
    for (how, message) in [
        ("panic", "the thread that draws panics"),
        ("panic elsewhere", "another thread panics"),
        ("error", "keys have gone"),
    ] {
        let child = OnTerminal::start(own.to_str().unwrap(), &["--exact", name, "--nocapture"], &[(ENDING, how)]);
        let end = child.end();
        assert!(!end.status.success() && end.after.contains(message), "{how}: {}", end.after);
    }
}

fn end_on_the_screen(how: &str) {
    let dir = recorded();
    let (events, news) = unbounded();
    let mut state = open(dir.path(), &events).unwrap();
    let mut terminal = Terminal::take().unwrap();
    match how {
        "error" => events.send(Event::Deaf(std::io::Error::other("keys have gone"))).unwrap(),
        "panic elsewhere" => assert!(thread::spawn(|| panic!("another thread panics")).join().is_err()),
        _ => terminal.draw(|_| panic!("the thread that draws panics")).unwrap(),
    }
    let result = follow(&mut terminal, &mut state, PLAIN, &news, &unbounded().0);
    drop(terminal);
    result.unwrap();
}
