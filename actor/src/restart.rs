//! When a process that died is started again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(4);
const WINDOW: Duration = Duration::from_secs(60);
/// After living this long, a process counts as healthy.
const HEALTHY: Duration = Duration::from_secs(20);

/// Back-off with a cap on restarts per minute.
#[derive(Default)]
pub struct Restarts {
    recent: VecDeque<Instant>,
    in_a_row: u32,
    total: u32,
}

impl Restarts {
    /// How long to wait before the next start, or none if the cap is reached. `lived`: how long the process ran.
    pub fn next(&mut self, now: Instant, lived: Duration, cap: usize) -> Option<Duration> {
        self.recent.retain(|at| now.duration_since(*at) < WINDOW);
        if self.recent.len() >= cap {
            return None;
        }
        self.in_a_row = if lived >= HEALTHY { 0 } else { self.in_a_row };
        let delay = (FIRST * 2u32.pow(self.in_a_row.min(8))).min(LONGEST);
        self.recent.push_back(now);
        self.in_a_row += 1;
        self.total += 1;
        Some(delay)
    }

    /// Restarts so far.
    pub fn total(&self) -> u32 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_limit_and_a_healthy_life_starts_over() {
        let (mut restarts, now) = (Restarts::default(), Instant::now());
        let mut next = |lived| restarts.next(now, Duration::from_secs(lived), 9).map(|d| d.as_millis());
        let delays = [next(0), next(0), next(0), next(0), next(0), next(30), next(0)];
        assert_eq!(delays, [500, 1000, 2000, 4000, 4000, 500, 1000].map(Some));
    }

    #[test]
    fn the_cap_counts_a_minute() {
        let (mut restarts, now) = (Restarts::default(), Instant::now());
        assert!(restarts.next(now, Duration::ZERO, 1).is_some());
        assert!(restarts.next(now + Duration::from_secs(59), Duration::ZERO, 1).is_none());
        assert!(restarts.next(now + Duration::from_secs(61), Duration::ZERO, 1).is_some());
        assert_eq!(restarts.total(), 2);
    }
}
