//! The `lucid` program.

use std::process::ExitCode;

use learner::env::Tasks;

fn main() -> ExitCode {
    learner::lucid(Tasks::new())
}
