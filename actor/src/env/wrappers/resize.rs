//! Images of another size.

use shared::array::Array;
use shared::env::{Space, Spaces};

use crate::env::{Action, Env, EnvError, Step};

/// Resizes every image to one height and width, with a triangle filter that averages when it shrinks.
pub struct Resize<E> {
    env: E,
    size: [usize; 2],
    keys: Vec<String>,
}

impl<E: Env> Resize<E> {
    /// Resize the images of `env` that are not of `size` (height, width) already.
    pub fn new(env: E, size: [usize; 2]) -> Self {
        let other = |space: &Space| space.is_image() && space.shape[..2] != size;
        let keys = env.obs_space().into_iter().filter(|(_, space)| other(space)).map(|(key, _)| key).collect();
        Self { env, size, keys }
    }
}

impl<E: Env> Env for Resize<E> {
    fn obs_space(&self) -> Spaces {
        let mut spaces = self.env.obs_space();
        for key in &self.keys {
            if let Some(space) = spaces.get_mut(key) {
                *space = Space::image(self.size[0], self.size[1], space.shape[2]);
            }
        }
        spaces
    }

    fn act_space(&self) -> Spaces {
        self.env.act_space()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        let mut step = self.env.step(action)?;
        for key in &self.keys {
            if let Some(image) = step.get_mut(key) {
                *image = resize(image, self.size);
            }
        }
        Ok(step)
    }

    fn begin(&mut self, action: &Action) {
        self.env.begin(action)
    }

    fn set_patient(&mut self, patient: bool) {
        self.env.set_patient(patient)
    }

    fn picture(&self) -> Option<Array> {
        self.env.picture()
    }
}

/// Resize u8 [height, width, channels], one axis after the other.
fn resize(image: &Array, [height, width]: [usize; 2]) -> Array {
    let [h, w, c] = [image.shape[0], image.shape[1], image.shape[2]];
    let rows = resample(&image.to_f32(), 1, h, height, w * c);
    let all = resample(&rows, height, w, width, c);
    let bytes: Vec<u8> = all.into_iter().map(|x| x.round() as u8).collect();
    Array::u8(&[height, width, c], &bytes)
}

/// Resample the middle axis of [outer, from, inner] to `to` entries.
fn resample(values: &[f32], outer: usize, from: usize, to: usize, inner: usize) -> Vec<f32> {
    let mut out = vec![0.0; outer * to * inner];
    for (target, taps) in (0..to).map(|t| (t, taps(t, from, to))) {
        for o in 0..outer {
            let row = &mut out[(o * to + target) * inner..][..inner];
            for &(source, weight) in &taps {
                let line = &values[(o * from + source) * inner..][..inner];
                row.iter_mut().zip(line).for_each(|(x, y)| *x += weight * y);
            }
        }
    }
    out
}

/// Sources and weights (sum 1) of one target entry.
fn taps(target: usize, from: usize, to: usize) -> Vec<(usize, f32)> {
    let scale = from as f32 / to as f32;
    let reach = scale.max(1.0);
    let centre = (target as f32 + 0.5) * scale;
    let first = (centre - reach).max(0.0) as usize;
    let last = ((centre + reach).ceil() as usize).min(from);
    let weight = |s: usize| (1.0 - (s as f32 + 0.5 - centre).abs() / reach).max(0.0);
    let total: f32 = (first..last).map(weight).sum();
    (first..last).map(|s| (s, weight(s) / total)).collect()
}
