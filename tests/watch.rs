//! `lucid watch` on a terminal of its own.

use std::fs;

use rustix::process::Signal;

use crate::pty::OnTerminal;

const RECORDS: &str = r#"{"step":100,"update":10,"time":1000.0,"episode/return":1.0,"train/loss/dyn":4.0}
{"step":300,"update":30,"time":1060.0,"episode/return":3.0,"train/loss/dyn":2.0}
"#;

/// `lucid watch` of a run that does not go on, once its screen is there.
fn watch(variables: &[(&str, &str)]) -> (OnTerminal, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("metrics.jsonl"), RECORDS).unwrap();
    let args = ["watch", dir.path().to_str().unwrap()];
    let mut watching = OnTerminal::start(env!("CARGO_BIN_EXE_lucid"), &args, variables);
    watching.wait_for_screen("the run has ended");
    (watching, dir)
}

/// Parameters of the escape sequences that set colours, or set them back.
fn colours(written: &str) -> Vec<String> {
    let sequence = regex::Regex::new("\x1b\\[([0-9;:]*)m").unwrap();
    let is_colour = |number: &str| number.parse().is_ok_and(|n: u32| matches!(n, 30..=49 | 58..=59 | 90..=107));
    let all = sequence.captures_iter(written).map(|found| found[1].to_string());
    all.filter(|numbers| numbers.split([';', ':']).any(is_colour)).collect()
}

#[test]
fn there_are_colours_but_with_no_color_none_is_written() {
    let written = |variables: &[(&str, &str)]| {
        let (mut watching, _dir) = watch(variables);
        watching.press("?");
        watching.wait_for_screen("keys:");
        watching.press("qq");
        let end = watching.end();
        assert!(end.status.success(), "{}", end.after);
        end.drawn + &end.after
    };
    assert!(colours(&written(&[])).iter().any(|numbers| numbers.starts_with("38;5;6")), "curves are cyan");
    assert_eq!(colours(&written(&[("NO_COLOR", "1")])), [] as [String; 0]);
}

#[test]
fn the_terminal_is_given_back_after_keys_and_after_signals() {
    let ends_well = |watching: OnTerminal, by: &str| {
        let end = watching.end();
        assert!(end.status.success(), "{by:?}: {}: {}", end.status, end.after);
        assert!(end.after.contains("go on with: lucid train --run"), "{by:?}: {}", end.after);
    };
    for keys in ["q", "\x03"] {
        let (mut watching, _dir) = watch(&[]);
        watching.press(keys);
        ends_well(watching, keys);
    }
    for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
        let (watching, _dir) = watch(&[]);
        watching.signal(signal);
        ends_well(watching, name);
    }
}

#[test]
fn when_the_terminal_goes_away_watching_ends() {
    let (watching, _dir) = watch(&[]);
    watching.hang_up();
}
