//! Observation and action spaces.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::array::DType;

/// Keys that every observation has beside what the agent sees: three flags and the reward.
pub const FLAGS: [&str; 4] = ["is_first", "is_last", "is_terminal", "reward"];

/// Spaces by key, in the order in which the environment lists them.
pub type Spaces = IndexMap<String, Space>;

/// The values one observation or action entry can take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Space {
    /// Type of one element.
    pub dtype: DType,
    /// Shape of one entry, without batch axes; images are [height, width, channels].
    pub shape: Vec<usize>,
    /// Number of classes if the entry is discrete (integers 0..classes), else none.
    pub classes: Option<usize>,
    /// Smallest value of a continuous entry.
    pub low: f32,
    /// Largest value of a continuous entry.
    pub high: f32,
}

impl Space {
    /// Real numbers without bounds.
    pub fn vector(shape: &[usize]) -> Self {
        Self::bounded(shape, f32::NEG_INFINITY, f32::INFINITY)
    }

    /// Real numbers between two bounds, the same for every element.
    pub fn bounded(shape: &[usize], low: f32, high: f32) -> Self {
        Self { dtype: DType::F32, shape: shape.to_vec(), classes: None, low, high }
    }

    /// An image of bytes, [height, width, channels].
    pub fn image(height: usize, width: usize, channels: usize) -> Self {
        Self { dtype: DType::U8, shape: vec![height, width, channels], classes: None, low: 0.0, high: 255.0 }
    }

    /// Integers 0..classes.
    pub fn discrete(shape: &[usize], classes: usize) -> Self {
        Self { dtype: DType::I32, shape: shape.to_vec(), classes: Some(classes), low: 0.0, high: classes as f32 }
    }

    /// A flag.
    pub fn flag() -> Self {
        Self { dtype: DType::U8, shape: vec![], classes: Some(2), low: 0.0, high: 1.0 }
    }

    /// Whether the entry counts classes.
    pub fn is_discrete(&self) -> bool {
        self.classes.is_some()
    }

    /// Whether the entry is an image: three axes of bytes.
    pub fn is_image(&self) -> bool {
        self.dtype == DType::U8 && self.shape.len() == 3
    }

    /// Number of elements of one entry.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Width of the entry once it is flattened, with discrete elements as one-hot vectors.
    pub fn width(&self) -> usize {
        self.elements() * self.classes.unwrap_or(1)
    }
}
