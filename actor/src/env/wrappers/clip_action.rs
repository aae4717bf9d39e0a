//! Continuous actions brought back into their bounds.

use shared::array::Array;
use shared::env::Spaces;

use crate::env::action::finite_bounds;
use crate::env::{Action, Env, EnvError, Step};

/// Clips continuous actions to the bounds of the space, since policies sample beyond them. What is recorded is the
/// caller's action, unclipped.
pub struct ClipAction<E> {
    env: E,
    spaces: Spaces,
}

impl<E: Env> ClipAction<E> {
    /// Clip to the action space of `env`.
    pub fn new(env: E) -> Self {
        let spaces = env.act_space();
        Self { env, spaces }
    }

    fn clipped(&self, action: &Action) -> Action {
        let mut action = action.clone();
        for (key, space) in self.spaces.iter().filter(|(_, space)| !space.is_discrete()) {
            let (low, high) = finite_bounds(space);
            if let Some(array) = action.values.get_mut(key) {
                let clipped: Vec<_> = array.to_f32().into_iter().map(|x| x.clamp(low, high)).collect();
                *array = Array::f32(&array.shape, &clipped);
            }
        }
        action
    }
}

impl<E: Env> Env for ClipAction<E> {
    fn obs_space(&self) -> Spaces {
        self.env.obs_space()
    }

    fn act_space(&self) -> Spaces {
        self.spaces.clone()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        self.env.step(&self.clipped(action))
    }

    fn begin(&mut self, action: &Action) {
        self.env.begin(&self.clipped(action))
    }

    fn set_patient(&mut self, patient: bool) {
        self.env.set_patient(patient)
    }

    fn picture(&self) -> Option<Array> {
        self.env.picture()
    }
}
