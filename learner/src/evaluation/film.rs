//! What an environment shows during an episode.

use std::sync::Arc;

use actor::env::{Action, Env, EnvError, Outcome, Step, make};
use parking_lot::Mutex;
use shared::array::Array;
use shared::config::EnvConfig;
use shared::env::{Space, Spaces};

/// Frames that are kept of a long episode.
const MOST: usize = 1000;

/// Frames of the first episode of a [`Filmed`] environment, at most 1,000.
#[derive(Clone, Default)]
pub struct Film(Arc<Mutex<Reel>>);

#[derive(Default)]
struct Reel {
    frames: Vec<Array>,
    complete: bool,
}

impl Film {
    fn add(&self, frame: impl FnOnce() -> Option<Array>, is_last: bool) {
        let mut reel = self.0.lock();
        if !reel.complete {
            reel.frames.extend(frame());
            reel.complete = is_last || reel.frames.len() >= MOST;
        }
    }

    /// All frames so far, u8 [T, H, W, C]; none if nothing was shown.
    pub fn frames(&self) -> Option<Array> {
        let reel = self.0.lock();
        (!reel.frames.is_empty()).then(|| Array::stack(&reel.frames.iter().collect::<Vec<_>>()))
    }
}

/// An environment that is filmed: the image that it observes, or else its picture.
pub struct Filmed {
    env: Box<dyn Env>,
    image: Option<String>,
    film: Film,
}

impl Filmed {
    /// Film the first episode of `env`.
    pub fn new(env: Box<dyn Env>, film: Film) -> Self {
        Self { image: image_of(&env.obs_space()), env, film }
    }
}

impl Env for Filmed {
    fn obs_space(&self) -> Spaces {
        self.env.obs_space()
    }

    fn act_space(&self) -> Spaces {
        self.env.act_space()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        let step = self.env.step(action)?;
        let observed = || self.image.as_ref().and_then(|key| step.get(key)).cloned();
        self.film.add(|| observed().or_else(|| self.env.picture()), Outcome::of(&step).is_last);
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

fn image_of(spaces: &Spaces) -> Option<String> {
    let is_image = |(_, space): &(&String, &Space)| space.is_image();
    spaces.iter().find(is_image).map(|(key, _)| key.clone())
}

/// Whether environments of this config have anything to film.
pub fn can_film(config: &EnvConfig) -> Result<bool, EnvError> {
    let env = make(config, 0)?;
    Ok(image_of(&env.obs_space()).is_some() || env.picture().is_some())
}

#[cfg(test)]
mod tests {
    use actor::env::sample_action;
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use shared::config::Config;

    use super::*;

    /// Frames of the first episode while more than that is played.
    fn filmed(observe: &str) -> Option<Array> {
        let sets = [&format!("env.observe={observe}"), "env.task=catch", "vit.decode=features", "env.size=[48, 64]"];
        let config = Config::load(&["dummy"], &sets.map(|set: &str| set)).unwrap().env;
        assert!(can_film(&config).unwrap());
        let film = Film::default();
        let mut env = Filmed::new(make(&config, 3).unwrap(), film.clone());
        let mut draws = Xoshiro256PlusPlus::seed_from_u64(1);
        let (space, mut reset) = (env.act_space(), true);
        for _ in 0..25 {
            let action = Action { reset, values: sample_action(&space, &mut draws) };
            reset = Outcome::of(&env.step(&action).unwrap()).is_last;
        }
        film.frames()
    }

    #[test]
    fn one_whole_episode_is_filmed_whether_or_not_the_agent_sees_it() {
        let seen = filmed("pixels").unwrap();
        assert_eq!(seen.shape, [10, 48, 64, 3]);
        assert_eq!(filmed("vector").unwrap(), seen);
        let frames: Vec<&[u8]> = seen.bytes.chunks_exact(48 * 64 * 3).collect();
        assert!(frames.windows(2).all(|pair| pair[0] != pair[1]), "the ball falls");
    }

    #[test]
    fn a_task_that_draws_nothing_cannot_be_filmed() {
        let config = Config::load(&["tmaze"], &[] as &[&str]).unwrap().env;
        assert!(!can_film(&config).unwrap());
    }
}
