//! From the command line to a run folder with one resolved config.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use shared::config::{Config, Difference};

use crate::RunError;
use crate::durable;
use crate::error::io;

/// What may change when a run is resumed: when it ends, how many act, how often something is evaluated, told or saved, and to
/// whom, and where other hosts join.
const HARMLESS: [&str; 11] = [
    "run.steps",
    "run.minutes",
    "actor.count",
    "actor.max_restarts",
    "sync.join_timeout",
    "sync.silence_timeout",
    "checkpoint.",
    "eval.",
    "hosts.",
    "log.",
    "web.",
];

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Presets, in order.
    pub presets: Vec<String>,
    /// Overrides.
    pub sets: Vec<String>,
    /// Run folder; none: a new one below `runs/`.
    pub run: Option<PathBuf>,
}

/// A run folder that exists, and its config, which is saved in it.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Run folder.
    pub dir: PathBuf,
    /// Options.
    pub config: Config,
    /// Whether the folder had a config before.
    pub resumed: bool,
}

/// Resolve the config and make the run folder. A folder with a config is resumed with it; overrides that would change what was
/// trained so far are refused.
pub fn resolve(request: &Request) -> Result<Resolved, RunError> {
    let dir = request.run.clone().unwrap_or_else(|| fresh(&request.presets));
    let file = dir.join("config.toml");
    let resumed = file.exists();
    let config = if resumed { resume(&dir, &file, request)? } else { Config::load(&request.presets, &request.sets)? };
    actor::env::validate(&config.env)?;
    for folder in [&dir, &dir.join("logs")] {
        fs::create_dir_all(folder).map_err(io("create", folder))?;
    }
    Ok(Resolved { dir, config, resumed })
}

impl Resolved {
    /// Write the config into the run folder; for whoever holds its lock.
    pub fn save(&self) -> Result<(), RunError> {
        Ok(durable::write(&self.dir.join("config.toml"), self.config.to_toml()?.as_bytes())
            .map_err(crate::checkpoint::CheckpointError::from)?)
    }
}

fn fresh(presets: &[String]) -> PathBuf {
    let name = presets.first().and_then(|p| Path::new(p).file_stem()).map(|s| s.to_string_lossy().into_owned());
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    Path::new("runs").join(format!("{}-{seconds}", name.unwrap_or_else(|| "default".into())))
}

fn resume(dir: &Path, file: &Path, request: &Request) -> Result<Config, RunError> {
    let path = file.to_string_lossy().into_owned();
    let saved = Config::load(&[&path], &[] as &[&str])?;
    let base = if request.presets.is_empty() { vec![path] } else { request.presets.clone() };
    let wanted = Config::load(&base, &request.sets)?;
    let changes: Vec<String> = conflicts(&saved.differences()?, &wanted.differences()?);
    if changes.is_empty() {
        return Ok(wanted);
    }
    Err(RunError::Folder {
        path: dir.to_path_buf(),
        message: format!("it holds a run with another config: {}", changes.join("; ")),
        help: "leave these options out to resume it, or start a new run in another folder with --run".into(),
    })
}

/// Options that differ and matter, as `key: saved -> wanted`.
fn conflicts(saved: &[Difference], wanted: &[Difference]) -> Vec<String> {
    let find = |list: &[Difference], key: &str| list.iter().find(|d| d.key == key).map(|d| d.value.clone());
    let mut keys: Vec<&Difference> = saved.iter().chain(wanted).collect();
    keys.sort_by(|a, b| a.key.cmp(&b.key));
    keys.dedup_by(|a, b| a.key == b.key);
    let harmless = |key: &str| HARMLESS.iter().any(|h| key == *h || (h.ends_with('.') && key.starts_with(h)));
    let changed = |d: &&Difference| {
        let value = |list| find(list, &d.key).unwrap_or_else(|| d.default.clone());
        let (old, new) = (value(saved), value(wanted));
        (old != new && !harmless(&d.key)).then(|| format!("{} is {old}, not {new}", d.key))
    };
    keys.iter().filter_map(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(dir: &Path, presets: &[&str], sets: &[&str]) -> Request {
        let own = |x: &[&str]| x.iter().map(|s| s.to_string()).collect();
        Request { presets: own(presets), sets: own(sets), run: Some(dir.to_path_buf()) }
    }

    #[test]
    fn a_run_resumes_with_its_config_and_refuses_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = resolve(&request(dir.path(), &["dummy"], &["run.seed=3"])).unwrap();
        assert!(!first.resumed);
        first.save().unwrap();
        let again = resolve(&request(dir.path(), &[], &["run.steps=500", "actor.count=3"])).unwrap();
        assert_eq!((again.resumed, again.config.run.seed, again.config.run.steps), (true, 3, 500));
        let error = resolve(&request(dir.path(), &[], &["agent.opt.lr=0.5"])).unwrap_err().to_string();
        assert!(error.contains("agent.opt.lr is") && error.contains("not 0.5"), "{error}");
        assert!(resolve(&request(dir.path(), &["dummy"], &[])).unwrap_err().to_string().contains("run.seed"));
        assert!(resolve(&request(dir.path(), &["dummy"], &["run.seed=3"])).is_ok());
    }
}
