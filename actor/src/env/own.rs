//! Tasks of one's own: environments of other crates, by the names that `env.task` gives them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde::de::DeserializeOwned;
use shared::array::{Array, DType};
use shared::config::EnvConfig;
use shared::env::{FLAGS, Space, Spaces, TASKS};

use super::{Action, Env, EnvError, Observe, Outcome, Step};
use crate::guard;

/// The one list of a process, filled before anything else happens. Environments are made far below whoever reads the command line,
/// in every kind of process, and each is this binary again: a list that `main` fills is there without being handed through them all.
static OWN: OnceLock<Tasks> = OnceLock::new();

type Make = Box<dyn Fn(&Options) -> Result<Box<dyn Env>, EnvError> + Send + Sync>;

/// Tasks of your own, each a name and what makes its environment. `learner::lucid` takes them, at the start of `main`.
#[derive(Default)]
pub struct Tasks(Vec<(String, Make)>);

/// What an environment of one's own is made from.
pub struct Options<'a> {
    /// All randomness should come from it. It differs between the environments of a run.
    pub seed: u64,
    /// What is asked to be observed (`env.observe`); an environment that can show one thing only need not ask.
    pub observe: Observe,
    /// Height and width that images should have, pixels (`env.size`). Those of other sizes are resized, to the nearest pixels.
    pub size: [usize; 2],
    config: &'a EnvConfig,
    asked: RefCell<BTreeSet<String>>,
}

impl Tasks {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// And one more. `make` is called for each environment, and once more where only its spaces are asked for.
    pub fn with<E: Env + 'static>(
        mut self,
        name: &str,
        make: impl Fn(&Options) -> Result<E, EnvError> + Send + Sync + 'static,
    ) -> Self {
        let boxed = move |options: &Options| make(options).map(|env| Box::new(env) as Box<dyn Env>);
        self.0.push((name.into(), Box::new(boxed)));
        self
    }

    /// Make these known to [`make`](super::make) and all that name tasks, for the rest of the process. Once.
    pub fn install(self) -> Result<(), EnvError> {
        for (index, (name, _)) in self.0.iter().enumerate() {
            let refuse = |why: &str| Err(EnvError::Name { name: name.clone(), why: why.into() });
            if name.is_empty() || name.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control()) {
                return refuse("a name has letters, and no colon and no spaces; those with a colon are run in Python");
            }
            if TASKS.contains(&name.as_str()) {
                return refuse("a task that is built in has this name; give yours another");
            }
            if self.0[..index].iter().any(|(other, _)| other == name) {
                return refuse("it is there already; give one of the two another name");
            }
        }
        let again = |tasks: Self| {
            let name = tasks.0.into_iter().next().map(|(name, _)| name).unwrap_or_default();
            EnvError::Name { name, why: "tasks can be added once, all together".into() }
        };
        OWN.set(self).map_err(again)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The environment of the config's task; none if the task is not among these.
    pub(super) fn make(&self, config: &EnvConfig, seed: u64) -> Option<Result<Box<dyn Env>, EnvError>> {
        let (name, make) = self.0.iter().find(|(name, _)| *name == config.task)?;
        Some(Own::new(name, make, config, seed).map(|own| Box::new(own) as Box<dyn Env>))
    }
}

/// Those of this process; none where nobody installed any.
pub fn tasks() -> &'static Tasks {
    static NONE: Tasks = Tasks(Vec::new());
    OWN.get().unwrap_or(&NONE)
}

impl Options<'_> {
    /// A setting of the environment: `env.kwargs.KEY` of the config, or else `default`. An error if it has another type. Keys that
    /// the environment never asks for are refused, so a misspelled one has no silent effect.
    pub fn kwarg<T: DeserializeOwned>(&self, key: &str, default: T) -> Result<T, EnvError> {
        self.asked.borrow_mut().insert(key.into());
        let Some(value) = self.config.kwargs.get(key) else { return Ok(default) };
        let expected = |error: &dyn ToString| error.to_string().trim().replace('\n', ", ");
        value.clone().try_into().map_err(|error| self.fault(key, value.to_string(), expected(&error)))
    }

    fn fault(&self, key: &str, found: String, expected: String) -> EnvError {
        EnvError::Config { task: self.config.task.clone(), key: format!("env.kwargs.{key}"), found, expected }
    }

    /// An error if a key was given that nobody asked for.
    fn all_asked(&self) -> Result<(), EnvError> {
        let asked = self.asked.borrow();
        let Some((key, value)) = self.config.kwargs.iter().find(|(key, _)| !asked.contains(*key)) else {
            return Ok(());
        };
        let known = asked.iter().cloned().collect::<Vec<_>>().join(", ");
        let expected = if known.is_empty() { "no kwargs: it has none".into() } else { format!("one of: {known}") };
        Err(self.fault(key, value.to_string(), expected))
    }
}

/// An environment of one's own: its failures carry its task's name, and a panic is one of them.
struct Own {
    task: String,
    observations: Spaces,
    actions: Spaces,
    env: Box<dyn Env>,
    /// What went wrong where nothing could be returned: the next step's to tell.
    broken: Option<EnvError>,
}

impl Own {
    fn new(task: &str, make: &Make, config: &EnvConfig, seed: u64) -> Result<Self, EnvError> {
        let observe = Observe::parse(task, &config.observe)?;
        let options = Options { seed, observe, size: config.size, config, asked: RefCell::default() };
        let made = guarded(task, || make(&options).map(|env| (env.obs_space(), env.act_space(), env)));
        let (observations, actions, env) = made?;
        options.all_asked()?;
        check_spaces(&observations, &actions).map_err(|what| EnvError::failed(what).of(task))?;
        Ok(Self { task: task.into(), observations, actions, env, broken: None })
    }
}

/// Run code of the environment.
fn guarded<T>(task: &str, work: impl FnOnce() -> Result<T, EnvError>) -> Result<T, EnvError> {
    let panicked = |said| EnvError::failed(format!("it panicked: {said}"));
    guard::catch(work).map_err(panicked).flatten().map_err(|error| error.of(task))
}

/// What is wrong with the spaces that an environment says it has.
fn check_spaces(observations: &Spaces, actions: &Spaces) -> Result<(), String> {
    for (key, space) in Outcome::spaces() {
        if observations.get(&key) != Some(&space) {
            return Err(format!(
                "`{key}` is not among its observations as it should be: add Outcome::spaces() to obs_space"
            ));
        }
    }
    if observations.len() == FLAGS.len() || actions.is_empty() {
        return Err("it needs at least one observation and one action".into());
    }
    let reserved =
        |key: &&String| ["action", "dyn", "lucid", "vit"].contains(&key.split('/').next().unwrap_or_default());
    if let Some(key) = observations.keys().find(reserved) {
        return Err(format!("an observation cannot be called `{key}`: Lucid has another use for the name"));
    }
    if let Some(key) = actions.keys().find(|key| !key.starts_with("action")) {
        return Err(format!("the name of the action `{key}` must begin with `action`, as in `action/{key}`"));
    }
    for (key, space) in observations.iter().chain(actions) {
        let (dtype, shape, classes) = (space.dtype, &space.shape, space.classes);
        if space.elements() == 0 || classes == Some(0) {
            return Err(format!("`{key}` holds nothing: its shape is {shape:?}, its classes are {classes:?}"));
        }
        if !is_usual(space) || (space.is_image() && actions.contains_key(key)) {
            return Err(format!(
                "`{key}` is {dtype:?} {shape:?}, which agents cannot take: numbers and classes have up to two axes \
                 (Space::vector, bounded, discrete), images three (Space::image)"
            ));
        }
    }
    Ok(())
}

/// Whether agents can take such an entry.
fn is_usual(space: &Space) -> bool {
    let flat = space.shape.len() <= 2;
    match space.dtype {
        DType::F32 => flat && space.classes.is_none(),
        DType::I32 => flat && space.is_discrete(),
        DType::U8 => space.is_image() || (flat && space.is_discrete()),
        _ => false,
    }
}

impl Env for Own {
    fn obs_space(&self) -> Spaces {
        self.observations.clone()
    }

    fn act_space(&self) -> Spaces {
        self.actions.clone()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        match self.broken.take() {
            None => guarded(&self.task, || self.env.step(action)),
            Some(error) => Err(error),
        }
    }

    fn begin(&mut self, action: &Action) {
        let begin = || {
            self.env.begin(action);
            Ok(())
        };
        self.broken = guarded(&self.task, begin).err();
    }

    fn set_patient(&mut self, patient: bool) {
        self.env.set_patient(patient);
    }

    fn picture(&self) -> Option<Array> {
        let drawn = guard::catch(|| self.env.picture());
        drawn.unwrap_or_else(|said| {
            tracing::warn!("environment `{}` panicked while it drew a picture: {said}", self.task);
            None
        })
    }
}

#[cfg(test)]
mod tests;
