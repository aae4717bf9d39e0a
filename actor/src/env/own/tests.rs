use shared::config::Config;

use super::*;
use crate::env::wrappers::Checked;

/// Counts up to a limit; misbehaves as it is told.
struct Counter {
    limit: i64,
    fault: String,
    count: i64,
}

impl Counter {
    fn new(options: &Options) -> Result<Self, EnvError> {
        let (limit, fault) = (options.kwarg("limit", 3)?, options.kwarg("fault", String::new())?);
        match fault.as_str() {
            "make" => Err(EnvError::failed("no counter is left")),
            "make panics" => panic!("no counter at all"),
            _ => Ok(Self { limit, fault, count: 0 }),
        }
    }
}

impl Env for Counter {
    fn obs_space(&self) -> Spaces {
        let mut spaces = Outcome::spaces();
        spaces.insert("count".into(), Space::bounded(&[1], 0.0, 100.0));
        spaces
    }

    fn act_space(&self) -> Spaces {
        [("action".to_string(), Space::discrete(&[], 3))].into()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        let mut outcome = Outcome::first();
        if action.reset {
            self.count = 0;
        } else {
            self.count += action.class("action")? as i64;
            let is_last = self.count >= self.limit;
            outcome = Outcome { is_last, is_terminal: is_last, reward: self.count as f32, ..Outcome::default() };
        }
        match self.fault.as_str() {
            "step" if !action.reset => Err("x".parse::<i64>().map_err(EnvError::failed).unwrap_err()),
            "step panics" if !action.reset => panic!("count {} is too hot", self.count),
            "key" => Err(action.numbers("action/wheel").unwrap_err()),
            _ => Ok(outcome.step([("count", Array::f32(&[1], &[self.count as f32]))])),
        }
    }

    fn begin(&mut self, _action: &Action) {
        assert_ne!(self.fault, "begin panics", "cannot begin");
    }

    fn picture(&self) -> Option<Array> {
        assert_ne!(self.fault, "picture panics", "cannot draw");
        Some(Array::zeros(DType::U8, &[2, 2, 3]))
    }
}

fn tasks() -> Tasks {
    Tasks::new().with("other", |_| Err::<Counter, _>(EnvError::failed("not this one"))).with("counter", Counter::new)
}

fn config(kwargs: &[&str]) -> EnvConfig {
    let sets = kwargs.iter().map(|kwarg| format!("env.kwargs.{kwarg}"));
    Config::load(&["dummy"], &sets.chain(["env.task=counter".into()]).collect::<Vec<_>>()).unwrap().env
}

fn made(kwargs: &[&str]) -> Result<Box<dyn Env>, EnvError> {
    tasks().make(&config(kwargs), 0).unwrap()
}

fn act() -> Action {
    Action::act([("action".to_string(), Array::i32(&[], &[2]))].into())
}

#[test]
fn an_environment_is_found_by_its_name_and_made_with_its_kwargs() {
    assert!(tasks().make(&EnvConfig { task: "catch".into(), ..config(&[]) }, 0).is_none());
    for (kwargs, steps) in [(&[][..], 2), (&["limit=7"], 4)] {
        let mut env = Checked::new(made(kwargs).unwrap(), "counter");
        env.step(&Action::reset()).unwrap();
        let last = (1..).find(|_| Outcome::of(&env.step(&act()).unwrap()).is_last);
        assert_eq!(last, Some(steps));
    }
}

#[test]
fn kwargs_of_the_wrong_type_or_that_nobody_asks_for_are_refused() {
    let text = |kwargs: &[&str]| made(kwargs).map(drop).unwrap_err().to_string();
    let wrong = text(&["limit=\"many\""]);
    assert!(wrong.contains("`counter`: `env.kwargs.limit` is \"many\"") && wrong.contains("i64"), "{wrong}");
    let unknown = text(&["limmit=4"]);
    assert!(unknown.contains("`env.kwargs.limmit` is 4; expected one of: fault, limit"), "{unknown}");
}

#[test]
fn errors_and_panics_are_told_with_the_name_of_the_task() {
    for (fault, said) in [("make", "no counter is left"), ("make panics", "it panicked: no counter at all")] {
        let error = made(&[&format!("fault={fault:?}")]).map(drop).unwrap_err().to_string();
        assert_eq!(error, format!("environment `counter` failed: {said}"));
    }
    let steps = [
        ("step", "invalid digit found in string"),
        ("step panics", "it panicked: count 2 is too hot"),
        ("begin panics", "cannot begin"),
        ("key", "no action `action/wheel` to read; there are: action"),
    ];
    for (fault, said) in steps {
        let mut env = made(&[&format!("fault={fault:?}")]).unwrap();
        let _ = env.step(&Action::reset());
        env.begin(&act());
        let error = env.step(&act()).unwrap_err().to_string();
        assert!(error.starts_with("environment `counter` failed: ") && error.contains(said), "{error}");
    }
    assert_eq!(made(&["fault=\"picture panics\""]).unwrap().picture(), None);
    assert!(made(&[]).unwrap().picture().is_some());
}

#[test]
fn names_that_cannot_be_are_refused() {
    let refused = |name: &str| tasks().with(name, Counter::new).install().unwrap_err().to_string();
    assert!(refused("catch").contains("`catch` cannot be added: a task that is built in"));
    assert!(refused("counter").contains("it is there already"));
    for name in ["my:counter", "", "a counter"] {
        assert!(refused(name).contains("no colon and no spaces"), "{name}");
    }
}

#[test]
fn spaces_that_agents_cannot_take_are_refused() {
    let spaces = |more: &[(&str, Space)]| {
        more.iter().map(|(key, space)| (key.to_string(), space.clone())).chain(Outcome::spaces()).collect::<Spaces>()
    };
    let actions = |key: &str, space: Space| Spaces::from([(key.to_string(), space)]);
    let (seen, wheel) = (spaces(&[("count", Space::vector(&[2]))]), actions("action", Space::discrete(&[], 2)));
    assert_eq!(check_spaces(&seen, &wheel), Ok(()));
    assert!(check_spaces(&actions("count", Space::vector(&[2])), &wheel).unwrap_err().contains("Outcome::spaces()"));
    assert!(check_spaces(&spaces(&[]), &wheel).unwrap_err().contains("at least one observation"));
    assert!(check_spaces(&seen, &actions("wheel", Space::vector(&[1]))).unwrap_err().contains("`action/wheel`"));
    for (key, space, said) in [
        ("dyn/deter", Space::vector(&[2]), "cannot be called `dyn/deter`"),
        ("none", Space::vector(&[0]), "`none` holds nothing"),
        ("deep", Space::vector(&[2, 2, 2]), "`deep` is F32 [2, 2, 2]"),
    ] {
        let error = check_spaces(&spaces(&[(key, space)]), &wheel).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}
