//! Steps to chunks, and chunks to the learner under credits. Each is kept until the learner has stored it, so that another learner can
//! have it if this one dies.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::array::Array;
use shared::experience::{Chunk, StreamId};
use shared::wire::chunk::{self, ChunkHead};
use shared::wire::{LinkSender, Numbers, Pause, ToLearner, Waiting, WireError};

use crate::meter::{Meter, Part};
use crate::receiver::{Inbox, Rejoined};
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

/// A chunk that may have to be sent again.
struct Kept {
    head: ChunkHead,
    block: Vec<u8>,
    /// Steps of its stream up to its end.
    end: u64,
    /// Whether it still needs a credit; if not, it was sent, or the learner had died.
    waits: bool,
}

/// Records the steps of one actor's environments.
pub struct Recorder {
    streams: Vec<Stream>,
    length: usize,
    lockstep: bool,
    link: LinkSender<ToLearner>,
    /// Whether the learner was there when something was sent last.
    up: bool,
    /// What the learner has not said to have stored, oldest first.
    kept: VecDeque<Kept>,
    /// Chunks over this link that are kept no more.
    forgotten: u64,
}

impl Recorder {
    /// For N environments, given their streams; chunks hold `length` steps. In lockstep, the credits for a chunk of each
    /// environment are taken before its first step, else when a chunk is sent.
    pub fn new(streams: Vec<StreamId>, length: usize, lockstep: bool, link: LinkSender<ToLearner>) -> Self {
        let stream = |id| Stream { id, first_step: 0, steps: 0, columns: BTreeMap::new() };
        let (streams, length) = (streams.into_iter().map(stream).collect(), length.max(1));
        Self { streams, length, lockstep, link, up: true, kept: VecDeque::new(), forgotten: 0 }
    }

    /// Before a step of all environments: wait for the learner where the config asks for lockstep.
    pub fn begin(&mut self, inbox: &Inbox, meter: &mut Meter) -> Result<(), ActorError> {
        if self.lockstep && self.streams.iter().all(|stream| stream.steps == 0) {
            for _ in 0..self.streams.len() {
                self.wait_for_round(inbox, meter)?;
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

    /// Tell numbers if it is time; without a learner they are collected.
    pub fn report(&mut self, waiting: Waiting, meter: &mut Meter) -> Result<(), ActorError> {
        match self.up.then(|| meter.due(waiting)).flatten() {
            Some(numbers) => self.tell(numbers),
            None => Ok(()),
        }
    }

    /// The last numbers and the last word.
    pub fn goodbye(&self, reason: &str, meter: &mut Meter) -> Result<(), ActorError> {
        let numbers = ToLearner::Numbers(meter.take(Waiting::Nothing));
        self.link.send(&numbers).map_err(wire("reporting numbers"))?;
        let steps = self.streams.iter().map(|stream| stream.first_step).collect();
        self.link.send(&ToLearner::Goodbye { reason: reason.into(), steps }).map_err(wire("saying goodbye"))
    }

    /// Go on with another learner if one has taken over, and forget what is stored.
    pub fn settle(&mut self, inbox: &Inbox) -> Result<(), ActorError> {
        if let Some(rejoined) = inbox.take_rejoined() {
            self.rejoin(rejoined)?;
        }
        while self.forgotten < inbox.stored.load(Ordering::Acquire) && self.kept.pop_front().is_some() {
            self.forgotten += 1;
        }
        Ok(())
    }

    /// What the learner lacks is sent again, under its own credits.
    fn rejoin(&mut self, Rejoined { link, stored }: Rejoined) -> Result<(), ActorError> {
        let stored = |id: &StreamId| stored.get(id.env as usize).copied().unwrap_or(0);
        self.kept.retain(|kept| kept.end > stored(&kept.head.stream));
        for stream in &self.streams {
            let kept = self.kept.iter().find(|kept| kept.head.stream == stream.id);
            let held = kept.map_or(stream.first_step, |kept| kept.head.first_step);
            if stored(&stream.id) < held {
                return Err(ActorError::Lost { env: stream.id.env as usize, stored: stored(&stream.id), held });
            }
        }
        self.kept.iter_mut().for_each(|kept| kept.waits = true);
        (self.link, self.up, self.forgotten) = (link, true, 0);
        Ok(())
    }

    fn send(&mut self, at_least: usize, inbox: &Inbox, meter: &mut Meter) -> Result<(), ActorError> {
        for index in 0..self.streams.len() {
            if self.streams[index].steps < at_least {
                continue;
            }
            let (head, block) = chunk::pack(&self.streams[index].take());
            self.kept.push_back(Kept { head, block, end: self.streams[index].first_step, waits: true });
            if self.lockstep {
                // Told before the chunk, so that the learner knows of an episode when it trains on its last step.
                self.tell(meter.take(Waiting::Nothing))?;
                self.dispatch(self.kept.len() - 1)?;
            }
        }
        self.post(inbox, meter)
    }

    /// Send what waits for credits, as they come.
    fn post(&mut self, inbox: &Inbox, meter: &mut Meter) -> Result<(), ActorError> {
        let mut limit = Duration::ZERO;
        loop {
            self.settle(inbox)?;
            let Some(next) = self.kept.iter().position(|kept| kept.waits) else { return Ok(()) };
            match meter.time(Part::Wait, || inbox.credits.take(limit)) {
                Pause::Ready => self.dispatch(next)?,
                Pause::Closed => return Err(inbox.take_failure().unwrap_or_else(gone)),
                Pause::Later if inbox.paused() => self.report(Waiting::Resume, meter)?,
                Pause::Later => self.report(Waiting::Credits, meter)?,
            }
            limit = PATIENCE;
        }
    }

    fn dispatch(&mut self, index: usize) -> Result<(), ActorError> {
        let Kept { head, block, waits, .. } = &mut self.kept[index];
        *waits = false;
        match self.link.send_bytes(&ToLearner::Chunk(head.clone()), block) {
            Err(WireError::Closed) if !self.lockstep => self.up = false,
            sent => sent.map_err(wire("sending experience"))?,
        }
        Ok(())
    }

    fn tell(&mut self, numbers: Numbers) -> Result<(), ActorError> {
        match self.link.send(&ToLearner::Numbers(numbers)) {
            Err(WireError::Closed) if !self.lockstep => self.up = false,
            sent => sent.map_err(wire("reporting numbers"))?,
        }
        Ok(())
    }

    fn wait_for_round(&mut self, inbox: &Inbox, meter: &mut Meter) -> Result<(), ActorError> {
        let mut limit = Duration::ZERO;
        loop {
            match meter.time(Part::Wait, || inbox.credits.take(limit)) {
                Pause::Ready => return Ok(()),
                Pause::Closed => return Err(inbox.take_failure().unwrap_or_else(gone)),
                Pause::Later if inbox.stopped() => return Ok(()),
                Pause::Later => self.report(Waiting::Credits, meter)?,
            }
            limit = PATIENCE;
        }
    }
}

fn gone() -> ActorError {
    wire("waiting for credits")(WireError::Closed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use shared::wire::{Incoming, LinkReceiver, pair};

    use super::*;

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
        let expected = [(0, 0, vec![0., 1.]), (1, 0, vec![0., -1.]), (1, 2, vec![-2., -3.]), (0, 2, vec![2.])];
        assert_eq!(arrived(&receiver), expected);
    }

    /// Chunks that have arrived: environment, first step, values.
    fn arrived(receiver: &LinkReceiver<ToLearner>) -> Vec<(u32, u64, Vec<f32>)> {
        let incoming = std::iter::from_fn(|| receiver.recv_timeout(Duration::ZERO).ok());
        let chunk = |incoming: Incoming<ToLearner>| match incoming.message {
            ToLearner::Chunk(head) => Some(chunk::unpack(head, incoming.bulk.as_ref()).unwrap()),
            _ => None,
        };
        incoming.filter_map(chunk).map(|c| (c.stream.env, c.first_step, c.columns["x"].to_f32())).collect()
    }

    fn one_stream(link: LinkSender<ToLearner>) -> Recorder {
        Recorder::new(vec![StreamId { actor: 0, generation: 0, env: 0 }], 1, false, link)
    }

    /// The learner dies; what it had allowed is still acted for, and its successor gets what it lacks, under its own credits.
    #[test]
    fn another_learner_gets_what_it_lacks_and_nothing_twice() {
        let (sender, receiver) = pair().unwrap();
        let mut recorder = one_stream(sender);
        let (inbox, mut meter) = (Arc::new(Inbox::default()), Meter::new(1));
        inbox.credits.add(5);
        for step in 0..2 {
            recorder.record(&acts(&[0], &[step as f32]), &inbox, &mut meter).unwrap();
        }
        inbox.stored.store(1, Ordering::Release);
        assert_eq!(arrived(&receiver), [(0, 0, vec![0.]), (0, 1, vec![1.])]);
        drop(receiver);
        for step in 2..5 {
            recorder.record(&acts(&[0], &[step as f32]), &inbox, &mut meter).unwrap();
        }
        assert_eq!(inbox.credits.take(Duration::ZERO), Pause::Later, "no step beyond what was allowed");

        let (sender, receiver) = pair().unwrap();
        let handing = thread::spawn({
            let inbox = inbox.clone();
            // Of the four that were not said to be stored, the learner had stored one more.
            move || inbox.hand_over(Rejoined { link: sender, stored: vec![2] })
        });
        while !handing.is_finished() {
            recorder.settle(&inbox).unwrap();
        }
        assert_eq!(arrived(&receiver), [], "it has allowed nothing yet");
        inbox.credits.add(4);
        recorder.record(&acts(&[0], &[5.]), &inbox, &mut meter).unwrap();
        assert_eq!(arrived(&receiver), [(0, 2, vec![2.]), (0, 3, vec![3.]), (0, 4, vec![4.]), (0, 5, vec![5.])]);
        inbox.stored.store(4, Ordering::Release);
        recorder.settle(&inbox).unwrap();
        assert!(recorder.kept.is_empty());
    }

    #[test]
    fn a_learner_that_has_lost_what_is_kept_no_more_is_not_gone_on_with() {
        let (sender, receiver) = pair().unwrap();
        let mut recorder = one_stream(sender);
        let (inbox, mut meter) = (Inbox::default(), Meter::new(1));
        inbox.credits.add(2);
        for step in 0..2 {
            recorder.record(&acts(&[0], &[step as f32]), &inbox, &mut meter).unwrap();
        }
        inbox.stored.store(1, Ordering::Release);
        recorder.settle(&inbox).unwrap();
        let rejoined = |stored| Rejoined { link: recorder.link.clone(), stored: vec![stored] };
        let (early, right) = (rejoined(0), rejoined(1));
        let error = recorder.rejoin(early).unwrap_err().to_string();
        assert!(error.contains("has 0 steps") && error.contains("from 1 on"), "{error}");
        recorder.rejoin(right).unwrap();
        drop(receiver);
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
