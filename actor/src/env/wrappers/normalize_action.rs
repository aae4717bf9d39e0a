//! Continuous actions in [-1, 1] for the agent, in their own bounds for the environment.

use shared::array::Array;
use shared::env::{Space, Spaces};

use crate::env::action::finite_bounds;
use crate::env::{Action, Env, EnvError, Step};

/// Maps continuous actions from [-1, 1] to the bounds of the environment; entries without bounds pass as they are.
/// Discrete entries pass untouched.
pub struct NormalizeAction<E> {
    env: E,
    inner: Spaces,
}

impl<E: Env> NormalizeAction<E> {
    /// Let the agent act in [-1, 1].
    pub fn new(env: E) -> Self {
        let inner = env.act_space();
        Self { env, inner }
    }

    fn scaled(&self, action: &Action) -> Action {
        let mut action = action.clone();
        if action.reset {
            return action;
        }
        for (key, space) in self.inner.iter().filter(|(_, space)| !space.is_discrete()) {
            let (low, high) = finite_bounds(space);
            if let Some(array) = action.values.get_mut(key) {
                let scaled = array.to_f32().into_iter().map(|x| low + (x + 1.0) / 2.0 * (high - low));
                *array = Array::f32(&array.shape, &scaled.collect::<Vec<_>>());
            }
        }
        action
    }
}

impl<E: Env> Env for NormalizeAction<E> {
    fn obs_space(&self) -> Spaces {
        self.env.obs_space()
    }

    fn act_space(&self) -> Spaces {
        let outer = |space: &Space| match space.is_discrete() {
            true => space.clone(),
            false => Space::bounded(&space.shape, -1.0, 1.0),
        };
        self.inner.iter().map(|(key, space)| (key.clone(), outer(space))).collect()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        self.env.step(&self.scaled(action))
    }

    fn begin(&mut self, action: &Action) {
        self.env.begin(&self.scaled(action))
    }

    fn set_patient(&mut self, patient: bool) {
        self.env.set_patient(patient)
    }

    fn picture(&self) -> Option<Array> {
        self.env.picture()
    }
}
