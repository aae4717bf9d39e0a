use super::*;

/// A run folder with a config, two records, an evaluation and a picture.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::load(&["dummy"], &["run.freeze=['^enc/<b>']", "run.train_ratio=8"]).unwrap();
    fs::write(dir.path().join("config.toml"), config.to_toml().unwrap()).unwrap();
    let record = |step: u64, score: f64| {
        serde_json::json!({
            "step": step, "update": step, "time": 1e9 + step as f64, "env/steps": step, "learner/updates": step,
            "episode/count": step, "episode/return": score, "learner/skipped": 1,
        })
    };
    fs::write(dir.path().join("metrics.jsonl"), format!("{}\n{}\n", record(100, 1.5), record(1234, 2.5))).unwrap();
    let line =
        serde_json::json!({ "step": 1000, "update": 900, "episodes": 10, "mean": 2.25, "std": 0.5, "returns": [] });
    fs::write(dir.path().join("eval.jsonl"), format!("{line}\n")).unwrap();
    fs::create_dir(dir.path().join("media")).unwrap();
    for (name, bytes) in [("openloop-image-000000000100.gif", "old"), ("openloop-image-000000000900.gif", "new")] {
        fs::write(dir.path().join("media").join(name), bytes).unwrap();
    }
    fs::write(dir.path().join("media/notes.txt"), "no picture").unwrap();
    dir
}

#[test]
fn a_page_holds_facts_curves_options_and_the_newest_pictures_and_takes_nothing_from_elsewhere() {
    let dir = folder();
    let page = page(dir.path()).unwrap();
    for part in ["1,234", "2.50", "<td>2.25</td>", "run.train_ratio", "<svg", "episode/return"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains(&STANDARD.encode("new")) && !page.contains(&STANDARD.encode("old")));
    assert!(page.contains("^enc/&lt;b&gt;") && !page.contains("^enc/<b>"), "text is text");
    let outside = |word: &str| page.matches(word).count();
    assert_eq!([outside("src=\"http"), outside("href="), outside("<script"), outside("url(http")], [0; 4]);
}

#[test]
fn a_run_that_has_recorded_nothing_says_so_and_another_folder_is_no_run() {
    let dir = folder();
    fs::remove_file(dir.path().join("metrics.jsonl")).unwrap();
    assert!(page(dir.path()).unwrap_err().to_string().contains("metrics.jsonl"));
    assert!(page(&dir.path().join("media")).unwrap_err().to_string().contains("config.toml"));
}
