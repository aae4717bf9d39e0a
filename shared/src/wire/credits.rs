//! Credits: how many chunks may still be sent. The operating system's socket would take any number and then block.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// What was waited for is there.
    Ready,
    /// The link has closed: it never will be.
    Closed,
    /// Not yet.
    Later,
}

#[derive(Default)]
struct State {
    count: u32,
    closed: bool,
}

/// A count that one thread raises and another waits for.
#[derive(Default)]
pub struct Credits {
    state: Mutex<State>,
    changed: Condvar,
}

impl Credits {
    /// More may be sent.
    pub fn add(&self, count: u32) {
        let mut state = self.state.lock();
        state.count = state.count.saturating_add(count);
        self.changed.notify_all();
    }

    /// None may be sent until more are given: those so far were another learner's.
    pub fn reset(&self) {
        self.state.lock().count = 0;
    }

    /// The link has closed: every wait ends.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Take one credit, waiting for it up to `limit`.
    pub fn take(&self, limit: Duration) -> Pause {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock();
        while state.count == 0 && !state.closed {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return Pause::Later;
            }
        }
        if state.closed {
            return Pause::Closed;
        }
        state.count -= 1;
        Pause::Ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credit_is_taken_once_and_a_closed_link_ends_the_wait() {
        let credits = Credits::default();
        credits.add(1);
        assert_eq!(credits.take(Duration::from_secs(9)), Pause::Ready);
        assert_eq!(credits.take(Duration::ZERO), Pause::Later);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| credits.take(Duration::from_secs(60)));
            credits.close();
            assert_eq!(waiting.join().unwrap(), Pause::Closed);
        });
    }
}
