//! What an environment shows of its state.

use shared::array::Array;
use shared::env::{Space, Spaces};

use super::{EnvError, Outcome, Step};

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

    /// Spaces of the observed among an image of `size` (height, width) and these numbers, and of flags and reward.
    pub fn spaces<const N: usize>(self, size: [usize; 2], numbers: [(&str, Space); N]) -> Spaces {
        let image = self.pixels().then(|| ("image", Space::image(size[0], size[1], 3)));
        let numbers = numbers.into_iter().filter(|_| self.vector());
        let observed = image.into_iter().chain(numbers).map(|(key, space)| (key.to_string(), space));
        observed.chain(Outcome::spaces()).collect()
    }

    /// A step with what is observed of image and numbers; the rest is not made.
    pub fn step<const N: usize>(
        self,
        outcome: Outcome,
        image: impl FnOnce() -> Array,
        numbers: impl FnOnce() -> [(&'static str, Array); N],
    ) -> Step {
        let image = self.pixels().then(|| ("image", image()));
        let numbers = self.vector().then(numbers).into_iter().flatten();
        outcome.step(image.into_iter().chain(numbers))
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
