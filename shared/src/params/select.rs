//! Which paths a prefix or regex selects, and which paths are near a mistyped one.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::ParamError;

/// What a pattern selected.
pub(super) struct Selection {
    /// The module, if the pattern was a prefix.
    pub prefix: Option<String>,
    /// Full paths, sorted.
    pub paths: Vec<String>,
}

impl Selection {
    /// The key under which a tree returns a selected path: relative to the prefix, whole for a regex.
    pub fn key<'a>(&self, path: &'a str) -> &'a str {
        self.prefix.as_deref().map_or(path, |prefix| relative(prefix, path))
    }
}

/// A path at or below a prefix, relative to it; the prefix itself keeps its last name.
pub(super) fn relative<'a>(prefix: &str, path: &'a str) -> &'a str {
    match path.strip_prefix(prefix).unwrap_or(path) {
        "" => path.rsplit('/').next().unwrap_or(path),
        rest => rest.strip_prefix('/').unwrap_or(rest),
    }
}

/// A key below a prefix as a full path.
pub(super) fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_string() } else { format!("{prefix}/{key}") }
}

/// Whether `path` is the prefix itself or lies below it; everything lies below the empty prefix.
pub(super) fn below(path: &str, prefix: &str) -> bool {
    prefix.is_empty() || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Paths of a pattern; an error listing what exists if there are none.
pub(super) fn select<E>(
    entries: &BTreeMap<String, E>,
    pattern: &str,
    phase: &'static str,
) -> Result<Selection, ParamError> {
    let prefix = pattern.trim_end_matches('/');
    let paths: Vec<String> = entries.keys().filter(|path| below(path, prefix)).cloned().collect();
    if !paths.is_empty() {
        return Ok(Selection { prefix: Some(prefix.to_string()), paths });
    }
    let regex = Regex::new(&format!("^(?:{pattern})"))
        .map_err(|e| ParamError::Pattern { pattern: pattern.to_string(), source: Box::new(e) })?;
    let paths: Vec<String> = entries.keys().filter(|path| regex.is_match(path)).cloned().collect();
    match paths.is_empty() {
        true => Err(ParamError::NoMatch { pattern: pattern.to_string(), phase, existing: modules(entries) }),
        false => Ok(Selection { prefix: None, paths }),
    }
}

/// The modules that hold parameters directly, at most forty of them.
fn modules<E>(entries: &BTreeMap<String, E>) -> String {
    let all: BTreeSet<&str> = entries.keys().map(|path| path.rsplit_once('/').map_or(path.as_str(), |p| p.0)).collect();
    let more = if all.len() > 40 { format!(" and {} more", all.len() - 40) } else { String::new() };
    match all.is_empty() {
        true => "no parameters at all".to_string(),
        false => all.into_iter().take(40).collect::<Vec<_>>().join(", ") + &more,
    }
}

/// The three paths most like this one, comma separated.
pub(super) fn nearest<'a>(paths: impl Iterator<Item = &'a String>, wanted: &str) -> String {
    let mut scored: Vec<(f64, &String)> =
        paths.filter(|p| *p != wanted).map(|p| (strsim::normalized_levenshtein(p, wanted), p)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    match scored.is_empty() {
        true => "none".to_string(),
        false => scored.iter().take(3).map(|(_, p)| p.as_str()).collect::<Vec<_>>().join(", "),
    }
}

/// Refuse paths with empty names, and a name that would be both a parameter and a module.
pub(super) fn check_new<E>(entries: &BTreeMap<String, E>, path: &str) -> Result<(), ParamError> {
    let refuse = |why| Err(ParamError::Path { path: path.to_string(), why });
    if path.split('/').any(str::is_empty) {
        return refuse("it has an empty name");
    }
    let above = path.match_indices('/').any(|(at, _)| entries.contains_key(&path[..at]));
    let inside = format!("{path}/");
    let holds = entries.range(inside.clone()..).next().is_some_and(|(next, _)| next.starts_with(&inside));
    if above || holds {
        return refuse("one name would be both a parameter and a module");
    }
    match entries.contains_key(path) {
        true => Err(ParamError::Exists { path: path.to_string() }),
        false => Ok(()),
    }
}
