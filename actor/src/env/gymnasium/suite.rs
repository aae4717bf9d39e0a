//! What the adapters of suites in `python/lucid_env/suites` are told; docs/suites.md has the tasks.

use serde::Serialize;
use shared::config::EnvConfig;

/// A suite, with what its adapter does that wrappers do for other environments.
#[derive(Clone, Debug, Serialize)]
pub struct Suite {
    /// One of [`shared::config::SUITES`].
    pub name: String,
    /// `env.observe`.
    observe: String,
    /// Height and width of images.
    size: [usize; 2],
    /// How often each action is repeated.
    repeat: usize,
}

impl Suite {
    /// The config's suite and the name of its task; none if the task is of another kind.
    pub fn of(config: &EnvConfig) -> Option<(Self, &str)> {
        let (name, task) = config.suite()?;
        let suite =
            Self { name: name.into(), observe: config.observe.clone(), size: config.size, repeat: config.repeat };
        Some((suite, task))
    }

    /// What pip must install, in versions that work together.
    pub fn packages(&self) -> &'static str {
        match self.name.as_str() {
            // dm-control asks for this MuJoCo or newer, and does not work with 4.0.
            "dmc" => "gymnasium numpy dm-control==1.0.50 mujoco==3.17.0",
            "atari" | "atari100k" => "gymnasium numpy ale-py==0.12.1 pillow",
            "minigrid" => "gymnasium numpy minigrid==3.2.0",
            "procgen" => "gymnasium 'numpy<2' procgen-mirror==0.10.7 pillow",
            // Crafter asks for more than it needs to be played.
            _ => "gymnasium numpy crafter==1.8.3",
        }
    }
}
