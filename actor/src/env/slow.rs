//! An environment that takes its time, for measuring everything around it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use shared::array::Array;
use shared::env::Spaces;

use super::{Action, Env, EnvError, Step};

/// What a step takes.
const TIME: Duration = Duration::from_millis(1);

/// What an environment does for a millisecond at each step, before it does what it does anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// Sleep: like one that waits for something else.
    Sleep,
    /// Compute: so much of a core's time.
    Compute,
}

/// Another environment, slowed down.
pub struct Slowed {
    inner: Box<dyn Env>,
    how: Slow,
}

impl Slowed {
    /// Slow `inner` down.
    pub fn new(inner: Box<dyn Env>, how: Slow) -> Self {
        Self { inner, how }
    }
}

impl Env for Slowed {
    fn obs_space(&self) -> Spaces {
        self.inner.obs_space()
    }

    fn act_space(&self) -> Spaces {
        self.inner.act_space()
    }

    fn step(&mut self, action: &Action) -> Result<Step, EnvError> {
        match self.how {
            Slow::Sleep => std::thread::sleep(TIME),
            Slow::Compute => {
                let start = computed();
                while computed() - start < TIME {
                    std::hint::spin_loop();
                }
            }
        }
        self.inner.step(action)
    }

    fn picture(&self) -> Option<Array> {
        self.inner.picture()
    }
}

/// CPU time of this thread.
fn computed() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
