//! What people see, at the widths of common terminals.

use std::time::{Duration, Instant};

use console::measure_text_width;
use shared::config::Difference;
use shared::metrics::{
    ActorReport, EvaluatedReport, EvaluatingReport, EvaluationReport, HostReport, ModuleRow, Phase, ReplayReport,
    Report, StartReport, VitReport,
};

use super::*;

fn actor(index: usize) -> ActorReport {
    ActorReport {
        index,
        pid: 4000 + index as u32,
        version: 11_840 - index as u64,
        lag_versions: index as u64,
        lag_updates: 2 * index as u64,
        lag_seconds: 0.08 * index as f64,
        ack_ms: 1.5,
        steps: 24_102,
        steps_per_s: 30.6,
        ..Default::default()
    }
}

fn report(actors: usize) -> Report {
    Report {
        phase: Phase::Training,
        elapsed: 800.0,
        steps: 48_210,
        target_steps: 100_000,
        steps_per_s: 61.2,
        updates: 11_840,
        updates_per_s: 15.1,
        episodes: 5356,
        returns: vec![-1.0, 1.0, 1.0, 1.0],
        losses: [("dyn", 1.32), ("rep", 1.32), ("con", 0.0131), ("rew", 0.0214)].map(|(n, l)| (n.into(), l)).into(),
        replay: ReplayReport {
            steps: 48_210,
            cap: 5_000_000,
            bytes: 118 << 20,
            cap_bytes: 2 << 30,
            ..Default::default()
        },
        learner_waits: 0.38,
        actors_wait: 0.02,
        version: 11_840,
        actors: (0..actors).map(actor).collect(),
        ..Default::default()
    }
}

fn start_report() -> StartReport {
    let row = |module: &str, trainable, frozen| ModuleRow { module: module.into(), trainable, frozen };
    StartReport {
        modules: vec![row("enc", 41_000, 800), row("dyn", 912_345, 0), row("vit", 0, 22_056_576)],
        vit: Some(VitReport {
            input: vec!["sees `image`, 64 x 64, as 70 x 70 pixels: 5 x 5 patches".into()],
            source: "huggingface facebook/dinov2-small".into(),
            digest: "0123456789abcdef".repeat(4),
        }),
        replay_steps: 800_000,
        replay_bytes: 2 << 30,
        replay_disk_bytes: 0,
        differences: vec![Difference { key: "run.train_ratio".into(), default: "32.0".into(), value: "64.0".into() }],
    }
}

#[test]
fn a_run_at_80_columns() {
    let expected = "
training  48,210/100k steps 61.2/s  11,840 updates 15.1/s  13m 20s  14m 6s left
return    last 1.00  mean of 4: 0.500  5,356 episodes  loss dyn 1.32  rep 1.32 …
replay    6% full  learner waits for actors (38%)  48,210/5.00M steps …
lag       median/p95/max  versions 0/1/1  updates 0/2/2  seconds 0.00/0.08/0.08
actor  version  lag  updates    age   steps  steps/s  state
    0   11,840    0        0  0.00s  24,102     30.6  acts
    1   11,839    1        2  0.08s  24,102     30.6  acts";
    assert_eq!(lines(&report(2), 80).join("\n"), expected.trim_start());
}

#[test]
fn a_run_at_120_columns() {
    let expected = "
training  48,210/100k steps 61.2/s  11,840 updates 15.1/s  13m 20s  14m 6s left  ━━━━━━━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌
return    last 1.00  mean of 4: 0.500  5,356 episodes  loss dyn 1.32  rep 1.32  con 0.013  rew 0.021
replay    6% full  learner waits for actors (38%)  48,210/5.00M steps  118 MiB/2.00 GiB
lag       median/p95/max  versions 0/1/1  updates 0/2/2  seconds 0.00/0.08/0.08  published 11,840
actor  version  lag  updates    age   steps  steps/s    ack  state
    0   11,840    0        0  0.00s  24,102     30.6  1.5ms  acts
    1   11,839    1        2  0.08s  24,102     30.6  1.5ms  acts";
    assert_eq!(lines(&report(2), 120).join("\n"), expected.trim_start());
}

#[test]
fn the_start_of_a_run() {
    let expected = "
parameters  trainable                frozen
enc            41,000   160 KiB         800  3.12 KiB
dyn           912,345  3.48 MiB           -
vit                 -            22,056,576  84.1 MiB
total         953,345  3.64 MiB  22,057,376  84.1 MiB
frozen ViT: huggingface facebook/dinov2-small
its BLAKE3: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
it sees `image`, 64 x 64, as 70 x 70 pixels: 5 x 5 patches
replay needs 2.00 GiB when full: 800,000 steps
config           this run  default
run.train_ratio  64.0      32.0";
    assert_eq!(start_lines(&start_report(), 80).join("\n"), expected.trim_start());
}

#[test]
fn nothing_is_wider_than_the_terminal() {
    let mut odd = report(3);
    odd.actors[1] = ActorReport { pid: 0, restarts: 3, ..actor(1) };
    odd.actors[2].waits_for = "環境 that takes\nlong ".repeat(9);
    odd.losses.push(("a loss with quite a long name".into(), f64::NAN));
    let mut start = start_report();
    start.differences[0].value = "[\"a long list\"]".repeat(30);
    start.modules[0].module = "module".repeat(20);
    for width in [1, 7, 20, 40, 80, 120, 300] {
        let shown = lines(&odd, width).into_iter().chain(if width < 4 { vec![] } else { closing(&odd, width) });
        for line in shown.chain(if width < 4 { vec![] } else { start_lines(&start, width) }) {
            assert!(measure_text_width(&line) <= width && !line.contains('\n'), "{width}: {line}");
        }
    }
}

#[test]
fn actors_beyond_the_height_are_summed_up() {
    let mut many = report(20);
    many.actors[19].pid = 0;
    many.actors[18].waits_for = "credits".into();
    let lines = within(&many, 80, 12);
    assert_eq!(lines.len(), 12);
    assert!(lines[10].starts_with("    5 "), "{}", lines[10]);
    assert_eq!(lines[11], "    …     14 more actors  1 waiting  1 restarting  lag at most 19  428.4 steps/s");
    assert_eq!(within(&many, 80, 25).len(), 25, "all have a row if there is room");
    for height in 1..30 {
        assert!(within(&many, 80, height).len() <= height);
    }
}

#[test]
fn who_waits_for_whom() {
    let waits = |change: fn(&mut Report)| {
        let mut report = report(1);
        change(&mut report);
        lines(&report, 120)[2].clone()
    };
    assert!(waits(|_| ()).contains("  learner waits for actors (38%)  "));
    assert!(waits(|r| r.actors_wait = 0.5).contains("  actors wait for learner (50%)  "));
    assert!(waits(|r| (r.learner_waits, r.actors_wait) = (0.0, 0.0)).contains("  nobody waits  "));
    assert!(waits(|r| r.phase = Phase::Starting).contains("  learner waits for actors to join  "));
}

#[test]
fn the_end_that_comes_first_counts() {
    let first = |report: &Report| lines(report, 120)[0].clone();
    let mut report = report(1);
    assert!(first(&report).contains("14m 6s left"), "{}", first(&report));
    report.target_minutes = 15.0;
    assert!(first(&report).contains("1m 40s left"), "{}", first(&report));
    (report.target_steps, report.target_minutes) = (0, 0.0);
    assert!(!first(&report).contains("left"), "{}", first(&report));
}

#[test]
fn before_the_first_update_and_without_actors() {
    let filling = Report { phase: Phase::Filling { need: 256 }, ..Default::default() };
    let lines = lines(&filling, 80);
    assert!(lines[0].starts_with("filling   0 of 256 steps before the first update"), "{}", lines[0]);
    assert_eq!(lines[3], "lag       no actors");
    assert_eq!(lines.len(), 4);
}

#[test]
fn other_hosts_and_their_links() {
    let host = |name: &str, away| HostReport {
        name: name.into(),
        away,
        sent_per_s: 1536.0,
        received_per_s: 3.0 * 1024.0 * 1024.0,
        round_trip_ms: 41.2,
        ..Default::default()
    };
    let mut report = report(3);
    report.hosts = vec![host("near", None), host("far", Some(75.0))];
    report.actors[1].host = Some("near".into());
    report.actors[2].host = Some("near".into());
    let all = lines(&report, 120);
    assert_eq!(all[4], "host      far  away for 1m 15s  its 0 actors wait");
    assert_eq!(
        all[5],
        "host      near  2 actors  lag at most 4 updates  round trip 41.2 ms  to it 1.50 KiB/s  from it 3.00 MiB/s"
    );
    assert!(all[8].trim_start().starts_with("near 1 "), "{}", all[8]);
    assert!(heartbeat(&report).ends_with("3 actors, 3 acting, 2 other hosts, 1 away"), "{}", heartbeat(&report));
    report.hosts = (0..100).map(|number| host(&format!("h{number}"), None)).collect();
    let all = lines(&report, 100);
    let rows: Vec<_> = all.iter().filter(|line| line.starts_with("host ")).collect();
    assert_eq!(rows.len(), 6);
    assert_eq!(*rows[5], "host      95 more  to them 142 KiB/s  from them 285 MiB/s  round trip at most 41 ms");
}

#[test]
fn a_line_for_log_files() {
    let expected = "training 48,210/100k steps 61.2/s 11,840 updates 15.1/s 13m 20s 14m 6s left | \
        return last 1.00 mean of 4: 0.500 5,356 episodes loss dyn 1.32 rep 1.32 con 0.013 rew 0.021 | \
        replay 6% full learner waits for actors (38%) 48,210/5.00M steps 118 MiB/2.00 GiB | \
        lag median/p95/max versions 0/1/1 updates 0/2/2 seconds 0.00/0.08/0.08 published 11,840 | 2 actors, 2 acting";
    assert_eq!(heartbeat(&report(2)), expected);
    let expected =
        "stopped: 48,210 steps, 11,840 updates, 5,356 episodes, in 13m 20s, mean of the last 4 returns: 0.500";
    assert_eq!(closing(&report(2), 200), [expected]);
}

#[test]
fn plain_lines_come_at_first_on_a_change_and_then_now_and_again() {
    let (mut beat, t0) = (Beat::new(10.0), Instant::now());
    let after = |seconds| t0 + Duration::from_secs(seconds);
    assert!(beat.due(Phase::Starting, t0));
    assert!(!beat.due(Phase::Starting, after(9)));
    assert!(beat.due(Phase::Training, after(9)));
    assert!(!beat.due(Phase::Training, after(18)));
    assert!(beat.due(Phase::Training, after(19)));
}

#[test]
fn the_last_evaluation_and_the_next_have_a_line_of_their_own() {
    let last = EvaluatedReport {
        version: 11_800,
        update: 11_800,
        step: 48_000,
        episodes: 10,
        mean: 0.93,
        std: 0.2,
        length: 10.0,
        age: 182.0,
    };
    let line = |evaluation| {
        let report = Report { evaluation: Some(evaluation), ..report(2) };
        assert!(heartbeat(&report).contains(" | eval "), "{}", heartbeat(&report));
        for width in [20, 40, 80] {
            assert!(lines(&report, width).iter().all(|line| measure_text_width(line) <= width));
        }
        for height in 1..12 {
            assert!(within(&report, 200, height).len() <= height);
        }
        lines(&report, 200)[live::SUMMARY].clone()
    };
    let first = EvaluationReport { pid: 7, ..Default::default() };
    assert_eq!(line(first.clone()), "eval      none has ended yet");
    let running = Some(EvaluatingReport { version: 11_840, played: 3, episodes: 10 });
    assert_eq!(
        line(EvaluationReport { last: Some(last), running, ..first.clone() }),
        "eval      return 0.930 ± 0.200 over 10 episodes  version 11,800 (update 11,800)  3m 2s ago  now version 11,840, 3 of 10"
    );
    let gone = line(EvaluationReport { pid: 0, restarts: 2, ..first });
    assert_eq!(gone, "eval      its actor is not running  restarts: 2");
    assert!(lines(&report(2), 200)[live::SUMMARY].starts_with("actor"), "a run without evaluations has no such line");
}
