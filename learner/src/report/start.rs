//! What a run consists of, shown once before it begins.

use shared::metrics::{ModuleRow, StartReport};

use super::text::{bytes, clean, cut, grouped, table, wrap};

/// Bytes of one parameter (float32).
const PARAMETER: u64 = 4;

/// Parameters, ViT, replay and config, no line wider than `width` columns.
pub fn lines(start: &StartReport, width: usize) -> Vec<String> {
    let mut lines = parameters(&start.modules, width);
    if let Some(vit) = &start.vit {
        lines.extend(wrap(&format!("frozen ViT: {}", vit.source), width));
        lines.extend(wrap(&format!("its BLAKE3: {}", vit.digest), width));
        lines.extend(vit.input.iter().flat_map(|sentence| wrap(&format!("it {sentence}"), width)));
    }
    let disk = match start.replay_disk_bytes {
        0 => String::new(),
        disk => format!(" and {} of disk", bytes(disk)),
    };
    let (memory, steps) = (bytes(start.replay_bytes), grouped(start.replay_steps));
    let need = format!("replay needs {memory}{disk} when full: {steps} steps");
    lines.extend(wrap(&need, width));
    lines.extend(differences(start, width));
    lines
}

fn parameters(modules: &[ModuleRow], width: usize) -> Vec<String> {
    let sum = |of: fn(&ModuleRow) -> u64| modules.iter().map(of).sum();
    let total = ModuleRow { module: "total".into(), trainable: sum(|m| m.trainable), frozen: sum(|m| m.frozen) };
    let mut rows = vec![["parameters", "trainable", "", "frozen", ""].map(String::from).to_vec()];
    rows.extend(modules.iter().chain([&total]).map(|m| {
        let mut row = vec![clean(&m.module)];
        row.extend([m.trainable, m.frozen].into_iter().flat_map(numbers));
        row
    }));
    table(&rows, &[0], width)
}

fn numbers(count: u64) -> [String; 2] {
    if count == 0 { ["-".into(), String::new()] } else { [grouped(count), bytes(count * PARAMETER)] }
}

fn differences(start: &StartReport, width: usize) -> Vec<String> {
    if start.differences.is_empty() {
        return vec![cut("config: all defaults", width)];
    }
    let mut rows = vec![["config", "this run", "default"].map(String::from).to_vec()];
    rows.extend(start.differences.iter().map(|d| [&d.key, &d.value, &d.default].map(|s| clean(s)).to_vec()));
    table(&rows, &[0, 1, 2], width)
}
