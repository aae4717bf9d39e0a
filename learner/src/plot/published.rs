//! Scores that the authors of DreamerV3 published, to see a run's returns beside them.

use super::Mark;

/// Mean return over seeds, of the 20,000 environment steps that end at each mark. Source: danijar/dreamerv3, `scores/`; those curves were made
/// with the 12M preset at a train ratio of 512.
type Scores = &'static [(f64, f64)];

/// dm_control from joint positions and velocities, 5 seeds.
const VECTORS: [(&str, Scores); 7] = [
    ("cartpole_balance", &[(50e3, 449.0), (100e3, 794.0), (250e3, 961.0), (490e3, 990.0)]),
    ("cartpole_swingup", &[(50e3, 294.0), (100e3, 478.0), (250e3, 817.0), (490e3, 852.0)]),
    ("reacher_easy", &[(50e3, 492.0), (100e3, 740.0), (250e3, 883.0), (490e3, 954.0)]),
    ("finger_spin", &[(50e3, 397.0), (100e3, 748.0), (250e3, 880.0), (490e3, 931.0)]),
    ("walker_stand", &[(50e3, 313.0), (100e3, 758.0), (250e3, 954.0), (490e3, 964.0)]),
    ("walker_walk", &[(50e3, 213.0), (100e3, 461.0), (250e3, 876.0), (490e3, 936.0)]),
    ("pendulum_swingup", &[(50e3, 124.0), (100e3, 743.0), (250e3, 849.0), (490e3, 788.0)]),
];
/// dm_control from pixels, 8 to 10 seeds.
const PIXELS: [(&str, Scores); 3] = [
    ("cartpole_swingup", &[(50e3, 281.0), (100e3, 551.0)]),
    ("walker_walk", &[(50e3, 366.0), (100e3, 586.0)]),
    ("walker_stand", &[(50e3, 625.0), (100e3, 904.0)]),
];

/// Marks for a task that the agent sees as `observe` says (`env.observe`), native or of the suite (`dmc:`); none where nothing was
/// published for it.
pub fn published(task: &str, observe: &str) -> Vec<Mark> {
    let task = task.strip_prefix("dmc:").unwrap_or(task);
    let table: &[_] = if observe == "vector" { &VECTORS } else { &PIXELS };
    let found = table.iter().find(|(name, _)| *name == task);
    let mark = |at: &(f64, f64)| Mark { at: *at, label: format!("published {}", at.1) };
    found.map_or_else(Vec::new, |(_, scores)| scores.iter().map(mark).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_found_by_task_and_by_what_is_observed() {
        let first = |task: &str, observe: &str| published(task, observe).first().map(|mark| mark.at);
        assert_eq!(first("cartpole_swingup", "vector"), Some((50e3, 294.0)));
        assert_eq!(first("cartpole_swingup", "pixels"), Some((50e3, 281.0)));
        assert_eq!(first("dmc:walker_walk", "vector"), Some((50e3, 213.0)));
        assert_eq!(first("gymnasium:walker_walk", "vector"), None);
        assert_eq!(first("catch", "pixels"), None);
    }
}
