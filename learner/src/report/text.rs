//! Numbers and lines as people read them.

use std::borrow::Cow;

use console::{Alignment, measure_text_width, pad_str, truncate_str};

/// Width of the word that a line of the block begins with.
const LABEL: usize = 8;

/// All digits, in groups of three: `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let comma = |i: usize| i > 0 && (digits.len() - i).is_multiple_of(3);
    digits.char_indices().flat_map(|(i, digit)| comma(i).then_some(',').into_iter().chain([digit])).collect()
}

/// All digits below a hundred thousand, three above: `48,210`, `482k`, `5.00M`.
pub fn count(n: u64) -> String {
    match n {
        0..100_000 => grouped(n),
        100_000..1_000_000 => format!("{}k", n / 1000),
        1_000_000..1_000_000_000 => format!("{}M", three(n as f64 / 1e6)),
        _ => format!("{}G", three(n as f64 / 1e9)),
    }
}

/// Memory: `118 MiB`, `2.00 GiB`.
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    let mut units = ["B", "KiB", "MiB", "GiB"].iter();
    let mut unit = units.next();
    while value >= 1024.0 && units.len() > 0 {
        value /= 1024.0;
        unit = units.next();
    }
    let unit = unit.unwrap_or(&"");
    if n < 1024 { format!("{n} {unit}") } else { format!("{} {unit}", three(value)) }
}

/// Time in its two largest units: `42s`, `13m 20s`, `2h 13m`, `3d 4h`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// A number of any size in about three digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size != 0.0 && !(1e-3..1e6).contains(&size) && value.is_finite() => format!("{value:.1e}"),
        size if size < 1.0 => format!("{value:.3}"),
        _ => three(value),
    }
}

/// So many of them: `1 actor`, `8 actors`.
pub fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

/// How often a second.
pub fn rate(per_second: f64) -> String {
    let decimals = usize::from(per_second < 1000.0);
    format!("{per_second:.decimals$}/s")
}

fn three(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// A label and as many parts as fit; an ellipsis, where there is room, stands for those that do not.
pub fn fit(label: &str, parts: &[String], width: usize) -> String {
    let mut line = pad_str(label, LABEL, Alignment::Left, None).into_owned();
    for part in parts {
        let part = clean(part);
        if measure_text_width(&line) + 2 + measure_text_width(&part) > width {
            if measure_text_width(&line) + 2 <= width {
                line.push_str(" …");
            }
            break;
        }
        line.push_str("  ");
        line.push_str(&part);
    }
    cut(&line, width)
}

/// No wider than this.
pub fn cut(line: &str, width: usize) -> String {
    truncate_str(line, width, "…").trim_end().to_string()
}

/// Rows in columns as wide as their widest cell; columns are aligned right except those named.
pub fn table(rows: &[Vec<String>], left: &[usize], width: usize) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| measure_text_width(cell)).max();
    let widths: Vec<usize> = (0..columns).map(|column| widest(column).unwrap_or(0)).collect();
    let side = |column: usize| if left.contains(&column) { Alignment::Left } else { Alignment::Right };
    let line = |row: &Vec<String>| {
        let cells: Vec<Cow<str>> =
            row.iter().enumerate().map(|(i, cell)| pad_str(cell, widths[i], side(i), None)).collect();
        cut(cells.join("  ").trim_end(), width)
    };
    rows.iter().map(line).collect()
}

/// Words over as many lines as they need, later ones indented; a word wider than a line is broken.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    const INDENT: &str = "  ";
    let width = width.max(INDENT.len() + 2);
    let mut lines = vec![String::new()];
    for word in clean(text).split_whitespace() {
        let last = lines.last().map_or("", String::as_str);
        let gap = usize::from(!last.trim().is_empty());
        if measure_text_width(last) + gap + measure_text_width(word) > width && gap > 0 {
            lines.push(INDENT.into());
        }
        push(&mut lines, word, width, INDENT);
    }
    lines
}

fn push(lines: &mut Vec<String>, word: &str, width: usize, indent: &str) {
    let Some(mut line) = lines.pop() else { return };
    if !line.trim().is_empty() {
        line.push(' ');
    }
    for letter in word.chars() {
        let wider = measure_text_width(&line) + measure_text_width(letter.encode_utf8(&mut [0; 4]));
        if wider > width {
            lines.push(std::mem::replace(&mut line, indent.into()));
        }
        line.push(letter);
    }
    lines.push(line);
}

/// Without control characters: text from outside must not move the cursor.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([48_210, 482_999, 5_000_000, 12_345_678_901].map(count), ["48,210", "482k", "5.00M", "12.3G"]);
        assert_eq!(
            [0, 1023, 1024, 118 << 20, 2 << 30].map(bytes),
            ["0 B", "1023 B", "1.00 KiB", "118 MiB", "2.00 GiB"]
        );
        assert_eq!([0.4, 800.0, 8000.0, 273_600.0].map(duration), ["0s", "13m 20s", "2h 13m", "3d 4h"]);
        assert_eq!(
            [0.0, -0.7, 1.0, 12.34, 823.4, 1.5e7, -2e-5].map(number),
            ["0.000", "-0.700", "1.00", "12.3", "823", "1.5e7", "-2.0e-5"]
        );
        assert_eq!(number(f64::NAN), "NaN");
        assert_eq!([0.0, 61.23, 1234.5].map(rate), ["0.0/s", "61.2/s", "1234/s"]);
    }

    #[test]
    fn wrapped_text_keeps_every_letter() {
        let text = "cannot read /a/very/long/path/that/has/no/spaces/at/all.safetensors: file is cut short";
        for width in [10, 20, 40, 200] {
            let lines = wrap(text, width);
            assert!(lines.iter().all(|line| measure_text_width(line) <= width), "{lines:?}");
            let letters = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(letters(&lines.concat()), letters(text));
        }
        assert_eq!(wrap(text, 200), [text]);
    }

    #[test]
    fn text_from_outside_cannot_move_the_cursor() {
        assert_eq!(wrap("bad\x1b[2Jnews\nfrom afar", 80), ["bad [2Jnews from afar"]);
    }
}
