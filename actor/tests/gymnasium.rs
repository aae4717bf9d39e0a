//! Environments of Gymnasium in real Python processes: what they show and take, and what comes of their faults.

#![allow(clippy::unwrap_used)]

// Not all of the Pythons there are of use here.
#[allow(dead_code)]
#[path = "../../tests/python.rs"]
mod python;

use std::path::Path;
use std::time::{Duration, Instant};

use actor::env::{Action, Env, EnvError, Interrupt, Outcome, Step, make, make_all, sample_action};
use actor::{ActLoop, Acts, Features, Meter, Policy, Scheduler, agent_spaces};
use python::{bare, python};
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use shared::array::{Array, DType};
use shared::config::{Config, EnvConfig};
use shared::dreamer::Acting;
use shared::env::Spaces;
use shared::params::{Create, Params};

/// Longest wait for anything; an environment's own time is longer, so that what ends is noticed by its end.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(task: &str, sets: &[&str]) -> EnvConfig {
    let (task, python) = (format!("env.task=gymnasium:{task}"), format!("env.python={}", python()));
    let own = [task.as_str(), &python, "env.timeout=1e6", "env.size=[48, 32]"];
    let sets: Vec<&str> = own
        .into_iter()
        .filter(|own| !sets.iter().any(|set| key(set) == key(own)))
        .collect::<Vec<_>>()
        .into_iter()
        .chain(sets.iter().copied())
        .collect();
    Config::load(&["dummy"], &sets).unwrap().env
}

fn key(set: &str) -> &str {
    set.split('=').next().unwrap()
}

fn error(config: &EnvConfig) -> String {
    make(config, 0).map(|_| ()).unwrap_err().to_string()
}

fn discrete(class: i32) -> Action {
    Action::act([("action".to_string(), Array::i32(&[], &[class]))].into())
}

#[test]
fn every_space_becomes_a_named_array() {
    let env = &mut make(&config("lucid_test_envs:Mixed-v0", &["env.kwargs.gray=true"]), 0).unwrap();
    let shapes = |spaces: Spaces| -> Vec<(String, DType, Vec<usize>, Option<usize>)> {
        spaces.into_iter().map(|(key, s)| (key, s.dtype, s.shape, s.classes)).collect()
    };
    let expected = [
        ("camera/left", DType::U8, vec![48, 32, 3], None),
        ("camera/gray", DType::U8, vec![48, 32, 1], None),
        ("state/0", DType::F32, vec![3], None),
        ("state/1", DType::I32, vec![], Some(4)),
        ("deep", DType::F32, vec![8], None),
        ("multi", DType::I32, vec![2], Some(5)),
        ("bits", DType::I32, vec![4], Some(2)),
        ("echo", DType::F32, vec![9], None),
    ];
    let mut seen = shapes(env.obs_space());
    seen.retain(|(key, ..)| !shared::env::FLAGS.contains(&key.as_str()));
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let mut expected = expected.map(|(key, dtype, shape, classes)| (key.to_string(), dtype, shape, classes)).to_vec();
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(seen, expected);

    let first = env.step(&Action::reset()).unwrap();
    assert_eq!(Outcome::of(&first), Outcome::first());
    assert!(first["camera/left"].bytes.iter().all(|&byte| byte == 7));
    assert!(first["camera/gray"].bytes.iter().enumerate().all(|(i, &byte)| byte == i as u8));
    assert_eq!(first["state/0"].to_f32(), [0.5, -2.0, 1e3]);
    assert_eq!(first["state/1"].to_f32(), [0.0]);
    assert_eq!(first["deep"].to_f32(), [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875]);
    assert_eq!((first["multi"].to_f32(), first["bits"].to_f32()), (vec![2.0, 4.0], vec![1.0, 0.0, 0.0, 1.0]));
}

#[test]
fn actions_reach_the_environment_within_its_own_bounds() {
    let env = &mut make(&config("lucid_test_envs:Mixed-v0", &[]), 0).unwrap();
    env.step(&Action::reset()).unwrap();
    let values = [
        ("action/arm", Array::f32(&[2], &[-0.5, 3.0])),
        ("action/count", Array::f32(&[1], &[0.6])),
        ("action/key", Array::i32(&[], &[2])),
        ("action/pair/0/0", Array::i32(&[], &[1])),
        ("action/pair/0/1", Array::i32(&[], &[3])),
        ("action/pair/1", Array::i32(&[2], &[0, 2])),
        ("action/flag", Array::i32(&[1], &[1])),
    ];
    let mut keys: Vec<String> = env.act_space().into_keys().collect();
    keys.sort();
    let mut expected = values.clone().map(|(key, _)| key.to_string());
    expected.sort();
    assert_eq!(keys, expected);
    let step = env.step(&Action::act(values.map(|(key, value)| (key.to_string(), value)).into())).unwrap();
    assert_eq!(step["echo"].to_f32(), [-0.5, 10.0, 1.0, 7.0, 1.0, 3.0, 0.0, 2.0, 1.0]);
    assert_eq!(Outcome::of(&step).reward, 1.0);
}

#[test]
fn what_ends_an_episode_and_what_cuts_it_are_kept_apart() {
    for (task, terminal) in [("Mixed-v0", false), ("Faulty-v0", true)] {
        let env = &mut make(&config(&format!("lucid_test_envs:{task}"), &[]), 0).unwrap();
        let last = play(env, 1).pop().unwrap();
        let outcome = Outcome::of(&last);
        assert!(outcome.is_last && outcome.is_terminal == terminal, "{task}: {outcome:?}");
    }
}

#[test]
fn spaces_that_cannot_be_used_are_refused_by_name() {
    for (which, parts) in [
        ("text", ["`mission`", "Text", "FilterObservation"]),
        ("free", ["`action/arm`", "no bounds", "low -inf"]),
        ("flag", ["`reward`", "taken", "rename"]),
        ("taken", ["`action/last`", "taken", "rename"]),
        ("twice", ["`a/b`", "taken", "rename"]),
        ("nothing", ["`vector`", "(0,)", "leave it out"]),
        ("sequence", ["`action`", "Sequence", "ActionWrapper"]),
    ] {
        let text = error(&config("lucid_test_envs:Odd-v0", &[&format!("env.kwargs.which={which}")]));
        assert!(parts.iter().all(|part| text.contains(part)) && !text.contains("Traceback"), "{which}: {text}");
    }
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let text = error(&config("CartPole-v1", &["env.python=/nowhere/python3"]));
    assert!(text.contains("/nowhere/python3") && text.contains("`env.python`"), "{text}");
    let bare = bare("bare-venv").join("bin/python3");
    let text = error(&config("CartPole-v1", &[&format!("env.python={}", bare.display())]));
    assert!(text.contains("-m pip install gymnasium numpy") && text.contains("no package"), "{text}");
    let text = error(&config("CartPool-v1", &[]));
    assert!(text.contains("CartPole"), "{text}");
    let text = error(&config("no_such_module:Some-v0", &[]));
    assert!(text.contains("No module named 'no_such_module'"), "{text}");
    let text = error(&config("CartPole-v1", &["env.kwargs.odd=1"]));
    assert!(text.contains("unexpected keyword argument 'odd'"), "{text}");
}

/// Episodes under random actions from one seed, the environment's flags checked on the way by its wrapper.
fn play(env: &mut Box<dyn Env>, episodes: usize) -> Vec<Step> {
    let mut draws = Xoshiro256PlusPlus::seed_from_u64(1);
    let (space, mut reset, mut steps, mut left) = (env.act_space(), true, Vec::new(), episodes);
    while left > 0 {
        let step = env.step(&Action { reset, values: sample_action(&space, &mut draws) }).unwrap();
        reset = Outcome::of(&step).is_last;
        left -= usize::from(reset);
        steps.push(step);
    }
    steps
}

#[test]
fn a_seed_decides_every_episode() {
    let played = |seed| play(&mut make(&config("CartPole-v1", &[]), seed).unwrap(), 3);
    let first = played(u64::MAX);
    assert_eq!(first, played(u64::MAX));
    assert_ne!(first, played(4));
    let starts: Vec<_> =
        first.iter().filter(|step| Outcome::of(step).is_first).map(|step| step["vector"].to_f32()).collect();
    assert!(starts.len() == 3 && starts[0] != starts[1], "later episodes of a stream are new ones: {starts:?}");
}

#[test]
fn pictures_are_drawn_on_request_and_disturb_nothing() {
    let env = &mut make(&config("lucid_test_envs:Faulty-v0", &[]), 0).unwrap();
    assert_eq!(env.picture().unwrap(), Array::u8(&[4, 6, 3], &[0; 72]), "also before the first episode");
    env.step(&Action::reset()).unwrap();
    env.step(&discrete(0)).unwrap();
    assert_eq!(env.picture().unwrap(), Array::u8(&[4, 6, 3], &[1; 72]));
    assert_eq!(env.step(&discrete(0)).unwrap()["count"].to_f32(), [2.0, 0.5]);
    assert!(make(&config("lucid_test_envs:Mixed-v0", &[]), 0).unwrap().picture().is_none());
}

#[test]
fn environments_step_at_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let kwargs = format!("env.kwargs.folder={}", folder.path().display());
    let mut envs = make_all(&config("lucid_test_envs:Meeting-v0", &[&kwargs]), &[0, 1], &Interrupt::default()).unwrap();
    for action in [Action::reset(), discrete(1)] {
        envs.iter_mut().for_each(|env| env.begin(&action));
        envs.iter_mut().for_each(|env| drop(env.step(&action).unwrap()));
    }
}

/// Environments of this config that step apart, and a policy for them.
fn apart(config: &EnvConfig, count: u64, wait_for: usize) -> (ActLoop, Policy) {
    let (interrupt, seeds) = (Interrupt::default(), (0..count).collect::<Vec<_>>());
    let envs = make_all(config, &seeds, &interrupt).unwrap();
    let (obs, act) = (envs[0].obs_space(), envs[0].act_space());
    let options = Config::load(&["dummy"], &[] as &[&str]).unwrap();
    let agent = agent_spaces(&obs, &options.vit, None).unwrap();
    let acting = Acting::new(&options.acting(), &agent, &act, &Params::<Create>::new(7)).unwrap();
    let scheduler = Scheduler::apart(&config.task, envs, wait_for, interrupt).unwrap();
    let acts = ActLoop::new(&config.task, obs, scheduler, Features::new(None, agent), 3);
    (acts, Policy { version: 1, update: 0, taken: Instant::now(), acting })
}

/// Act until `done` holds of what each environment counted so far, which must be whole episodes without gaps.
fn act_until(
    acts: &mut ActLoop,
    policy: &Policy,
    key: &str,
    counts: &mut [Vec<f32>],
    done: impl Fn(&[Vec<f32>]) -> bool,
) {
    let (mut meter, until) = (Meter::new(counts.len()), Instant::now() + PATIENCE);
    while !done(counts) {
        assert!(Instant::now() < until, "{counts:?}");
        if !acts.wait(&mut meter).unwrap() {
            continue;
        }
        let Acts { envs, columns } = acts.act(policy, &mut meter).unwrap();
        let (first, count) = (columns["is_first"].to_f32(), columns[key].to_f32());
        let width = count.len() / envs.len();
        for (row, env) in envs.into_iter().enumerate() {
            let expected = if first[row] == 1.0 { 0.0 } else { counts[env].last().unwrap() + 1.0 };
            assert_eq!(count[row * width], expected, "environment {env}");
            counts[env].push(expected);
        }
    }
}

#[test]
fn one_that_hangs_holds_up_no_other_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let kwargs = format!("env.kwargs.folder={}", folder.path().display());
    let (mut acts, policy) = apart(&config("lucid_test_envs:Held-v0", &[&kwargs]), 3, 1);
    let mut counts = vec![Vec::new(); 3];
    let many = |counts: &[Vec<f32>], least: usize| counts.iter().filter(|c| c.len() >= least).count();
    act_until(&mut acts, &policy, "vector", &mut counts, |counts| many(counts, 30) == 2 && many(counts, 3) == 3);
    let held = counts.iter().position(|counts| counts.len() == 3).unwrap();
    std::fs::write(folder.path().join("go"), "").unwrap();
    act_until(&mut acts, &policy, "vector", &mut counts, |counts| counts[held].len() >= 30);
}

#[test]
fn one_that_hangs_is_not_waited_for_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let kwargs = format!("env.kwargs.folder={}", folder.path().display());
    // Its own time is more than a week.
    let (mut acts, policy) = apart(&config("lucid_test_envs:Held-v0", &[&kwargs]), 2, 1);
    let mut counts = vec![Vec::new(); 2];
    let held = |counts: &[Vec<f32>]| counts.iter().any(|c| c.len() == 3) && counts.iter().any(|c| c.len() > 30);
    act_until(&mut acts, &policy, "vector", &mut counts, held);
    drop(acts);
}

#[test]
fn one_that_is_started_again_is_not_ready_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    // The third step of the first to come there kills it.
    let (mut acts, policy) = apart(&faulty("step", "kill", folder.path(), &[]), 2, 1);
    let (mut meter, mut firsts, mut cut) = (Meter::new(2), [0; 2], None);
    let until = Instant::now() + PATIENCE;
    while cut.is_none_or(|env: usize| firsts[env] < 2) {
        assert!(Instant::now() < until);
        let Acts { envs, columns } = acts.step(&policy, &mut meter).unwrap();
        let flag = |key: &str| columns[key].to_f32();
        let (first, last, terminal) = (flag("is_first"), flag("is_last"), flag("is_terminal"));
        for (row, env) in envs.into_iter().enumerate() {
            firsts[env] += first[row] as usize;
            if last[row] > terminal[row] {
                assert!(cut.replace(env).is_none(), "one episode is cut");
                firsts[env] = 1;
            }
        }
    }
}

fn faulty(phase: &str, fault: &str, folder: &Path, more: &[&str]) -> EnvConfig {
    let folder = format!("env.kwargs.folder={}", folder.display());
    let sets = [&format!("env.kwargs.phase='{phase}'"), &format!("env.kwargs.fault='{fault}'"), folder.as_str()];
    config("lucid_test_envs:Faulty-v0", &[&sets[..], more].concat())
}

/// Faults of every kind, with what errors say of them. Those that keep silent take the environment's whole time.
const FAULTS: [(&str, &str, bool); 6] = [
    ("raise", "ValueError: the reactor is too hot", false),
    ("exit", "SystemExit: 7", false),
    ("die", "exit status: 7", false),
    ("kill", "signal: 9", false),
    ("stop", "did not answer within 3 s", true),
    ("hang", "did not answer within 3 s", true),
];
const POISONS: [(&str, &str); 7] = [
    ("nan", "`count` holds nan"),
    ("shape", "`count` has the shape (1, 2)"),
    ("dtype", "`count` has the type complex128"),
    ("class", "`die` is 7"),
    ("key", "lacks `count`"),
    ("tuple", "lacks `count`"),
    ("reward", "the reward is nan"),
];

fn time(silent: bool) -> &'static [&'static str] {
    if silent { &["env.timeout=3"] } else { &[] }
}

#[test]
fn a_fault_at_the_start_is_an_error_with_the_last_words() {
    for (fault, said, silent) in FAULTS {
        let folder = tempfile::tempdir().unwrap();
        let config = faulty("hello", fault, folder.path(), time(silent));
        let text = error(&config);
        assert!(text.contains(said) && text.contains("`gymnasium:lucid_test_envs:Faulty-v0`"), "{fault}: {text}");
        assert!(text.contains("a last word") || !["die", "kill", "stop", "hang"].contains(&fault), "{fault}: {text}");
        assert!(make(&config, 0).is_ok());
    }
}

#[test]
fn a_fault_in_a_reset_delays_the_episode() {
    for (fault, silent) in FAULTS
        .map(|(fault, _, silent)| (fault, silent))
        .into_iter()
        .chain(POISONS[..6].iter().map(|(fault, _)| (*fault, false)))
    {
        let folder = tempfile::tempdir().unwrap();
        let env = &mut make(&faulty("reset", fault, folder.path(), time(silent)), 0).unwrap();
        assert_eq!(play(env, 1).len(), 11, "{fault}");
    }
}

#[test]
fn a_fault_in_a_step_cuts_the_episode_and_the_next_is_a_new_one() {
    for (fault, silent) in FAULTS
        .map(|(fault, _, silent)| (fault, silent))
        .into_iter()
        .chain(POISONS.iter().map(|(fault, _)| (*fault, false)))
    {
        let folder = tempfile::tempdir().unwrap();
        let env = &mut make(&faulty("step", fault, folder.path(), time(silent)), 0).unwrap();
        let steps = play(env, 2);
        let cut = &steps[3];
        let expected = Outcome { is_last: true, ..Outcome::default() };
        assert_eq!(Outcome::of(cut), expected, "{fault}");
        assert_eq!(cut["count"].to_f32(), [2.0, 0.5], "{fault}: the last observation, which is known to be good");
        assert_eq!(steps.len(), 4 + 11, "{fault}");
    }
}

#[test]
fn a_fault_while_drawing_costs_the_picture_and_at_most_the_episode() {
    for (fault, _, silent) in FAULTS {
        let folder = tempfile::tempdir().unwrap();
        let env = &mut make(&faulty("render", fault, folder.path(), time(silent)), 0).unwrap();
        env.step(&Action::reset()).unwrap();
        env.step(&discrete(0)).unwrap();
        assert!(env.picture().is_none(), "{fault}");
        let step = env.step(&discrete(0)).unwrap();
        let expected = if fault == "raise" { (false, 2.0) } else { (true, 1.0) };
        assert_eq!((Outcome::of(&step).is_last, step["count"].to_f32()[0]), expected, "{fault}");
        assert_eq!(play(env, 1).len(), 11, "{fault}");
        assert!(env.picture().is_some(), "{fault}");
    }
}

#[test]
fn a_fault_while_closing_holds_nobody_up() {
    for (fault, ..) in FAULTS {
        let folder = tempfile::tempdir().unwrap();
        let mut env = make(&faulty("close", fault, folder.path(), &[]), 0).unwrap();
        env.step(&Action::reset()).unwrap();
        drop(env);
        assert!(folder.path().join("done").exists(), "{fault}: it was asked to close");
    }
}

#[test]
fn one_that_fails_again_and_again_is_given_up_with_the_reason() {
    for (fault, said) in POISONS {
        let sets = ["env.max_restarts=1", &format!("env.kwargs.fault='{fault}'"), "env.kwargs.phase=step"];
        let mut env = make(&config("lucid_test_envs:Faulty-v0", &sets), 0).unwrap();
        let mut reset = true;
        let error = loop {
            match env.step(&Action { reset, ..discrete(0) }) {
                Ok(step) => reset = Outcome::of(&step).is_last,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, EnvError::GaveUp { failures: 2, .. }), "{error}");
        assert!(error.to_string().contains(said) && error.to_string().contains("env.max_restarts"), "{fault}: {error}");
    }
}

#[test]
fn who_does_not_wait_is_told_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut env = make(&faulty("step", "kill", folder.path(), &[]), 0).unwrap();
    env.set_patient(false);
    env.step(&Action::reset()).unwrap();
    let mut outcomes = Vec::new();
    while outcomes.last().is_none_or(|outcome: &Outcome| !outcome.is_last) {
        outcomes.push(Outcome::of(&env.step(&discrete(0)).unwrap()));
    }
    assert_eq!(outcomes.len(), 3);
    let (mut turned_away, until) = (0, Instant::now() + PATIENCE);
    let step = loop {
        env.begin(&Action::reset());
        match env.step(&Action::reset()) {
            Err(EnvError::Restarting { .. }) => turned_away += 1,
            step => break step.unwrap(),
        }
        assert!(Instant::now() < until);
        std::thread::park_timeout(Duration::from_millis(5));
    };
    assert!(turned_away > 0 && Outcome::of(&step).is_first && step["count"].to_f32()[0] == 0.0);
}
