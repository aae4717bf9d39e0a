//! What an environment shows of its state.

use super::EnvError;

/// Which kinds of entries the observation has (`env.observe`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observe {
    /// The drawn image only.
    Pixels,
    /// Numbers only; nothing is drawn.
    Vector,
    /// Image and numbers.
    Both,
}

impl Observe {
    /// Read the option `env.observe` of a task.
    pub fn parse(task: &str, text: &str) -> Result<Self, EnvError> {
        match text {
            "pixels" => Ok(Self::Pixels),
            "vector" => Ok(Self::Vector),
            "both" => Ok(Self::Both),
            _ => Err(EnvError::Config {
                task: task.into(),
                key: "env.observe".into(),
                found: format!("`{text}`"),
                expected: "`pixels`, `vector` or `both`".into(),
            }),
        }
    }

    /// Whether images are drawn.
    pub fn pixels(self) -> bool {
        self != Self::Vector
    }

    /// Whether numbers are given.
    pub fn vector(self) -> bool {
        self != Self::Pixels
    }
}
