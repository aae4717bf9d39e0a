use shared::config::Config;

use actor::env::{Outcome, Step};
use shared::array::Array;
use shared::env::Spaces;

use super::*;

fn report(sets: &[&str]) -> Report {
    let sets = [&["vit.decode=features"], sets].concat();
    Report::make(&Config::load(&["dummy"], &sets).unwrap().env, 1000, 3).unwrap()
}

#[test]
fn a_sound_environment_is_described_and_has_no_faults() {
    let report = report(&["env.task=catch", "env.observe=both"]);
    assert_eq!(report.faults(), 0, "{:?}", report.findings);
    assert_eq!((report.steps, report.reward, report.episodes.length), (1000, Some([-1.0, 1.0]), Some([9, 9])));
    assert_eq!(report.episodes.count, 100);
    assert!((report.rewarded - 0.1).abs() < 1e-9 && report.steps_per_s > 0.0);
    let image = report.observations.iter().find(|entry| entry.key == "image").unwrap();
    assert!(image.space.starts_with("image [") && image.seen == Some([18.0, 255.0]), "{image:?}");
    assert_eq!(report.actions[0].space, "3 classes");
}

/// Catch ends by itself after the same number of steps each time, which looks like a time limit.
#[test]
fn ends_that_look_like_a_time_limit_are_noted() {
    let report = report(&["env.task=catch"]);
    let noted = |what: &str| report.findings.iter().any(|f| !f.fault && f.what.contains(what));
    assert!(noted("all 100 episodes end after 9 steps"), "{:?}", report.findings);
}

/// Random data that answers to nothing.
#[test]
fn actions_without_effect_are_a_fault() {
    let report = report(&["env.task=dummy"]);
    assert!(report.findings.iter().any(|f| f.fault && f.what == "actions change nothing"), "{:?}", report.findings);
    assert_eq!(report.faults(), 1);
}

#[test]
fn what_goes_wrong_is_found() {
    use trace::Trace;
    let spaces = Spaces::from_iter([("image".to_string(), Space::image(2, 2, 3)), ("far".into(), Space::vector(&[1]))]);
    let trace = |far: [f32; 4], bright: u8| {
        let mut trace = Trace { obs_space: spaces.clone(), ..Trace::default() };
        for (i, far) in far.into_iter().enumerate() {
            let mut step = Step::from([
                ("image".to_string(), Array::u8(&[2, 2, 3], &[bright * (i % 2) as u8; 12])),
                ("far".to_string(), Array::f32(&[1], &[far])),
            ]);
            Outcome { is_first: i == 0, ..Outcome::default() }.write(&mut step);
            trace.add(&step);
        }
        trace
    };
    let found = |first: &Trace, others| findings::of(first, others).into_iter().map(|f| f.what).collect::<Vec<_>>();
    let (sound, other) = (trace([1.0, 2.0, 3.0, 4.0], 9), trace([2.0, 2.0, 3.0, 4.0], 9));
    let dull = ["every reward of 4 steps is 0", "no episode ended within 4 steps"];
    assert_eq!(found(&sound, [&sound, &other, &other]), dull);
    let changed = trace([1.0, 2.0, 9.0, 4.0], 9);
    assert_eq!(
        found(&sound, [&changed, &other, &other])[0],
        "not deterministic: the same seed and actions give another step 2"
    );
    assert_eq!(found(&sound, [&sound, &sound, &other])[0], "the seed changes nothing");
    let odd = trace([1.0, 2.0, 2e6, 4.0], 1);
    assert_eq!(
        found(&odd, [&odd, &other, &other])[2..],
        ["image `image` has no value above 1", "`far` reaches from 1 to 2000000"]
    );
    let still = trace([5.0; 4], 9);
    assert_eq!(found(&still, [&still, &other, &other])[2], "`far` is 5 in every step");
}
