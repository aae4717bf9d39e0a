//! Reading and overriding the tree: every layer is merged into the defaults, which say what keys exist and of what type.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::Config;
use super::error::{ConfigError, nearest};
use super::presets::{DEFAULTS, find};

/// A value that is not the default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The key, with dots.
    pub key: String,
    /// The default, as TOML.
    pub default: String,
    /// This run's value, as TOML.
    pub value: String,
}

impl Config {
    /// Defaults, then presets in order (built-in names or paths), then `key=value` overrides; checked.
    pub fn load<P: AsRef<str>, S: AsRef<str>>(presets: &[P], sets: &[S]) -> Result<Self, ConfigError> {
        let mut tree = parse("defaults", DEFAULTS)?;
        for preset in presets {
            let (origin, text) = find(preset.as_ref())?;
            let layer = parse(&origin, &text)?;
            apply(&mut tree, layer, &origin)?;
        }
        let mut seen = BTreeSet::new();
        for set in sets {
            let (key, value) = split(set.as_ref())?;
            if !seen.insert(key) {
                return Err(ConfigError::SetTwice { key: key.into() });
            }
            override_one(&mut tree, key, value)?;
        }
        let config: Self = typed(&tree, "config")?;
        config.check()?;
        Ok(config)
    }

    /// This config with one option changed; checked.
    pub fn with(&self, key: &str, value: &str) -> Result<Self, ConfigError> {
        let mut tree = parse("config", &self.to_toml()?)?;
        override_one(&mut tree, key, value)?;
        let config: Self = typed(&tree, "config")?;
        config.check()?;
        Ok(config)
    }

    /// A whole tree as [`Config::to_toml`] wrote it, from another process of the run; checked.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = typed(&parse("config", text)?, "config")?;
        config.check()?;
        Ok(config)
    }

    /// The whole tree as TOML; [`Config::load`] with its path as the only preset gives the same config again.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        Ok(toml::to_string(self)?)
    }

    /// Where this config departs from the defaults, by key.
    pub fn differences(&self) -> Result<Vec<Difference>, ConfigError> {
        let (defaults, own) = (parse("defaults", DEFAULTS)?, parse("config", &self.to_toml()?)?);
        let defaults = parse("defaults", &typed(&defaults, "defaults")?.to_toml()?)?;
        let mut leaves = Vec::new();
        flatten("", &own, &mut leaves);
        let differs = |(key, value): (String, Value)| {
            let default = get(&defaults, &key);
            (default != Some(&value)).then(|| Difference {
                default: default.map_or_else(String::new, ToString::to_string),
                value: value.to_string(),
                key,
            })
        };
        Ok(leaves.into_iter().filter_map(differs).collect())
    }
}

fn override_one(tree: &mut Table, key: &str, value: &str) -> Result<(), ConfigError> {
    let layer = nest(key, literal(tree, key, value));
    apply(tree, layer, &format!("--set {key}={value}"))
}

fn parse(origin: &str, text: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|e: toml::de::Error| ConfigError::Syntax { origin: origin.into(), message: e.to_string() })
}

fn typed(tree: &Table, origin: &str) -> Result<Config, ConfigError> {
    tree.clone().try_into().map_err(|e: toml::de::Error| ConfigError::Value {
        origin: origin.into(),
        message: e.to_string().trim_end().replace('\n', " "),
    })
}

/// Merge a layer and see that the tree still has its types, so that an error names the layer that caused it.
fn apply(tree: &mut Table, layer: Table, origin: &str) -> Result<(), ConfigError> {
    let mut keys = Vec::new();
    flatten("", tree, &mut keys);
    let keys: Vec<String> = keys.into_iter().map(|(key, _)| key).collect();
    merge(tree, layer, "", &Context { origin, keys: &keys })?;
    typed(tree, origin).map(|_| ())
}

/// Tables in which any keys may be.
const FREE: [&str; 1] = ["env.kwargs"];

/// Whether a key lies in such a table.
fn is_free(key: &str) -> bool {
    FREE.iter().any(|table| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')))
}

/// Keys whose value is a whole number or the word `all`.
const NUMBER_OR_ALL: [&str; 1] = ["vit.trainable_blocks"];

struct Context<'a> {
    origin: &'a str,
    keys: &'a [String],
}

fn merge(base: &mut Table, layer: Table, path: &str, context: &Context) -> Result<(), ConfigError> {
    for (name, value) in layer {
        let key = join(path, &name);
        if FREE.contains(&path) && !base.contains_key(&name) {
            base.insert(name, value);
            continue;
        }
        let Some(old) = base.get_mut(&name) else {
            return Err(unknown(&key, base, path, context));
        };
        match (old, value) {
            (Value::Table(old), Value::Table(new)) => merge(old, new, &key, context)?,
            (old, new) => *old = fit(old, new, &key, context.origin)?,
        }
    }
    Ok(())
}

/// Look for the nearest name among the siblings first, then among all keys: a typo is likelier than a wrong section.
fn unknown(key: &str, siblings: &Table, path: &str, context: &Context) -> ConfigError {
    let name = key.rsplit('.').next().unwrap_or(key);
    let near = nearest(name, siblings.keys().map(String::as_str)).map(|n| join(path, &n));
    let elsewhere = || context.keys.iter().find(|k| k.rsplit('.').next() == Some(name)).cloned();
    let near = near.or_else(elsewhere).or_else(|| nearest(key, context.keys.iter().map(String::as_str)));
    ConfigError::UnknownKey { origin: context.origin.into(), key: key.into(), nearest: near }
}

/// The new value in the type of the old one. Whole numbers stand for either number type: `steps=1e6` and `lr=1`.
fn fit(old: &Value, new: Value, key: &str, origin: &str) -> Result<Value, ConfigError> {
    let wrong = |new: &Value| ConfigError::WrongType {
        origin: origin.into(),
        key: key.into(),
        expected: describe(old, "such as "),
        found: describe(new, ""),
    };
    match (old, new) {
        (Value::Float(_), Value::Integer(new)) => Ok(Value::Float(new as f64)),
        (Value::Integer(_), Value::Float(new)) if new.fract() == 0.0 && new.abs() < 9e15 => {
            Ok(Value::Integer(new as i64))
        }
        (Value::Array(items), Value::Array(new)) => {
            let Some(first) = items.first() else { return Ok(Value::Array(new)) };
            new.into_iter().map(|item| fit(first, item, key, origin)).collect::<Result<_, _>>().map(Value::Array)
        }
        (_, new @ (Value::Integer(_) | Value::String(_))) if NUMBER_OR_ALL.contains(&key) => Ok(new),
        (old, new) if old.same_type(&new) || is_free(key) => Ok(new),
        (_, new) => Err(wrong(&new)),
    }
}

fn describe(value: &Value, example: &str) -> String {
    let kind = match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => return if example.is_empty() { value.to_string() } else { "true or false".into() },
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => return "a table of keys".into(),
    };
    format!("{kind} ({example}{value})")
}

fn split(set: &str) -> Result<(&str, &str), ConfigError> {
    match set.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim(), value.trim())),
        _ => Err(ConfigError::NoValue { text: set.into() }),
    }
}

/// A TOML value; text needs no quotes where the key wants text, or where it is no TOML value.
fn literal(tree: &Table, key: &str, text: &str) -> Value {
    let value = format!("x = {text}").parse::<Table>().ok().and_then(|mut t| t.remove("x"));
    match (get(tree, key), value) {
        (_, Some(value @ Value::String(_))) => value,
        (Some(Value::String(_)), _) | (_, None) => Value::String(text.into()),
        (_, Some(value)) => value,
    }
}

fn nest(key: &str, value: Value) -> Table {
    match key.split_once('.') {
        Some((head, rest)) => Table::from_iter([(head.to_string(), Value::Table(nest(rest, value)))]),
        None => Table::from_iter([(key.to_string(), value)]),
    }
}

fn get<'a>(tree: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        Some((head, rest)) => get(tree.get(head)?.as_table()?, rest),
        None => tree.get(key),
    }
}

fn flatten(path: &str, tree: &Table, leaves: &mut Vec<(String, Value)>) {
    for (name, value) in tree {
        let key = join(path, name);
        match value {
            Value::Table(inner) => flatten(&key, inner, leaves),
            _ => leaves.push((key, value.clone())),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}
