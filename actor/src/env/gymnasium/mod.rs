//! Environments of Gymnasium, each in a Python process of its own; docs/environments.md has the protocol.

mod child;
mod host;
mod layout;
mod memory;
mod messages;
mod suite;

use std::cell::RefCell;
use std::time::Duration;

use shared::array::Array;
use shared::config::{EnvConfig, GYMNASIUM};
use shared::env::Spaces;

use super::{Action, Env, EnvError, Interrupt, Step};
use child::Setup;
use host::Host;
pub use host::Starting;
use messages::Messages;
use suite::Suite;

/// Read whatever a child may say, for fuzzing: messages, and the spaces of its hello.
pub fn child_says(bytes: &[u8]) {
    let mut messages = Messages::default();
    messages.push(bytes);
    while let Ok(Some(reply)) = messages.next() {
        if let Ok(layout) = host::layout(&reply) {
            // What is wrong with its spaces was said; these can be used.
            assert!(layout.act_space().len() + layout.obs_space().len() > 0);
        }
    }
}

/// An environment in a Python process, which is started again when it fails.
pub struct Gymnasium {
    host: RefCell<Host>,
    task: String,
    patient: bool,
}

/// Start the process of the config's task; none if it is another kind of task.
pub fn start(config: &EnvConfig, seed: u64, interrupt: &Interrupt) -> Result<Option<Starting>, EnvError> {
    let (suite, id) = match (Suite::of(config), config.task.strip_prefix(GYMNASIUM)) {
        (Some((suite, task)), _) => (Some(suite), task),
        (None, Some(id)) => (None, id),
        (None, None) => return Ok(None),
    };
    let kwargs = serde_json::to_value(&config.kwargs).map_err(|error| EnvError::Config {
        task: config.task.clone(),
        key: "env.kwargs".into(),
        found: error.to_string(),
        expected: "what JSON can hold".into(),
    })?;
    let timeout =
        Duration::try_from_secs_f64(config.timeout).unwrap_or(Duration::MAX).min(Duration::from_secs(1 << 30));
    let interrupt = interrupt.clone();
    let setup = Setup { python: python(config), id: id.into(), suite, kwargs, timeout, interrupt };
    Starting::new(&config.task, setup, seed, config.max_restarts).map(Some)
}

/// The Python of the config, else of the virtual environment that is active, else `python3`.
fn python(config: &EnvConfig) -> String {
    if !config.python.is_empty() {
        return config.python.clone();
    }
    match std::env::var("VIRTUAL_ENV") {
        Ok(folder) if !folder.is_empty() => format!("{folder}/bin/python3"),
        _ => "python3".into(),
    }
}

impl Gymnasium {
    /// Wait for a process that was started.
    pub fn new(task: &str, starting: Starting) -> Result<Self, EnvError> {
        Ok(Self { host: RefCell::new(Host::new(starting)?), task: task.into(), patient: true })
    }
}

impl Env for Gymnasium {
    fn obs_space(&self) -> Spaces {
        self.host.borrow().layout().obs_space()
    }

    fn act_space(&self) -> Spaces {
        self.host.borrow().layout().act_space()
    }

    fn begin(&mut self, action: &Action) {
        self.host.get_mut().begin((!action.reset).then_some(&action.values));
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        let host = self.host.get_mut();
        match action.reset {
            true => host.reset(self.patient)?.ok_or_else(|| EnvError::Restarting { task: self.task.clone() }),
            false => host.step(&action.values),
        }
    }

    fn picture(&self) -> Option<Array> {
        // An environment that has failed too often says so at its next step.
        self.host.borrow_mut().picture().ok().flatten()
    }

    fn set_patient(&mut self, patient: bool) {
        self.patient = patient;
    }
}
