//! From a config to an environment with its wrappers.

use shared::config::EnvConfig;
use shared::env::{Space, Spaces, TASKS};

use super::cartpole::{self, Cartpole};
use super::catch::Catch;
use super::dummy::Dummy;
use super::gymnasium::{self, Gymnasium, Starting};
use super::keydoor::{KeyDoor, View};
use super::pendulum::{Model, Pendulum};
use super::pinpad::{self, PinPad};
use super::slow::{Slow, Slowed};
use super::tmaze::TMaze;
use super::wrappers::{ActionRepeat, Checked, ClipAction, NormalizeAction, Resize, TimeLimit};
use super::{Env, EnvError, Interrupt, Observe};

/// Steps of a dummy episode.
const DUMMY_LENGTH: usize = 100;

/// Build the task that the config names, with its wrappers, seeded. The seed should differ between the environments
/// of a run. `config.time_limit` counts agent steps (after action repeat) and can only shorten a task's own limit.
pub fn make(config: &EnvConfig, seed: u64) -> Result<Box<dyn Env>, EnvError> {
    validate(config)?;
    finish(config, seed, gymnasium::start(config, seed, &Interrupt::default())?)
}

/// [`make`] for each of the seeds. Environments that are processes of their own start at the same time; none is waited for any more once
/// `interrupt` is set.
pub fn make_all(config: &EnvConfig, seeds: &[u64], interrupt: &Interrupt) -> Result<Vec<Box<dyn Env>>, EnvError> {
    validate(config)?;
    let start = |&seed: &u64| gymnasium::start(config, seed, interrupt);
    let started = seeds.iter().map(start).collect::<Result<Vec<_>, _>>()?;
    seeds.iter().zip(started).map(|(&seed, started)| finish(config, seed, started)).collect()
}

fn finish(config: &EnvConfig, seed: u64, started: Option<Starting>) -> Result<Box<dyn Env>, EnvError> {
    let bare = match started {
        Some(starting) => Box::new(Gymnasium::new(&config.task, starting)?),
        None => native(config, seed)?,
    };
    let mut env = Box::new(ClipAction::new(NormalizeAction::new(bare))) as Box<dyn Env>;
    // Suites repeat actions themselves: they draw only what is seen.
    if config.repeat > 1 && config.suite().is_none() {
        env = Box::new(ActionRepeat::new(env, config.repeat));
    }
    if config.time_limit > 0 {
        env = Box::new(TimeLimit::new(env, config.time_limit));
    }
    let resized = Resize::new(env, config.size);
    Ok(Box::new(Checked::new(resized, &config.task)))
}

fn native(config: &EnvConfig, seed: u64) -> Result<Box<dyn Env>, EnvError> {
    let (observe, size) = (Observe::parse(&config.task, &config.observe)?, config.size);
    let dummy = |actions: &[(&str, Space)]| {
        let actions = actions.iter().map(|(key, space)| (key.to_string(), space.clone())).collect();
        Dummy::new(&config.task, dummy_observations(observe, size), actions, DUMMY_LENGTH, seed)
    };
    let discrete = [("action", Space::discrete(&[], 5))];
    let cartpole = |variant| Box::new(Cartpole::new(variant, observe, size, seed));
    let pendulum = |model| Box::new(Pendulum::new(model, observe, size, seed));
    let pinpad = |layout| Box::new(PinPad::new(layout, observe, size, seed));
    let keydoor = |side, view| Box::new(KeyDoor::new(&config.task, side, view, observe, size, seed));
    Ok(match config.task.as_str() {
        "catch" => Box::new(Catch::new(observe, size, seed)),
        "tmaze" if config.observe != "vector" => return Err(vectors_only(config)),
        "tmaze" => Box::new(TMaze::new(seed)),
        "cartpole_balance" => cartpole(cartpole::BALANCE),
        "cartpole_balance_sparse" => cartpole(cartpole::BALANCE_SPARSE),
        "cartpole_swingup" => cartpole(cartpole::SWINGUP),
        "cartpole_swingup_sparse" => cartpole(cartpole::SWINGUP_SPARSE),
        "pendulum" => pendulum(Model::Gymnasium),
        "pendulum_swingup" => pendulum(Model::Suite),
        "pinpad_three" => pinpad(&pinpad::THREE),
        "pinpad_four" => pinpad(&pinpad::FOUR),
        "pinpad_five" => pinpad(&pinpad::FIVE),
        "pinpad_six" => pinpad(&pinpad::SIX),
        "keydoor" => keydoor(8, View::Ahead),
        "keydoor_5" => keydoor(5, View::Ahead),
        "keydoor_6" => keydoor(6, View::Ahead),
        "keydoor_16" => keydoor(16, View::Ahead),
        "keydoor_full" => keydoor(8, View::Full),
        "keydoor_full_5" => keydoor(5, View::Full),
        "keydoor_full_6" => keydoor(6, View::Full),
        "keydoor_full_16" => keydoor(16, View::Full),
        "dummy" => Box::new(dummy(&discrete)),
        "dummy_sleep" => Box::new(Slowed::new(Box::new(dummy(&discrete)), Slow::Sleep)),
        "dummy_compute" => Box::new(Slowed::new(Box::new(dummy(&discrete)), Slow::Compute)),
        "dummy_cont" => Box::new(dummy(&[("action", Space::bounded(&[6], -1.0, 1.0))])),
        "dummy_mixed" => {
            Box::new(dummy(&[("keys", Space::discrete(&[2], 3)), ("arm", Space::bounded(&[3], 0.0, 10.0))]))
        }
        task => return Err(unknown(task)),
    })
}

fn dummy_observations(observe: Observe, [height, width]: [usize; 2]) -> Spaces {
    let mut spaces = Spaces::new();
    if observe.pixels() {
        spaces.insert("image".into(), Space::image(height, width, 3));
    }
    if observe.vector() {
        spaces.insert("vector".into(), Space::vector(&[7]));
        spaces.insert("token".into(), Space::discrete(&[], 12));
    }
    spaces
}

fn validate(config: &EnvConfig) -> Result<(), EnvError> {
    let fault = |key: &str, found: String, expected: &str| {
        let (task, key, expected) = (config.task.clone(), key.into(), expected.into());
        Err(EnvError::Config { task, key, found, expected })
    };
    if config.repeat == 0 {
        return fault("env.repeat", "0".into(), "at least 1");
    }
    if config.size.contains(&0) {
        return fault("env.size", format!("{:?}", config.size), "height and width of at least 1");
    }
    Ok(())
}

fn vectors_only(config: &EnvConfig) -> EnvError {
    let (task, found) = (config.task.clone(), config.observe.clone());
    EnvError::Config { task, key: "env.observe".into(), found, expected: "vector: this task draws no pictures".into() }
}

fn unknown(task: &str) -> EnvError {
    let alike = |name: &&str| (strsim::jaro_winkler(task, name) * 1e6) as u64;
    let nearest = TASKS.into_iter().max_by_key(alike).unwrap_or_default();
    EnvError::UnknownTask { task: task.into(), nearest: nearest.into(), known: TASKS.join(", ") }
}
