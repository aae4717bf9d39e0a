//! `lucid env`: looking at environments before training in them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::python;
use crate::support::{flat, lucid};

#[test]
fn tasks_are_listed_with_what_they_let_an_agent_do() {
    let (ok, text) = lucid(&["env", "list"]);
    let line = |task: &str| text.lines().find(|line| line.starts_with(task)).unwrap_or_else(|| panic!("{text}"));
    assert!(ok && line("catch").contains("action: 3 classes") && line("catch").ends_with("pixels, vector, both"));
    assert!(line("tmaze").ends_with(" vector"), "{text}");
    assert!(text.contains("gymnasium:CartPole-v1"), "{text}");
}

#[test]
fn a_check_says_what_it_saw_and_fails_on_faults() {
    let (ok, text) = lucid(&["env", "check", "cartpole_swingup", "--set", "env.observe=vector", "--steps", "2500"]);
    assert!(ok && text.contains("2 episodes of 1000 to 1000 steps: 0 ended by the task, 2 cut"), "{text}");
    let (ok, text) = lucid(&["env", "check", "dummy", "--json"]);
    let report: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert!(!ok && report["findings"][0]["what"] == "actions change nothing", "{text}");
    assert!(flat(&text).contains("1faultoftask`dummy`"), "{text}");
    let (ok, text) = lucid(&["env", "check", "katch"]);
    assert!(!ok && flat(&text).contains("`katch`"), "{text}");
}

#[test]
fn random_play_is_filmed() {
    let dir = tempfile::tempdir().unwrap();
    let film = dir.path().join("play.gif");
    let (ok, text) = lucid(&["env", "play", "catch", "--video", film.to_str().unwrap()]);
    assert!(ok && text.starts_with("9 steps of random actions, return "), "{text}");
    assert!(fs::read(&film).unwrap().starts_with(b"GIF89a"));
    let (ok, text) = lucid(&["env", "play", "catch", "--video", "play.avi"]);
    assert!(!ok && flat(&text).contains("filmsare.gifor.mp4,notplay.avi"), "{text}");
    let (ok, text) = lucid(&["env", "play", "tmaze", "--set", "env.observe=vector", "--video", film.to_str().unwrap()]);
    assert!(!ok && flat(&text).contains("`tmaze`drawsnopictures"), "{text}");
}

/// With a stand-in for ffmpeg that keeps what it is given.
#[test]
fn mp4_is_made_by_ffmpeg_from_every_pixel() {
    let dir = tempfile::tempdir().unwrap();
    let film = dir.path().join("play.mp4");
    let play = |path: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lucid"));
        command.args(["env", "play", "catch", "--set", "env.size=[32,48]", "--video"]).arg(&film).env("PATH", path);
        let output = command.output().unwrap();
        (output.status.success(), flat(&String::from_utf8_lossy(&output.stderr)))
    };
    let tools = dir.path().to_str().unwrap();
    let (ok, text) = play(tools);
    assert!(!ok && text.contains("ffmpeg,whichMP4needs,cannotbestarted"), "{text}");
    let stand_in = |script: &str| {
        let path = dir.path().join("ffmpeg");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        format!("{tools}:{}", std::env::var("PATH").unwrap())
    };
    let (ok, text) = play(&stand_in("#!/bin/sh\ncat >/dev/null\necho no such codec >&2\nexit 1\n"));
    assert!(!ok && text.contains("nosuchcodec") && !film.exists(), "{text}");
    // The file is the last argument.
    let (ok, text) = play(&stand_in("#!/bin/sh\nfor file; do :; done\ncat >\"$file\"\n"));
    assert!(ok, "{text}");
    assert_eq!(fs::read(&film).unwrap().len(), 10 * 32 * 48 * 3);
}

#[test]
fn an_activated_virtual_environment_is_the_one_that_is_used() {
    let check = |virtual_env: &Path, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lucid"));
        command
            .args(["env", "check", "gymnasium:CartPole-v1", "--steps", "50"])
            .args(more)
            .env("VIRTUAL_ENV", virtual_env);
        let output = command.output().unwrap();
        (output.status.success(), flat(&String::from_utf8_lossy(&output.stderr)))
    };
    let bare = python::bare("activated-venv");
    let (ok, text) = check(&bare, &[]);
    let named = format!("`{}/bin/python3`hasnopackage`gymnasium`", bare.display());
    assert!(!ok && text.contains(&named), "{text}");
    let with_gymnasium = Path::new(python::python()).ancestors().nth(2).unwrap();
    let (ok, text) = check(with_gymnasium, &[]);
    assert!(ok, "{text}");
    // What is asked for by name counts more.
    let other = format!("env.python={}", python::python());
    let (ok, text) = check(&bare, &["--set", &other]);
    assert!(ok, "{text}");
}
