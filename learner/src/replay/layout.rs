//! Which columns a step has: fixed by the first chunk of a run, the same for every stream.

use serde::{Deserialize, Serialize};
use shared::array::DType;
use shared::experience::{Chunk, DETER, STOCH, StreamId, UPDATE, VERSION};

use super::ReplayError;

/// One column of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its key.
    pub key: String,
    /// Element type.
    pub dtype: DType,
    /// Shape of one step.
    pub shape: Vec<usize>,
}

impl Column {
    /// Bytes of one step.
    pub fn width(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }
}

/// Column with the learner update that the stored latents were computed at (U64, [T]): of the snapshot that acted, then of the update
/// that last overwrote them.
pub const LATENT_UPDATE: &str = "lucid/latent_update";

/// What training overwrites.
const LATENTS: [&str; 3] = [DETER, STOCH, LATENT_UPDATE];

/// Number of files a block is stored in: what never changes once recorded, and the latents, which training overwrites.
pub(super) const PARTS: usize = 2;
/// Names of the parts in file names.
pub(super) const PART_NAMES: [&str; PARTS] = ["steps", "latents"];

/// Columns in key order, with the place of each in a block.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub columns: Vec<Column>,
    /// Part and position in the part, for each column.
    pub places: Vec<(usize, usize)>,
}

impl Layout {
    pub fn new(columns: Vec<Column>) -> Self {
        let mut used = [0; PARTS];
        let place = |column: &Column| {
            let part = usize::from(LATENTS.contains(&column.key.as_str()));
            used[part] += 1;
            (part, used[part] - 1)
        };
        let places = columns.iter().map(place).collect();
        Self { columns, places }
    }

    /// The layout that a first chunk defines; it must be well-formed and have the episode flags.
    pub fn of(chunk: &Chunk) -> Result<Self, ReplayError> {
        let flags = ["is_first", "is_last"];
        if let Some(key) = flags.into_iter().find(|key| !chunk.columns.contains_key(*key)) {
            return Err(refuse(chunk.stream, key, "is missing".into()));
        }
        let counters = [VERSION, UPDATE, LATENT_UPDATE].map(|key| (key, DType::U64));
        for (key, dtype) in flags.map(|key| (key, DType::U8)).into_iter().chain(counters) {
            let wrong = |array: &&shared::array::Array| array.dtype != dtype || array.shape.len() != 1;
            if let Some(array) = chunk.columns.get(key).filter(wrong) {
                let message = format!("must be {dtype:?} [T], is {:?} {:?}", array.dtype, array.shape);
                return Err(refuse(chunk.stream, key, message));
            }
        }
        let column = |(key, array): (&String, &shared::array::Array)| {
            let shape = array.shape.get(1..).unwrap_or_default().to_vec();
            Column { key: key.clone(), dtype: array.dtype, shape }
        };
        Ok(Self::new(chunk.columns.iter().map(column).collect()))
    }

    /// Bytes of one step.
    pub fn step_bytes(&self) -> usize {
        self.columns.iter().map(Column::width).sum()
    }

    /// Columns of one part, in the order in which a block stores them.
    pub fn part(&self, part: usize) -> impl Iterator<Item = &Column> {
        self.columns.iter().zip(&self.places).filter(move |(_, place)| place.0 == part).map(|(c, _)| c)
    }

    /// Index of a column.
    pub fn find(&self, key: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.key == key)
    }

    /// Whether every column of the chunk is as in this layout; returns its number of steps.
    pub fn check(&self, chunk: &Chunk) -> Result<usize, ReplayError> {
        let stream = chunk.stream;
        if let Some(key) = chunk.columns.keys().find(|k| self.find(k).is_none()) {
            return Err(refuse(stream, key, "is not among the columns that the first chunk of the run had".into()));
        }
        let steps = chunk.columns.values().next().and_then(|a| a.shape.first().copied()).unwrap_or(0);
        for column in &self.columns {
            let array = chunk.columns.get(&column.key);
            let array = array.ok_or_else(|| refuse(stream, &column.key, "is missing".into()))?;
            let fits = array.shape.split_first().is_some_and(|(&t, rest)| t == steps && rest == column.shape);
            if steps == 0 || !fits || array.dtype != column.dtype {
                let message = format!(
                    "is {:?} {:?}, expected {:?} with {steps} > 0 steps of shape {:?}",
                    array.dtype, array.shape, column.dtype, column.shape
                );
                return Err(refuse(stream, &column.key, message));
            }
            if Some(array.bytes.len()) != steps.checked_mul(column.width()) {
                let message =
                    format!("holds {} bytes, its shape {:?} needs more or fewer", array.bytes.len(), array.shape);
                return Err(refuse(stream, &column.key, message));
            }
        }
        Ok(steps)
    }
}

fn refuse(stream: StreamId, key: &str, message: String) -> ReplayError {
    ReplayError::Column { stream, key: key.into(), message }
}
