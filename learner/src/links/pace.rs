//! Whether an actor keeps up with the snapshots it is sent: judged from its acknowledgements, in updates.

/// Snapshots in a row, each of which an actor took later than the one before, after which its lag is said to rise.
const RISES: u32 = 8;
/// Snapshots in a row that came too late to be acted with, after which the bound is said to be out of reach.
const LATE: u32 = 20;

/// How late an actor took its last snapshots.
#[derive(Debug, Default)]
pub struct Pace {
    last: u64,
    rises: u32,
    late: u32,
}

/// What there is to say about it.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It keeps up.
    Fine,
    /// It took each of the last snapshots later than the one before.
    Rises,
    /// It may not act with what it gets: by the time a snapshot arrives it is too old, again and again.
    OutOfReach,
}

impl Pace {
    /// A snapshot was taken when the learner was so many updates further; `bound` is how many an actor may be behind to act.
    pub fn taken(&mut self, updates: u64, bound: Option<u64>) -> Verdict {
        self.rises = if updates > self.last { self.rises + 1 } else { 0 };
        self.late = if bound.is_some_and(|bound| updates > bound) { self.late + 1 } else { 0 };
        self.last = updates;
        match () {
            () if self.late == LATE => Verdict::OutOfReach,
            () if self.rises > 0 && self.rises.is_multiple_of(RISES) => Verdict::Rises,
            () => Verdict::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_that_only_rises_is_told_and_one_that_varies_is_not() {
        let mut pace = Pace::default();
        let told =
            |pace: &mut Pace, lags: &[u64]| lags.iter().filter(|lag| pace.taken(**lag, None) == Verdict::Rises).count();
        assert_eq!(told(&mut pace, &[1, 2, 3, 2, 3, 4, 3, 5, 4, 6, 5, 7, 6, 8, 7, 9]), 0);
        assert_eq!(told(&mut pace, &[0, 1, 2, 3, 4, 5, 6, 9]), 0);
        assert_eq!(told(&mut pace, &[12, 13, 14]), 1);
        assert_eq!(told(&mut pace, &[14; 100]), 0);
    }

    #[test]
    fn a_bound_is_out_of_reach_once_every_snapshot_comes_too_late() {
        let mut pace = Pace::default();
        let mut verdicts =
            |lags: &[u64]| lags.iter().filter(|lag| pace.taken(**lag, Some(4)) == Verdict::OutOfReach).count();
        assert_eq!(verdicts(&[9; 19]), 0);
        assert_eq!(verdicts(&[4]), 0, "one that is new enough is acted with");
        assert_eq!(verdicts(&[9; 25]), 1);
        let mut unbound = Pace::default();
        assert!((0..50).all(|_| unbound.taken(9, None) != Verdict::OutOfReach));
    }
}
