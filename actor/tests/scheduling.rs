//! Environments that step apart: a slow one holds up nobody, streams stay whole, and each environment keeps what it carries.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use actor::env::{Action, Env, EnvError, Interrupt, Outcome, Step, make_all};
use actor::{ActLoop, Acts, Features, Meter, Policy, Scheduler, agent_spaces};
use crossbeam::channel::{Receiver, Sender, unbounded};
use proptest::prelude::*;
use shared::array::Array;
use shared::config::Config;
use shared::dist::Seeded;
use shared::dreamer::Acting;
use shared::env::{Space, Spaces};
use shared::experience::{DETER, STOCH, VERSION, classes_of, one_hot_of};
use shared::params::{Create, Params};
use shared::wire::Waiting;

const LENGTH: f32 = 6.0;

/// Takes a step when it may, and shows its number, how many steps it has taken, how many in this episode, and its last action.
struct Gated {
    index: usize,
    leave: Receiver<()>,
    taken: f32,
    length: f32,
    gone: Arc<AtomicUsize>,
}

impl Env for Gated {
    fn obs_space(&self) -> Spaces {
        [("vector".to_string(), Space::vector(&[4]))].into_iter().chain(Outcome::spaces()).collect()
    }

    fn act_space(&self) -> Spaces {
        [("action".into(), Space::discrete(&[], 5))].into_iter().collect()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        // Where nobody can give leave any more, none is needed.
        let _ = self.leave.recv();
        self.taken += 1.0;
        self.length = if action.reset { 0.0 } else { self.length + 1.0 };
        let last = if action.reset { -1.0 } else { action.values["action"].to_f32()[0] };
        let outcome = match action.reset {
            true => Outcome::first(),
            false => Outcome { is_last: self.length == LENGTH, reward: 1.0, ..Outcome::default() },
        };
        let vector = Array::f32(&[4], &[self.index as f32, self.taken, self.length, last]);
        let mut step = Step::from([("vector".to_string(), vector)]);
        outcome.write(&mut step);
        Ok(step)
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        self.gone.fetch_add(1, Ordering::Relaxed);
    }
}

/// A policy for environments of these spaces.
fn policy(obs: &Spaces, act: &Spaces, version: u64) -> Policy {
    let config = Config::load(&["dummy"], &[] as &[&str]).unwrap();
    let obs = agent_spaces(obs, &config.vit, None).unwrap();
    let acting = Acting::new(&config.acting(), &obs, act, &Params::<Create>::new(7)).unwrap();
    Policy { version, update: 10 * version, taken: Instant::now(), acting }
}

/// Gated environments, apart, and all that was recorded of each.
struct Tested {
    // Gone first, so that no thread waits for leave when the act loop ends.
    leave: Vec<Sender<()>>,
    acts: ActLoop,
    policies: [Policy; 2],
    meter: Meter,
    streams: Vec<Vec<BTreeMap<String, Array>>>,
    gone: Arc<AtomicUsize>,
}

impl Tested {
    fn new(count: usize, wait_for: usize) -> Self {
        let gone = Arc::<AtomicUsize>::default();
        let (leave, gates): (Vec<_>, Vec<_>) = (0..count).map(|_| unbounded()).unzip();
        let gated = |(index, leave)| Gated { index, leave, taken: 0.0, length: 0.0, gone: gone.clone() };
        let envs: Vec<Box<dyn Env>> =
            gates.into_iter().enumerate().map(|gate| Box::new(gated(gate)) as Box<dyn Env>).collect();
        let (obs, act) = (envs[0].obs_space(), envs[0].act_space());
        let policies = [1, 2].map(|version| policy(&obs, &act, version));
        let scheduler = Scheduler::apart("gated", envs, wait_for, Interrupt::default()).unwrap();
        let features = Features::new(None, obs.clone());
        let acts = ActLoop::new("gated", obs, scheduler, features, 3);
        let streams = vec![Vec::new(); count];
        Self { leave, acts, policies, meter: Meter::new(count), streams, gone }
    }

    /// Give these environments leave for one step each.
    fn allow(&self, envs: impl IntoIterator<Item = usize>) {
        envs.into_iter().for_each(|env| self.leave[env].send(()).unwrap());
    }

    /// One call of the policy; which environments it was for.
    fn act(&mut self, which: usize) -> Vec<usize> {
        let policy = &self.policies[which];
        while !self.acts.wait(&mut self.meter).unwrap() {}
        self.meter.acts(policy, self.acts.ready(), 0, 0);
        let Acts { envs, columns } = self.acts.act(policy, &mut self.meter).unwrap();
        assert_eq!(columns[VERSION].values::<u64>(), vec![policy.version; envs.len()]);
        for (row, env) in envs.iter().enumerate() {
            let one = |(key, all): (&String, &Array)| {
                let mut array = all.clone();
                array.gather(all, &[row]);
                (key.clone(), array)
            };
            self.streams[*env].push(columns.iter().map(one).collect());
        }
        envs
    }

    /// Every step of a stream follows from the one before: the environment's, and the recurrent state.
    fn check(&self) {
        for (index, stream) in self.streams.iter().enumerate() {
            for (t, step) in stream.iter().enumerate() {
                let [env, taken, ..] = step["vector"].to_f32()[..] else { panic!("another vector") };
                assert_eq!((env, taken), (index as f32, t as f32 + 1.0));
            }
            for pair in stream.windows(2) {
                let [before, now] = pair else { continue };
                let first = now["is_first"].to_f32()[0] != 0.0;
                assert_eq!(first, before["is_last"].to_f32()[0] != 0.0);
                assert!(first || before["action"].to_f32()[0] == now["vector"].to_f32()[3], "its own action");
                assert_eq!(self.next_deter(before, now), now[DETER].to_f32(), "environment {index}");
            }
        }
    }

    /// The recurrent state that one environment alone has after these two steps; no noise is in it.
    fn next_deter(&self, before: &BTreeMap<String, Array>, now: &BTreeMap<String, Array>) -> Vec<f32> {
        let acting = &self.policies[0].acting;
        let mut acted = acting.initial(1);
        acted.actions.insert("action".into(), before["action"].clone());
        acted.deter = before[DETER].clone();
        acted.stoch = one_hot_of(&before[STOCH], acted.stoch.shape[2]);
        acting.step(&mut acted, now, &mut Seeded::new(0)).unwrap();
        acted.deter.to_f32()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn streams_stay_whole_whichever_environments_are_ready(
        wait_for in 1usize..4,
        rounds in proptest::collection::vec(proptest::collection::btree_set(0usize..4, 1..=4), 1..40),
    ) {
        let mut tested = Tested::new(4, wait_for);
        let mut may = BTreeSet::new();
        let mut allowed = [0; 4];
        for (round, envs) in rounds.iter().enumerate() {
            let new: Vec<usize> = envs.difference(&may).copied().collect();
            new.iter().for_each(|env| allowed[*env] += 1);
            may.extend(&new);
            tested.allow(new);
            while may.len() >= wait_for {
                let acted = tested.act(round % 2);
                prop_assert!(acted.len() >= wait_for && acted.iter().all(|env| may.remove(env)));
            }
        }
        tested.check();
        for (env, stream) in tested.streams.iter().enumerate() {
            prop_assert_eq!(stream.len() + usize::from(may.contains(&env)), allowed[env]);
        }
    }
}

#[test]
fn one_that_never_answers_holds_up_nobody_and_shows_in_the_numbers() {
    let mut tested = Tested::new(3, 2);
    tested.allow([0, 1, 2]);
    let mut acted = BTreeSet::new();
    while acted.len() < 3 {
        acted.extend(tested.act(0));
        // Two make a call, so that the one that was left alone needs another.
        tested.allow((acted.len() == 2).then(|| *acted.first().unwrap()));
    }
    let before = tested.streams.iter().map(Vec::len).collect::<Vec<_>>();
    tested.meter.take(Waiting::Nothing);
    for _ in 0..50 {
        tested.allow([0, 2]);
        let mut acted = tested.act(1);
        acted.sort_unstable();
        assert_eq!(acted, [0, 2]);
    }
    let numbers = tested.meter.take(Waiting::Nothing);
    assert_eq!((numbers.calls, numbers.steps, numbers.flight, numbers.slowest), (50, 100, 10, 0.0));
    assert_eq!(tested.streams[1].len(), before[1]);
    tested.check();
    // It goes on where it stopped, and that its action is from an older snapshot is told, once.
    tested.allow([1, 2]);
    tested.act(1);
    assert_eq!(tested.meter.take(Waiting::Nothing).flight, 10);
    assert_eq!(tested.streams[1].len(), before[1] + 1);
    tested.check();
}

#[test]
fn all_threads_have_ended_with_the_act_loop() {
    let tested = Tested::new(3, 1);
    tested.allow([0]);
    let gone = tested.gone.clone();
    drop(tested);
    assert_eq!(gone.load(Ordering::Relaxed), 3);
}

/// Fails in its second step in the worst way.
struct Panics(Gated);

impl Env for Panics {
    fn obs_space(&self) -> Spaces {
        self.0.obs_space()
    }

    fn act_space(&self) -> Spaces {
        self.0.act_space()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        assert!(action.reset, "the board is upside down");
        self.0.step(action)
    }
}

#[test]
fn a_panic_is_an_error_with_the_environments_number() {
    let env = |index| Gated { index, leave: unbounded().1, taken: 0.0, length: 0.0, gone: Arc::default() };
    let envs: Vec<Box<dyn Env>> = vec![Box::new(env(0)), Box::new(Panics(env(1)))];
    let (obs, act) = (envs[0].obs_space(), envs[0].act_space());
    let policy = policy(&obs, &act, 1);
    let scheduler = Scheduler::apart("gated", envs, 1, Interrupt::default()).unwrap();
    let mut acts = ActLoop::new("gated", obs.clone(), scheduler, Features::new(None, obs), 3);
    let error = loop {
        if let Err(error) = acts.step(&policy, &mut Meter::new(2)) {
            break error.to_string();
        }
    };
    assert!(error.contains("environment 1 (`gated`)") && error.contains("the board is upside down"), "{error}");
}

/// What all environments together have always given: each stepped once, then one call of the policy for all rows.
#[test]
fn environments_together_are_one_batch_in_their_order() {
    let config = Config::load(&["dummy"], &["env.task=dummy_mixed"]).unwrap();
    let envs = || make_all(&config.env, &[1, 2, 3], &Interrupt::default()).unwrap();
    let mut alone = envs();
    let (obs, act) = (alone[0].obs_space(), alone[0].act_space());
    let policy = policy(&obs, &act, 1);
    let mut acts = ActLoop::new("dummy_mixed", obs.clone(), Scheduler::together(envs()), Features::new(None, obs), 5);
    let (mut acted, mut draws, mut meter) = (policy.acting.initial(3), Seeded::new(5), Meter::new(3));
    let mut next = vec![Action::reset(); 3];
    for _ in 0..250 {
        let steps: Vec<Step> = alone.iter_mut().zip(&next).map(|(env, action)| env.step(action).unwrap()).collect();
        let stacked = |key: &String| Array::stack(&steps.iter().map(|step| &step[key]).collect::<Vec<_>>());
        let mut expected: BTreeMap<String, Array> = steps[0].keys().map(|key| (key.clone(), stacked(key))).collect();
        policy.acting.step(&mut acted, &expected, &mut draws).unwrap();
        let mut actions = acted.actions.clone();
        for (row, step) in steps.iter().enumerate() {
            let reset = Outcome::of(step).is_last;
            if reset {
                actions.values_mut().for_each(|array| array.row_mut(row).fill(0));
            }
            let one =
                |array: &Array| Array { shape: array.shape[1..].into(), bytes: array.row(row).into(), ..array.clone() };
            next[row] =
                Action { reset, values: actions.iter().map(|(key, array)| (key.clone(), one(array))).collect() };
        }
        expected.extend(actions);
        expected.extend([(DETER.into(), acted.deter.clone()), (STOCH.into(), classes_of(&acted.stoch))]);
        let Acts { envs, columns } = acts.step(&policy, &mut meter).unwrap();
        assert_eq!(envs, [0, 1, 2]);
        assert!(expected.iter().all(|(key, array)| columns[key] == *array));
    }
}
