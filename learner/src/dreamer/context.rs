//! Replay context: where each row of a batch takes its first state and previous actions from (official `agent.py`,
//! _apply_replay_context).

use std::ops::Range;

use candle_core::{Device, Result, Tensor};
use shared::array::{Array, DType};
use shared::config::AgentConfig;
use shared::dreamer::State;
use shared::dreamer::inputs::{Columns, column};
use shared::env::{Space, Spaces};
use shared::experience::{DETER, STOCH, one_hot_of};

/// What a row of a batch goes on from: state and action of the last step of the batch before.
#[derive(Clone, Debug)]
pub struct Carry {
    /// State of the dynamics.
    pub state: State,
    /// Last action by key, [B, …].
    pub action: Columns,
}

impl Carry {
    /// Before the first batch of `rows` rows.
    pub fn zeros(config: &AgentConfig, act: &Spaces, rows: usize) -> Result<Self> {
        let rssm = &config.dynamics.rssm;
        let zeros = |shape: Vec<usize>| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu);
        let state =
            State { deter: zeros(vec![rows, rssm.deter])?, stoch: zeros(vec![rows, rssm.stoch, rssm.classes])? };
        let blank =
            |(k, s): (&String, &Space)| (k.clone(), Array::zeros(s.dtype, &[&[rows], s.shape.as_slice()].concat()));
        Ok(Self { state, action: act.iter().map(blank).collect() })
    }
}

/// What a training step runs on.
pub struct Context {
    /// B and T.
    pub shape: (usize, usize),
    /// Observed columns of the T trained steps, [B * T, …], row by row.
    pub obs: Columns,
    /// Action before each trained step, by key, [B * T, …].
    pub prev_actions: Columns,
    /// State before the first trained step, [B, …]; has no gradient.
    pub state: State,
}

impl Context {
    /// Steps of the first `rows` rows; only from step 0 on is its state the one before them.
    pub(super) fn part(&self, rows: usize, steps: Range<usize>) -> Result<Self> {
        let (b, t) = self.shape;
        let cut = |(key, array): (&String, &Array)| {
            let by_row = Array { shape: [&[b, t], &array.shape[1..]].concat(), ..array.clone() };
            let mut cut = slice_time(&by_row, steps.start, steps.end);
            cut.shape[0] = rows * steps.len();
            cut.bytes.truncate(cut.elements() * cut.dtype.size());
            (key.clone(), cut)
        };
        let state = State { deter: self.state.deter.narrow(0, 0, rows)?, stoch: self.state.stoch.narrow(0, 0, rows)? };
        let shape = (rows, steps.len());
        let (obs, prev_actions) = (self.obs.iter().map(cut).collect(), self.prev_actions.iter().map(cut).collect());
        Ok(Self { shape, obs, prev_actions, state })
    }
}

/// Split a batch [B, C + T, …]. Rows that begin a sample (`consec` 0) start from the latents stored with their last context
/// step, others from the carry of the previous training step.
pub fn split(batch: &Columns, carry: &Carry, act: &Spaces, context: usize) -> Result<Context> {
    let flags = column(batch, "is_first")?;
    let [rows, steps] = flags.shape[..] else { candle_core::bail!("`is_first` must be [B, T], not {:?}", flags.shape) };
    if steps <= context {
        candle_core::bail!("a batch of {steps} steps has nothing beyond its replay context of {context}");
    }
    let observed =
        |(key, _): &(&String, &Array)| !act.contains_key(*key) && *key != DETER && *key != STOCH && *key != "consec";
    let cut = |array: &Array, from: usize, to: usize| slice_time(array, from, to);
    let obs = batch.iter().filter(observed).map(|(k, a)| (k.clone(), cut(a, context, steps))).collect();
    let mut prev_actions = Columns::new();
    for key in act.keys() {
        let actions = column(batch, key)?;
        let previous = match context {
            0 => prepend(column(&carry.action, key)?, actions),
            c => cut(actions, c - 1, steps - 1),
        };
        prev_actions.insert(key.clone(), previous);
    }
    let state = match context {
        0 => carry.state.clone(),
        c => first_states(batch, &carry.state, rows, c)?,
    };
    Ok(Context { shape: (rows, steps - context), obs, prev_actions, state: state.detach() })
}

fn first_states(batch: &Columns, running: &State, rows: usize, context: usize) -> Result<State> {
    let consec = column(batch, "consec")?.to_f32();
    let per_row = consec.len() / rows;
    let starts: Vec<u8> = (0..rows).map(|b| (consec[b * per_row] == 0.0) as u8).collect();
    let select = |key: &str, running: &Tensor| {
        let stored = slice_time(column(batch, key)?, context - 1, context);
        let stored = match stored.dtype {
            DType::U16 => one_hot_of(&stored, running.dim(2)?).to_tensor()?,
            _ => stored.to_tensor()?,
        };
        let stored = stored.to_device(running.device())?;
        let mask = Tensor::from_slice(&starts, rows, running.device())?;
        let mask = mask.reshape([&[rows], vec![1; stored.rank() - 1].as_slice()].concat())?;
        mask.broadcast_as(stored.shape())?.where_cond(&stored, running)
    };
    Ok(State { deter: select(DETER, &running.deter)?, stoch: select(STOCH, &running.stoch)? })
}

/// Steps from..to of [B, L, …] as [B * (to - from), …].
fn slice_time(array: &Array, from: usize, to: usize) -> Array {
    let (rows, steps) = (array.shape[0], array.shape[1]);
    let size = array.bytes.len() / (rows * steps).max(1);
    let row = |b: usize| &array.bytes[(b * steps + from) * size..(b * steps + to) * size];
    let shape = [&[rows * (to - from)], &array.shape[2..]].concat();
    Array { dtype: array.dtype, shape, bytes: (0..rows).flat_map(row).copied().collect() }
}

/// [B, …] before all but the last step of [B, L, …], as [B * L, …].
fn prepend(first: &Array, rest: &Array) -> Array {
    let (rows, steps) = (rest.shape[0], rest.shape[1]);
    let size = rest.bytes.len() / (rows * steps).max(1);
    let row =
        |b: usize| [&first.bytes[b * size..][..size], &rest.bytes[b * steps * size..][..(steps - 1) * size]].concat();
    let shape = [&[rows * steps], &rest.shape[2..]].concat();
    Array { dtype: rest.dtype, shape, bytes: (0..rows).flat_map(row).collect() }
}

/// The last action of each row of a batch, by key.
pub(crate) fn last_actions(batch: &Columns, act: &Spaces) -> Result<Columns> {
    let last = |key: &String| {
        let actions = column(batch, key)?;
        let steps = actions.shape[1];
        Ok((key.clone(), slice_time(actions, steps - 1, steps)))
    };
    act.keys().map(last).collect()
}
