//! Experience that was recorded elsewhere, into the replay of a run that starts: `replay.import`.

mod entry;
mod error;
mod file;
mod folder;
mod npy;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use actor::Features;
use shared::array::{Array, DType};
use shared::config::Config;
use shared::env::FLAGS;
use shared::experience::{Chunk, DETER, STOCH, StreamId, UPDATE, VERSION, classes_of};

use crate::RunError;
use crate::frozen::Trunk;
use crate::ingest::date_latents;
use crate::process::RunSpaces;
use crate::replay::{IMPORTED, Replay};

pub use error::OfflineError;
use file::{Notes, Steps, Wanted, read};
use folder::{Source, streams};

/// Steps that are put into replay at once: how many frames the ViT gets together.
const PIECE: usize = 64;

/// Put the steps of the folder that the config names into an empty replay, with what the frozen ViT sees in their frames. All of them are
/// checked before the first is put there. Returns what people should know.
pub fn import(
    config: &Config,
    spaces: &RunSpaces,
    trunk: Option<&Trunk>,
    threads: usize,
    replay: &Replay,
) -> Result<Vec<String>, RunError> {
    let folder = Path::new(&config.replay.import);
    let streams = streams(folder)?;
    let wanted = Wanted { obs: &spaces.env, act: &spaces.act };
    let (mut notes, mut steps) = (Notes::default(), 0);
    for stream in &streams {
        walk(stream, &wanted, &mut notes, &mut |read| {
            steps += read.flags[0].len();
            Ok(())
        })?;
    }
    let encoder = trunk.map(|trunk| trunk.features(&config.vit, threads)).transpose()?;
    let features = Features::new(encoder, spaces.agent.clone());
    for (index, stream) in streams.iter().enumerate() {
        let id = StreamId { actor: IMPORTED, generation: 0, env: index as u32 };
        let mut inserter = Inserter { config, features: &features, replay, id, next: 0 };
        walk(stream, &wanted, &mut Notes::default(), &mut |read| inserter.insert(read))?;
        replay.close(id);
    }
    let items = replay.stats().items;
    if items == 0 {
        let what = format!(
            "none of its {} streams has the {} steps in a row that a sample takes; a lower agent.batch_length takes fewer",
            streams.len(),
            config.agent.sample_length()
        );
        return Err(OfflineError::folder(folder, what).into());
    }
    let first = format!(
        "imported {steps} steps in {} streams from {}: {items} to start samples at",
        streams.len(),
        folder.display()
    );
    Ok([vec![first], notes.told()].concat())
}

/// Steps of a stream, file by file, once it is known how each goes on.
fn walk(
    stream: &[Source],
    wanted: &Wanted,
    notes: &mut Notes,
    take: &mut dyn FnMut(Steps) -> Result<(), RunError>,
) -> Result<(), RunError> {
    let mut before: Option<Steps> = None;
    for source in stream {
        let mut steps = read(source, wanted, notes)?;
        mend(&mut steps, before.as_mut(), source.begins, notes)?;
        if let Some(before) = before.replace(steps) {
            take(before)?;
        }
    }
    before.map_or(Ok(()), take)
}

/// See that episodes begin and end where they say. One that is followed by another without its end was abandoned: it ends there, cut.
fn mend(steps: &mut Steps, before: Option<&mut Steps>, begins: bool, notes: &mut Notes) -> Result<(), OfflineError> {
    let path = steps.path.clone();
    let [is_first, is_last, is_terminal] = &mut steps.flags;
    if begins && is_first[0] == 0 {
        is_first[0] = 1;
        notes.amid += 1;
    }
    let mut ends = before.map(|before| &mut before.flags[1]);
    let mut end = ends.as_mut().and_then(|ends| ends.last_mut());
    for (step, (first, last)) in is_first.iter().zip(is_last.iter_mut()).enumerate() {
        match (end, *first != 0) {
            (Some(end), true) if *end == 0 => {
                *end = 1;
                notes.abandoned += 1;
            }
            (Some(end), false) if *end != 0 => {
                let what = "is 0 after a step with `is_last`, must be 1".into();
                return Err(OfflineError::Entry { path, key: FLAGS[0].into(), step: Some(step), what });
            }
            _ => {}
        }
        end = Some(last);
    }
    match is_terminal.iter().zip(is_last).position(|(terminal, last)| *terminal != 0 && *last == 0) {
        None => Ok(()),
        Some(step) => {
            let what = "is 1 without `is_last`".into();
            Err(OfflineError::Entry { path, key: FLAGS[2].into(), step: Some(step), what })
        }
    }
}

impl Notes {
    /// In words.
    fn told(&self) -> Vec<String> {
        let names = |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        let lines = [
            (
                !self.ignored.is_empty(),
                format!("the run has no use for these arrays, ignored: {}", names(&self.ignored)),
            ),
            (
                self.amid > 0,
                format!("{} streams start amid an episode, whose first step there counts as its beginning", self.amid),
            ),
            (
                self.abandoned > 0,
                format!("{} episodes are followed by another without `is_last`; they count as cut", self.abandoned),
            ),
            (
                self.shifted > 0,
                format!(
                    "in {} files actions stand at the step that they led to; they were moved one step back",
                    self.shifted
                ),
            ),
            (
                !self.beyond.is_empty(),
                format!("beyond the [-1, 1] in which agents act goes {}: is it scaled to that?", names(&self.beyond)),
            ),
        ];
        lines.into_iter().filter(|(so, _)| *so).map(|(_, line)| format!("replay.import: {line}")).collect()
    }
}

/// Puts the steps of one stream into replay.
struct Inserter<'a> {
    config: &'a Config,
    features: &'a Features,
    replay: &'a Replay,
    id: StreamId,
    next: u64,
}

impl Inserter<'_> {
    fn insert(&mut self, steps: Steps) -> Result<(), RunError> {
        let Steps { flags, mut columns, .. } = steps;
        let count = flags[0].len();
        columns.extend(FLAGS.into_iter().zip(flags).map(|(key, flag)| (key.to_string(), Array::u8(&[count], &flag))));
        for first in (0..count).step_by(PIECE) {
            let piece = first..(first + PIECE).min(count);
            let columns = columns.iter().map(|(key, array)| (key.clone(), array.rows(piece.clone()))).collect();
            let mut columns = self.features.observe(columns)?;
            self.complete(&mut columns, piece.len());
            let mut chunk = Chunk { stream: self.id, first_step: self.next, columns };
            date_latents(self.replay, &mut chunk);
            self.next += self.replay.insert(&chunk)?.steps as u64;
            self.replay.unload()?;
        }
        Ok(())
    }

    /// What an actor adds to its steps. Latents are those before an episode, until training writes others.
    fn complete(&self, columns: &mut BTreeMap<String, Array>, count: usize) {
        let rssm = &self.config.agent.dynamics.rssm;
        let nothing = Array::zeros(DType::F32, &[count, rssm.stoch, rssm.classes]);
        columns.insert(DETER.into(), Array::zeros(DType::F32, &[count, rssm.deter]));
        columns.insert(STOCH.into(), classes_of(&nothing));
        for stamp in [VERSION, UPDATE] {
            columns.insert(stamp.into(), Array::zeros(DType::U64, &[count]));
        }
    }
}
