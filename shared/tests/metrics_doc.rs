//! docs/metrics.md is what the table of metrics says.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use shared::metrics::{Average, METRICS, Metric};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
const BLESS: &str = "LUCID_BLESS=1 cargo test --release -p shared --test metrics_doc";

const HEAD: &str = "\
# Metrics

A run writes the same numbers to two places in its folder, every `log.every` seconds or `log.updates` updates:

- `metrics.jsonl`: one JSON object per line. Keys are the names below, and `step` (environment steps), `update`, and `time` (Unix
  time in seconds). A number that is not finite is null. In Python: `pandas.read_json(\"metrics.jsonl\", lines=True)`.
- `tensorboard/`: event files for `tensorboard --logdir RUN` (`log.tensorboard = false` turns them off). Tags are the same names, the
  x axis is environment steps, and numbers are float32.

The values of a metric since the last record become one number: their mean, the newest, their sum, or their sum per second. Without
values since then a metric is left out, except for the newest, which is repeated, and sums per second, which are 0. A spread gives three
numbers: `/median`, `/p95` (95% of the values are at most this) and `/max`; in TensorBoard the values behind it are a histogram too,
under the name itself. Of more than 65,536 values, a random choice of so many gives the histogram, `/median` and `/p95`.

A name that ends in `*` stands for all names that begin so and have no row of their own. Names below `train/` are those of the
official DreamerV3. `lucid plot RUN --metric NAME` draws any of them.
";

fn document() -> String {
    let mut text = HEAD.to_string();
    let group = |metric: &Metric| metric.name.split('/').next().unwrap_or_default();
    for metrics in METRICS.chunk_by(|a, b| group(a) == group(b)) {
        let title = group(&metrics[0]);
        let columns = "| name | unit | number | meaning | reading |\n| --- | --- | --- | --- | --- |";
        writeln!(text, "\n## {title}\n\n{columns}").unwrap();
        metrics.iter().for_each(|metric| text.push_str(&row(metric)));
    }
    writeln!(text, "\nThis file is made from `shared/src/metrics/table.rs`; after a change there: `{BLESS}`.").unwrap();
    text
}

fn row(metric: &Metric) -> String {
    let Metric { name, unit, average, meaning, reading } = metric;
    let average = match average {
        Average::Mean => "mean",
        Average::Last => "newest",
        Average::Sum => "sum",
        Average::Max => "largest",
        Average::Rate => "sum per second",
        Average::Spread => "spread",
    };
    format!("| `{name}` | {unit} | {average} | {meaning} | {reading} |\n").replace("  |", " |")
}

#[test]
fn the_document_is_what_the_table_says() {
    let expected = document();
    if std::env::var_os("LUCID_BLESS").is_some() {
        std::fs::write(FILE, &expected).unwrap();
    }
    let found = std::fs::read_to_string(FILE).unwrap_or_default();
    let line = found.lines().zip(expected.lines()).position(|(a, b)| a != b);
    let line = line.unwrap_or_else(|| found.lines().count().min(expected.lines().count())) + 1;
    assert!(found == expected, "docs/metrics.md, line {line}, is not what the table says; write it anew: {BLESS}");
}

#[test]
fn each_name_is_in_the_table_once_and_groups_are_together() {
    let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    let titles: Vec<_> = document().lines().filter(|line| line.starts_with("## ")).map(String::from).collect();
    let distinct: std::collections::BTreeSet<_> = titles.iter().collect();
    assert_eq!(distinct.len(), titles.len(), "{titles:?}");
}
