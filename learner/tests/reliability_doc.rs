//! The tests that docs/reliability.md names exist.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Everything in the Rust files below a folder.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|e| e == "rs") {
            *text += &fs::read_to_string(&path).unwrap();
        }
    }
}

#[test]
fn every_test_that_the_document_names_exists() {
    let document = fs::read_to_string(format!("{ROOT}/docs/reliability.md")).unwrap();
    let rows = document.split("## What went wrong for other people").nth(1).unwrap();
    let rows = rows.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| "));
    let mut text = String::new();
    for folder in ["shared", "actor", "learner", "tests"] {
        sources(&Path::new(ROOT).join(folder), &mut text);
    }
    let mut count = 0;
    for row in rows.skip(2) {
        let names: Vec<&str> = row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test in: {row}");
        for name in names {
            // With what stands before it: a test, and no function like it.
            let test = |found: usize| {
                text[..found].trim_end().ends_with(']') || text[..found].trim_end().ends_with("proptest! {")
            };
            let found = text.match_indices(&format!("fn {name}(")).any(|(found, _)| test(found));
            assert!(found, "there is no test `{name}`");
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}
