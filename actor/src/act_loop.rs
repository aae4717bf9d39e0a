//! The act loop: one batched policy call for all environments that are ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::array::Array;
use shared::dist::Seeded;
use shared::dreamer::Acted;
use shared::env::{FLAGS, Spaces};
use shared::experience::{DETER, STOCH, UPDATE, VERSION, classes_of};

use crate::env::{Action, Outcome};
use crate::meter::{Meter, Part};
use crate::receiver::Policy;
use crate::scheduler::{Ready, Scheduler};
use crate::{ActorError, Features};

/// Environments with their recurrent state.
pub struct ActLoop {
    task: String,
    obs: Spaces,
    scheduler: Scheduler,
    ready: Vec<Ready>,
    /// What all environments carry from step to step.
    carried: Option<Acted>,
    /// What those carry that act while others do not.
    some: Option<Acted>,
    /// Update of the snapshot that chose each environment's last action.
    chosen: Vec<Option<u64>>,
    features: Arc<Features>,
    draws: Seeded,
}

/// One step of some environments, to be recorded.
pub struct Acts {
    /// Indices of these K environments.
    pub envs: Vec<usize>,
    /// Rows in their order, [K, …].
    pub columns: BTreeMap<String, Array>,
}

impl ActLoop {
    /// All environments start with a reset. `obs` is their space, `task` the name that errors carry.
    pub fn new(task: &str, obs: Spaces, scheduler: Scheduler, features: impl Into<Arc<Features>>, seed: u64) -> Self {
        let (features, draws, chosen) = (features.into(), Seeded::new(seed), vec![None; scheduler.count()]);
        Self { task: task.into(), obs, scheduler, ready: vec![], carried: None, some: None, chosen, features, draws }
    }

    /// Observations go through these from now on.
    pub fn see_through(&mut self, features: Features) {
        self.features = Arc::new(features);
    }

    /// Wait until enough environments are ready to be acted for; false where that takes long, and it is time to look around.
    pub fn wait(&mut self, meter: &mut Meter) -> Result<bool, ActorError> {
        Ok(meter.time(Part::Env, || self.scheduler.wait(&mut self.ready))?)
    }

    /// How many environments are ready.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Wait, however long it takes, and act.
    pub fn step(&mut self, policy: &Policy, meter: &mut Meter) -> Result<Acts, ActorError> {
        while !self.wait(meter)? {}
        self.act(policy, meter)
    }

    /// Choose actions for all environments that are ready, of which there must be one.
    pub fn act(&mut self, policy: &Policy, meter: &mut Meter) -> Result<Acts, ActorError> {
        let ready = std::mem::take(&mut self.ready);
        let envs: Vec<usize> = ready.iter().map(|ready| ready.env).collect();
        let outcomes: Vec<Outcome> = ready.iter().map(|ready| Outcome::of(&ready.step)).collect();
        for (env, o) in envs.iter().zip(&outcomes) {
            meter.step(*env, o.reward, o.is_first, o.is_last);
        }
        let obs = self.stack(&ready)?;
        let mut columns = meter.time(Part::Features, || self.features.observe(obs))?;
        let acted = meter.time(Part::Policy, || self.choose(policy, &envs, &columns))?;
        let (mut actions, deter, stoch) = (acted.actions.clone(), acted.deter.clone(), classes_of(&acted.stoch));
        if let Some(at) = deter.first_non_finite() {
            let env = envs[at * envs.len() / deter.elements()];
            return Err(ActorError::NotFinite { env, version: policy.version });
        }
        zero_at_the_end(&mut actions, &outcomes);
        for (row, (ready, outcome)) in ready.iter().zip(&outcomes).enumerate() {
            self.scheduler.act(ready.env, action(&actions, row, outcome.is_last));
            let before = self.chosen[ready.env].replace(policy.update).unwrap_or(policy.update);
            meter.chosen(ready.since.elapsed(), policy.update.saturating_sub(before));
        }
        let k = envs.len();
        columns.extend(actions);
        columns.insert(DETER.into(), deter);
        columns.insert(STOCH.into(), stoch);
        columns.insert(VERSION.into(), Array::u64(&[k], &vec![policy.version; k]));
        columns.insert(UPDATE.into(), Array::u64(&[k], &vec![policy.update; k]));
        Ok(Acts { envs, columns })
    }

    /// One call of the policy for these environments; rows are in their order.
    fn choose(&mut self, policy: &Policy, envs: &[usize], obs: &BTreeMap<String, Array>) -> Result<&Acted, ActorError> {
        let all = self.scheduler.count();
        let carried = self.carried.get_or_insert_with(|| policy.acting.initial(all));
        if envs.iter().copied().eq(0..all) {
            policy.acting.step(carried, obs, &mut self.draws)?;
            return Ok(carried);
        }
        let some = self.some.get_or_insert_with(|| policy.acting.initial(all));
        some.gather(carried, envs);
        policy.acting.step(some, obs, &mut self.draws)?;
        some.scatter(carried, envs);
        Ok(some)
    }

    /// Entries of environments by key, [K, …]; each must be there, in its space's type and shape.
    fn stack(&self, ready: &[Ready]) -> Result<BTreeMap<String, Array>, ActorError> {
        let mut columns = BTreeMap::new();
        for (key, space) in &self.obs {
            let mut rows = Vec::with_capacity(ready.len());
            for Ready { env, step, .. } in ready {
                let wrong =
                    |message| ActorError::Entry { env: *env, task: self.task.clone(), key: key.clone(), message };
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
        let ends = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_last);
        ends.for_each(|(row, _)| array.row_mut(row).fill(0));
    }
}

/// Row `row` of the actions; a reset after the last step.
fn action(actions: &BTreeMap<String, Array>, row: usize, reset: bool) -> Action {
    let one = |(key, array): (&String, &Array)| {
        let (shape, bytes) = (array.shape[1..].to_vec(), array.row(row).to_vec());
        (key.clone(), Array { dtype: array.dtype, shape, bytes })
    };
    Action { reset, values: actions.iter().map(one).collect() }
}
