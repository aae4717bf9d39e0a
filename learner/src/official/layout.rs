//! Between the names of a saved agent and those of the official code.

use shared::array::{Array, DType};
use shared::config::{AgentConfig, Config, NormConfig, PRESETS};
use shared::params::Tree;

use super::{OfficialError, Saved};
use crate::agent::AgentError;
use crate::dreamer::{Normalize, Stats};

/// The optimizer is a chain: gradient clipping, scaling by mean squares, momentum, weight decay if there is any, learning rate.
const MEAN_SQUARES: &str = "opt/state/1/1/";
const MOMENTUM: &str = "opt/state/2/1/";
const UPDATES: &str = "opt/step/value";
const SLOW_COUNT: &str = "slowval_count/value";
/// An entry of the network that tells its size: [deter, hidden].
const SIZES: &str = "dyn/dynin0/kernel";

/// Official path of an array that both have, or none.
fn official_path(key: &str) -> Option<String> {
    let parts = [("params/", ""), ("slow/", ""), ("opt/rms/", MEAN_SQUARES), ("opt/momentum/", MOMENTUM)];
    parts.iter().find_map(|(own, official)| key.strip_prefix(own).map(|path| format!("{official}{path}")))
}

/// The counters that each part of the optimizer has of its own; all are the same.
fn counters(config: &AgentConfig) -> [String; 4] {
    let rate = if config.opt.wd == 0.0 { 3 } else { 4 };
    [UPDATES.into(), "opt/state/1/0".into(), "opt/state/2/0".into(), format!("opt/state/{rate}/count")]
}

/// A saved normaliser, its official name and its options.
fn normalizers(config: &AgentConfig) -> [(&'static str, &'static str, &NormConfig); 3] {
    [
        ("norm/returns", "retnorm", &config.retnorm),
        ("norm/values", "valnorm", &config.valnorm),
        ("norm/advantages", "advnorm", &config.advnorm),
    ]
}

/// A saved agent as the official code saves it; its random state and what it carries between updates stay behind.
pub fn to_official(saved: &Saved, config: &AgentConfig) -> Result<Tree, OfficialError> {
    let mut values = Tree::new();
    for (key, array) in saved {
        if let Some(path) = official_path(key) {
            values.insert(path, array.clone());
        }
        if let Some(path) = key.strip_prefix("params/") {
            // What Lucid's optimizer does not touch has state there all the same.
            for part in [MEAN_SQUARES, MOMENTUM] {
                values.entry(format!("{part}{path}")).or_insert_with(|| Array::zeros(DType::F32, &array.shape));
            }
        }
    }
    let steps = Array::i32(&[], &[count(saved, "opt/step")? as i32]);
    values.extend(counters(config).map(|path| (path, steps.clone())));
    values.insert(SLOW_COUNT.into(), Array::i32(&[], &[count(saved, "count/slow_value")? as i32]));
    for (key, name, options) in normalizers(config) {
        let Some(mut normalize) = Normalize::new(options) else { continue };
        let [low, high, corr] = entry(saved, key)?.to_f32()[..] else { return Err(absent(key)) };
        normalize.stats = Stats { low, high, corr };
        for (part, value) in normalize.named() {
            values.insert(format!("{name}/{part}/value"), Array::scalar(*value));
        }
    }
    Ok(values)
}

/// A fresh agent, as saved, with the official values in the place of its own. Every value must have its place and the other way
/// round.
pub fn from_official(values: &Tree, mut fresh: Saved, config: &AgentConfig) -> Result<Saved, OfficialError> {
    check_fit(&to_official(&fresh, config)?, values)?;
    for (key, array) in &mut fresh {
        if let Some(path) = official_path(key) {
            *array = entry(values, &path)?.clone();
        }
    }
    for (key, name, options) in normalizers(config) {
        let Some(mut normalize) = Normalize::new(options) else { continue };
        for (part, value) in normalize.named() {
            *value = entry(values, &format!("{name}/{part}/value"))?.to_f32()[0];
        }
        let Stats { low, high, corr } = normalize.stats;
        fresh.insert(key.into(), Array::f32(&[3], &[low, high, corr]));
    }
    let count = |count| Array::u64(&[], &[count]);
    fresh.insert("opt/step".into(), count(updates(values, config)?));
    fresh.insert("count/slow_value".into(), count(counter(values, SLOW_COUNT)?));
    Ok(fresh)
}

/// Updates, on which all parts of the optimizer must agree.
fn updates(values: &Tree, config: &AgentConfig) -> Result<u64, OfficialError> {
    let counters = counters(config).map(|path| counter(values, &path).map(|count| (path, count)));
    let counters = counters.into_iter().collect::<Result<Vec<_>, _>>()?;
    let steps = counters[0].1;
    match counters.iter().all(|(_, count)| *count == steps) {
        true => Ok(steps),
        false => {
            let listed: Vec<String> = counters.iter().map(|(path, count)| format!("{path} is {count}")).collect();
            Err(OfficialError::Counters { counters: listed.join(", ") })
        }
    }
}

fn counter(values: &Tree, path: &str) -> Result<u64, OfficialError> {
    let count = entry(values, path)?.values::<i32>()[0];
    let misfit = |_| OfficialError::Misfit {
        problems: vec![format!("`{path}` is {count}")],
        hint: "a count is expected".into(),
    };
    u64::try_from(count).map_err(misfit)
}

fn check_fit(expected: &Tree, found: &Tree) -> Result<(), OfficialError> {
    let mut problems = Vec::new();
    for (path, own) in expected {
        match found.get(path) {
            None => problems.push(format!("`{path}` {:?} is not in the checkpoint", own.shape)),
            Some(array) if array.shape != own.shape => {
                problems
                    .push(format!("`{path}` is {:?} in the checkpoint, {:?} in the config", array.shape, own.shape));
            }
            Some(array) if array.dtype != own.dtype => {
                problems.push(format!("`{path}` is of type {:?}, not {:?}", array.dtype, own.dtype));
            }
            Some(_) => {}
        }
    }
    let unexpected = found.iter().filter(|(path, _)| !expected.contains_key(*path));
    problems.extend(unexpected.map(|(path, array)| format!("`{path}` {:?} is not in the config", array.shape)));
    // The optimizer's state repeats every parameter.
    problems.sort_by_key(|problem| problem.starts_with("`opt/"));
    match problems.is_empty() {
        true => Ok(()),
        false => Err(OfficialError::Misfit { problems, hint: hint(expected, found) }),
    }
}

/// What to change: the size, where that differs.
fn hint(expected: &Tree, found: &Tree) -> String {
    let sizes = |values: &Tree| values.get(SIZES).and_then(|kernel| <[usize; 2]>::try_from(&kernel.shape[..]).ok());
    match sizes(found) {
        Some(size) if sizes(expected) != Some(size) => match preset(size) {
            Some(name) => format!("its size is that of -c {name}"),
            None => format!("it has agent.dyn.rssm.deter = {} and hidden = {}", size[0], size[1]),
        },
        _ => "give the environment and the options that it was trained with, by -c and --set".into(),
    }
}

/// The built-in size with these deter and hidden.
fn preset(size: [usize; 2]) -> Option<&'static str> {
    let names = PRESETS.iter().map(|(name, _)| *name).filter(|name| name.starts_with("size"));
    let is = |name: &&str| {
        let config = Config::load(&[name], &[] as &[&str]);
        config.is_ok_and(|config| [config.agent.dynamics.rssm.deter, config.agent.dynamics.rssm.hidden] == size)
    };
    names.into_iter().find(is)
}

fn absent(key: &str) -> OfficialError {
    AgentError::State { message: format!("`{key}` is missing or has another shape") }.into()
}

fn entry<'a>(values: &'a Tree, key: &str) -> Result<&'a Array, OfficialError> {
    values.get(key).ok_or_else(|| absent(key))
}

fn count(saved: &Saved, key: &str) -> Result<u64, OfficialError> {
    entry(saved, key)?.values::<u64>().first().copied().ok_or_else(|| absent(key))
}
