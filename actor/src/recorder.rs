//! Steps to chunks, and chunks to the learner under credits.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::array::Array;
use shared::experience::{Chunk, StreamId};
use shared::wire::{LinkSender, Pause, ToLearner, Waiting, chunk};

use crate::meter::{Meter, Part};
use crate::receiver::Inbox;
use crate::{ActorError, Acts, wire};

/// How long to wait for a credit before numbers are looked after again.
const PATIENCE: Duration = Duration::from_millis(100);

/// One environment's steps that have not been sent.
struct Stream {
    id: StreamId,
    first_step: u64,
    steps: usize,
    columns: BTreeMap<String, Array>,
}

impl Stream {
    /// Append row `row` of each column [K, …].
    fn push(&mut self, row: usize, step: &BTreeMap<String, Array>) {
        for (key, array) in step {
            let column = self.columns.entry(key.clone()).or_insert_with(|| {
                let shape = std::iter::once(0).chain(array.shape[1..].iter().copied()).collect();
                Array { dtype: array.dtype, shape, bytes: Vec::new() }
            });
            column.bytes.extend_from_slice(array.row(row));
            column.shape[0] += 1;
        }
        self.steps += 1;
    }

    fn take(&mut self) -> Chunk {
        let columns = std::mem::take(&mut self.columns);
        let chunk = Chunk { stream: self.id, first_step: self.first_step, columns };
        self.first_step += self.steps as u64;
        self.steps = 0;
        chunk
    }
}

/// Records the steps of one actor's environments.
pub struct Recorder {
    streams: Vec<Stream>,
    length: usize,
    lockstep: bool,
    link: LinkSender<ToLearner>,
}

impl Recorder {
    /// For N environments, given their streams; chunks hold `length` steps. In lockstep, the credits for a chunk of each
    /// environment are taken before its first step, else when a chunk is sent.
    pub fn new(streams: Vec<StreamId>, length: usize, lockstep: bool, link: LinkSender<ToLearner>) -> Self {
        let stream = |id| Stream { id, first_step: 0, steps: 0, columns: BTreeMap::new() };
        Self { streams: streams.into_iter().map(stream).collect(), length: length.max(1), lockstep, link }
    }

    /// Before a step of all environments: wait for the learner where the config asks for lockstep.
    pub fn begin(&self, inbox: &Inbox, meter: &mut Meter) -> Result<(), ActorError> {
        if self.lockstep && self.streams.iter().all(|stream| stream.steps == 0) {
            for _ in &self.streams {
                self.wait_for_credit(inbox, meter)?;
            }
        }
        Ok(())
    }

    /// Record one step of some environments, and send chunks that are full.
    pub fn record(&mut self, acts: &Acts, inbox: &Inbox, meter: &mut Meter) -> Result<(), ActorError> {
        for (row, env) in acts.envs.iter().enumerate() {
            self.streams[*env].push(row, &acts.columns);
        }
        self.send(self.length, inbox, meter)
    }

    /// Send what is recorded, full or not.
    pub fn flush(&mut self, inbox: &Inbox, meter: &mut Meter) -> Result<(), ActorError> {
        self.send(1, inbox, meter)
    }

    /// Tell numbers if it is time.
    pub fn report(&self, waiting: Waiting, meter: &mut Meter) -> Result<(), ActorError> {
        match meter.due(waiting) {
            Some(numbers) => self.link.send(&ToLearner::Numbers(numbers)).map_err(wire("reporting numbers")),
            None => Ok(()),
        }
    }

    /// The last numbers and the last word.
    pub fn goodbye(&self, reason: &str, meter: &mut Meter) -> Result<(), ActorError> {
        let numbers = ToLearner::Numbers(meter.take(Waiting::Nothing));
        self.link.send(&numbers).map_err(wire("reporting numbers"))?;
        self.link.send(&ToLearner::Goodbye { reason: reason.into() }).map_err(wire("saying goodbye"))
    }

    fn send(&mut self, at_least: usize, inbox: &Inbox, meter: &mut Meter) -> Result<(), ActorError> {
        for index in 0..self.streams.len() {
            if self.streams[index].steps >= at_least {
                if self.lockstep {
                    // Told before the chunk, so that the learner knows of an episode when it trains on its last step.
                    let numbers = ToLearner::Numbers(meter.take(Waiting::Nothing));
                    self.link.send(&numbers).map_err(wire("reporting numbers"))?;
                } else {
                    self.wait_for_credit(inbox, meter)?;
                }
                let (head, block) = chunk::pack(&self.streams[index].take());
                self.link.send_bytes(&ToLearner::Chunk(head), &block).map_err(wire("sending experience"))?;
            }
        }
        Ok(())
    }

    fn wait_for_credit(&self, inbox: &Inbox, meter: &mut Meter) -> Result<(), ActorError> {
        let mut limit = Duration::ZERO;
        loop {
            match meter.time(Part::Wait, || inbox.credits.take(limit)) {
                Pause::Ready => return Ok(()),
                Pause::Closed => return Err(inbox.take_failure().unwrap_or_else(gone)),
                Pause::Later if self.lockstep && inbox.stopped() => return Ok(()),
                Pause::Later if inbox.paused() => self.report(Waiting::Resume, meter)?,
                Pause::Later => self.report(Waiting::Credits, meter)?,
            }
            limit = PATIENCE;
        }
    }
}

fn gone() -> ActorError {
    wire("waiting for credits")(shared::wire::WireError::Closed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::wire::pair;

    fn acts(envs: &[usize], values: &[f32]) -> Acts {
        Acts { envs: envs.into(), columns: [("x".to_string(), Array::f32(&[values.len(), 1], values))].into() }
    }

    #[test]
    fn streams_are_cut_into_chunks_without_gaps_and_the_rest_is_flushed() {
        let (sender, receiver) = pair::<ToLearner>().unwrap();
        let id = |env| StreamId { actor: 0, generation: 0, env };
        let mut recorder = Recorder::new(vec![id(0), id(1)], 2, false, sender);
        let (inbox, mut meter) = (Inbox::default(), Meter::new(2));
        inbox.credits.add(5);
        for acts in
            [acts(&[0, 1], &[0., -0.]), acts(&[1, 0], &[-1., 1.]), acts(&[1], &[-2.]), acts(&[0, 1], &[2., -3.])]
        {
            recorder.record(&acts, &inbox, &mut meter).unwrap();
        }
        recorder.flush(&inbox, &mut meter).unwrap();
        let mut chunks = Vec::new();
        while let Ok(incoming) = receiver.recv_timeout(Duration::ZERO) {
            let ToLearner::Chunk(head) = incoming.message else { continue };
            chunks.push(chunk::unpack(head, incoming.bulk.as_ref()).unwrap());
        }
        let seen: Vec<_> = chunks.iter().map(|c| (c.stream.env, c.first_step, c.columns["x"].to_f32())).collect();
        let expected = [(0, 0, vec![0., 1.]), (1, 0, vec![0., -1.]), (1, 2, vec![-2., -3.]), (0, 2, vec![2.])];
        assert_eq!(seen, expected);
        assert_eq!(chunks[0].columns["x"].shape, [2, 1]);
    }

    #[test]
    fn a_closed_link_ends_the_wait_for_credits() {
        let (sender, _receiver) = pair::<ToLearner>().unwrap();
        let mut recorder = Recorder::new(vec![StreamId { actor: 0, generation: 0, env: 0 }], 1, false, sender);
        let inbox = Inbox::default();
        inbox.credits.close();
        assert!(recorder.record(&acts(&[0], &[0.0]), &inbox, &mut Meter::new(1)).is_err());
    }
}
