//! A task that fails as `env.kwargs.fault` says, after ten steps; the variable `TASK` is its name.

use std::process::ExitCode;

use learner::env::{Action, Array, Env, EnvError, Options, Outcome, Space, Spaces, Step, Tasks};

fn main() -> ExitCode {
    let name = std::env::var("TASK").unwrap_or_else(|_| "faulty".into());
    learner::lucid(Tasks::new().with(&name, Faulty::new))
}

struct Faulty {
    fault: String,
    steps: u32,
}

impl Faulty {
    fn new(options: &Options) -> Result<Self, EnvError> {
        Ok(Self { fault: options.kwarg("fault", String::new())?, steps: 0 })
    }
}

impl Env for Faulty {
    fn obs_space(&self) -> Spaces {
        let mut spaces = Outcome::spaces();
        spaces.insert("steps".into(), Space::vector(&[1]));
        spaces
    }

    fn act_space(&self) -> Spaces {
        [("action".to_string(), Space::discrete(&[], 2))].into()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        self.steps += 1;
        match self.fault.as_str() {
            "error" if self.steps > 10 => return Err(EnvError::failed("the reactor is too hot")),
            "panic" if self.steps > 10 => panic!("the reactor is on fire"),
            _ => {}
        }
        let outcome = if action.reset { Outcome::first() } else { Outcome::default() };
        let steps = if self.fault == "shape" { vec![0.0; 2] } else { vec![self.steps as f32] };
        Ok(outcome.step([("steps", Array::f32(&[steps.len()], &steps))]))
    }
}
