//! What a sample is: batch columns, and where its trained steps live.

use serde::{Deserialize, Serialize};
use shared::array::Array;
use shared::experience::StreamId;

use super::ReplayError;
use crate::agent::Batch;

/// Column with the index of a piece within its sample, I32 [B].
pub const CONSEC: &str = "consec";

/// One step of replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepId {
    /// Its stream.
    pub stream: StreamId,
    /// Its index within the stream.
    pub step: u64,
}

/// A batch drawn from replay.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Columns [B, C + T, …] in the types in which they were recorded (C: replay context), and `consec` [B].
    pub batch: Batch,
    /// The first trained step of each row, at index C; the others follow it. For [`super::Replay::write_latents`].
    pub ids: Vec<StepId>,
    /// Rows that came from the online queue.
    pub from_online: usize,
}

impl Sampled {
    /// Cut samples of `consec * T + C` steps in `consec` batches of `T + C` that overlap by C, to be trained in this order.
    pub fn pieces(self, consec: usize, context: usize) -> Result<Vec<Sampled>, ReplayError> {
        if consec == 1 {
            return Ok(vec![self]);
        }
        let length = self.batch.values().find_map(|a| a.shape.get(1).copied()).unwrap_or(0);
        let trained = length.saturating_sub(context);
        if consec == 0 || !trained.is_multiple_of(consec) {
            let message = format!("{trained} trained steps cannot be cut in {consec} pieces");
            return Err(ReplayError::Settings { message });
        }
        Ok((0..consec).map(|index| self.piece(index, trained / consec, context)).collect())
    }

    fn piece(&self, index: usize, trained: usize, context: usize) -> Sampled {
        let cut = |(key, array): (&String, &Array)| {
            let rows = self.ids.len();
            let array = match key.as_str() {
                CONSEC => Array::i32(&[rows], &vec![index as i32; rows]),
                _ => window(array, index * trained, trained + context),
            };
            (key.clone(), array)
        };
        let shift = |id: &StepId| StepId { step: id.step + (index * trained) as u64, ..*id };
        Sampled {
            batch: self.batch.iter().map(cut).collect(),
            ids: self.ids.iter().map(shift).collect(),
            from_online: self.from_online,
        }
    }
}

/// Steps `start..start + len` of a [B, L, …] column.
fn window(array: &Array, start: usize, len: usize) -> Array {
    let length = array.shape[1];
    let width = array.shape[2..].iter().product::<usize>() * array.dtype.size();
    let mut shape = array.shape.clone();
    shape[1] = len;
    let rows = (0..array.shape[0]).map(|row| (row * length + start) * width);
    let bytes = rows.flat_map(|from| array.bytes[from..from + len * width].iter().copied()).collect();
    Array { dtype: array.dtype, shape, bytes }
}
