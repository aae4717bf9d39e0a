//! The act loop: one batched policy call per step of all environments.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::array::Array;
use shared::dist::Seeded;
use shared::dreamer::Acted;
use shared::env::{FLAGS, Space, Spaces};
use shared::experience::{DETER, STOCH, UPDATE, VERSION, classes_of};

use crate::env::{Action, Env, EnvError, Outcome, Step};
use crate::meter::{Meter, Part};
use crate::receiver::Policy;
use crate::{ActorError, Features};

/// Environments with their recurrent state.
pub struct ActLoop {
    task: String,
    obs: Spaces,
    envs: Vec<Box<dyn Env>>,
    next: Vec<Action>,
    present: Vec<bool>,
    acted: Option<Acted>,
    features: Arc<Features>,
    draws: Seeded,
}

impl ActLoop {
    /// All environments start with a reset. `obs` is the environments' space.
    pub fn new(
        task: &str,
        obs: Spaces,
        envs: Vec<Box<dyn Env>>,
        features: impl Into<Arc<Features>>,
        seed: u64,
    ) -> Self {
        let features = features.into();
        let next = envs.iter().map(|_| Action::reset()).collect();
        let (present, task) = (vec![true; envs.len()], task.into());
        Self { task, obs, envs, next, present, acted: None, features, draws: Seeded::new(seed) }
    }

    /// From now on no step waits for an environment that is being started again: [`ActLoop::present`] says which took part.
    pub fn leave_behind(mut self) -> Self {
        self.envs.iter_mut().for_each(|env| env.set_patient(false));
        self
    }

    /// Which environments took part in the last step. Rows of the others hold nothing.
    pub fn present(&self) -> &[bool] {
        &self.present
    }

    /// One step of all N environments: what is to be recorded, columns [N, …]; without columns if none of them took part.
    pub fn step(&mut self, policy: &Policy, meter: &mut Meter) -> Result<BTreeMap<String, Array>, ActorError> {
        let steps = meter.time(Part::Env, || self.step_envs())?;
        if !self.present.contains(&true) {
            return Ok(BTreeMap::new());
        }
        let outcomes: Vec<Outcome> = steps.iter().map(Outcome::of).collect();
        for (env, o) in outcomes.iter().enumerate().filter(|(env, _)| self.present[*env]) {
            meter.step(env, o.reward, o.is_first, o.is_last);
        }
        let obs = self.stack(&steps)?;
        let mut columns = meter.time(Part::Features, || self.features.observe(obs))?;
        let n = self.envs.len();
        let acted = self.acted.get_or_insert_with(|| policy.acting.initial(n));
        meter.time(Part::Policy, || policy.acting.step(acted, &columns, &mut self.draws))?;
        let mut actions = acted.actions.clone();
        zero_at_the_end(&mut actions, &outcomes);
        let resets = |row: usize, o: &Outcome| o.is_last || !self.present[row];
        self.next = outcomes.iter().enumerate().map(|(row, o)| action(&actions, row, resets(row, o))).collect();
        columns.extend(actions);
        columns.insert(DETER.into(), acted.deter.clone());
        columns.insert(STOCH.into(), classes_of(&acted.stoch));
        columns.insert(VERSION.into(), Array::u64(&[n], &vec![policy.version; n]));
        columns.insert(UPDATE.into(), Array::u64(&[n], &vec![policy.update; n]));
        Ok(columns)
    }

    fn step_envs(&mut self) -> Result<Vec<Step>, ActorError> {
        for (env, action) in self.envs.iter_mut().zip(&self.next) {
            env.begin(action);
        }
        let mut steps = Vec::with_capacity(self.envs.len());
        for (row, (env, action)) in self.envs.iter_mut().zip(&self.next).enumerate() {
            let step = match env.step(action) {
                Err(EnvError::Restarting { .. }) => None,
                step => Some(step?),
            };
            self.present[row] = step.is_some();
            steps.push(step);
        }
        Ok(steps.into_iter().map(|step| step.unwrap_or_else(|| self.blank())).collect())
    }

    /// In place of an environment that does not take part: the beginning of an episode, so that nothing of its past has an effect.
    fn blank(&self) -> Step {
        let zeros = |(key, space): (&String, &Space)| (key.clone(), Array::zeros(space.dtype, &space.shape));
        let mut step = self.obs.iter().map(zeros).collect();
        Outcome::first().write(&mut step);
        step
    }

    /// Entries of all environments by key, [N, …]; each must be there, in its space's type and shape.
    fn stack(&self, steps: &[Step]) -> Result<BTreeMap<String, Array>, ActorError> {
        let mut columns = BTreeMap::new();
        for (key, space) in &self.obs {
            let mut rows = Vec::with_capacity(steps.len());
            for (env, step) in steps.iter().enumerate() {
                let wrong = |message| ActorError::Entry { env, task: self.task.clone(), key: key.clone(), message };
                let entry = step.get(key).ok_or_else(|| wrong("is missing from a step".into()))?;
                if (entry.dtype, &entry.shape) != (space.dtype, &space.shape) {
                    let found = format!("{:?} {:?}", entry.dtype, entry.shape);
                    let message = format!("is {found}, but its space says {:?} {:?}", space.dtype, space.shape);
                    return Err(wrong(message));
                }
                rows.push(entry);
            }
            columns.insert(key.clone(), Array::stack(&rows));
        }
        debug_assert!(FLAGS.iter().all(|flag| columns.contains_key(*flag)));
        Ok(columns)
    }
}

/// The action after an episode's last step has no effect; zeros go to the environment and to replay.
fn zero_at_the_end(actions: &mut BTreeMap<String, Array>, outcomes: &[Outcome]) {
    for array in actions.values_mut() {
        let bytes = array.bytes.len() / outcomes.len();
        for (row, _) in outcomes.iter().enumerate().filter(|(_, o)| o.is_last) {
            array.bytes[row * bytes..(row + 1) * bytes].fill(0);
        }
    }
}

/// Row `row` of the actions; a reset after the last step.
fn action(actions: &BTreeMap<String, Array>, row: usize, reset: bool) -> Action {
    let one = |(key, array): (&String, &Array)| {
        let bytes = array.bytes.len() / array.shape[0];
        let bytes = array.bytes[row * bytes..(row + 1) * bytes].to_vec();
        (key.clone(), Array { dtype: array.dtype, shape: array.shape[1..].to_vec(), bytes })
    };
    Action { reset, values: actions.iter().map(one).collect() }
}
