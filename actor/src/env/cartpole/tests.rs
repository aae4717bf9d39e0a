use serde::Deserialize;

use super::*;

/// Recorded with dm_control by `tests/cartpole_swingup.py`.
const RECORDED: &str = include_str!("../../../../tests/cartpole_swingup.json");

#[derive(Deserialize)]
struct Episode {
    name: String,
    qpos: [f64; 2],
    qvel: [f64; 2],
    /// Action, position (3), velocity (2), reward.
    steps: Vec<[f32; 7]>,
}

fn push(force: f32) -> Action {
    Action::act([("action".to_string(), Array::f32(&[1], &[force]))].into())
}

#[test]
fn steps_and_rewards_are_those_of_dm_control() {
    let episodes: Vec<Episode> = serde_json::from_str(RECORDED).unwrap();
    let reach = episodes.iter().flat_map(|e| &e.steps).map(|s| s[1].abs()).fold(0.0, f32::max);
    assert!(reach > 1.9, "the recording should run into the ends of the rail, not {reach}");
    for episode in episodes {
        let mut env = Cartpole::new(SWINGUP, Observe::Vector, [64, 64], 0);
        env.start_from(State { position: episode.qpos, velocity: episode.qvel });
        for (t, row) in episode.steps.iter().enumerate() {
            let step = env.step(&push(row[0])).unwrap();
            let found = [step["position"].to_f32(), step["velocity"].to_f32(), step["reward"].to_f32()].concat();
            for (i, (found, expected)) in found.iter().zip(&row[1..]).enumerate() {
                let close = (found - expected).abs() < 1e-5 * (1.0 + expected.abs());
                assert!(close, "{} step {t} value {i}: {found}, recorded {expected}", episode.name);
            }
        }
    }
}

#[test]
fn episodes_start_hanging_and_are_cut_after_1000_steps() {
    let mut env = Cartpole::new(SWINGUP, Observe::Vector, [64, 64], 1);
    let mut starts = Vec::new();
    for _ in 0..2 {
        let first = env.step(&Action::reset()).unwrap();
        assert_eq!(Outcome::of(&first), Outcome::first());
        let position = first["position"].to_f32();
        assert!(position[0].abs() < 0.06 && position[1] < -0.99, "{position:?}");
        starts.push(position);
        for t in 1..=1000 {
            let outcome = Outcome::of(&env.step(&push(0.0)).unwrap());
            assert_eq!((outcome.is_first, outcome.is_last, outcome.is_terminal), (false, t == 1000, false));
        }
        assert_eq!(env.step(&push(0.0)).unwrap_err(), EnvError::ended("cartpole_swingup"));
    }
    assert_ne!(starts[0], starts[1]);
}

#[test]
fn balance_starts_with_a_pole_that_stands_nearly() {
    let mut env = Cartpole::new(BALANCE, Observe::Vector, [64, 64], 3);
    let starts: Vec<_> = (0..500).map(|_| env.step(&Action::reset()).unwrap()["position"].to_f32()).collect();
    let greatest = |i: usize| starts.iter().map(|start| start[i].abs()).fold(0.0, f32::max);
    assert!((0.09..0.1).contains(&greatest(0)), "cart: {}", greatest(0));
    assert!((0.032..0.034).contains(&greatest(2)), "sine of the pole's angle: {}", greatest(2));
    assert!(starts.iter().all(|start| start[1] > 0.999));
}

/// A player that pushes the cart under the pole keeps it up for a whole episode. If nobody pushes it falls, and swings over and over.
#[test]
fn balance_is_kept_by_a_player_that_pushes_under_the_pole() {
    for variant in [BALANCE, BALANCE_SPARSE] {
        let mut env = Cartpole::new(variant, Observe::Vector, [64, 64], 4);
        let mut play = |gains: [f64; 4]| {
            env.step(&Action::reset()).unwrap();
            let total = (0..STEPS).map(|_| {
                let State { position: [cart, angle], velocity: [speed, turn] } = env.state;
                let force: f64 = gains.iter().zip([cart, speed, angle, turn]).map(|(g, x)| g * x).sum();
                Outcome::of(&env.step(&push(force as f32)).unwrap()).reward
            });
            total.sum::<f32>()
        };
        let kept = play([0.42, 0.57, 4.6, 1.2]);
        assert!(kept > 950.0, "{}: {kept}", variant.task);
        let fallen = play([0.0; 4]);
        assert!(fallen < 800.0, "{}: {fallen}", variant.task);
    }
}

#[test]
fn sparse_rewards_are_paid_near_the_goal_only() {
    for variant in [BALANCE_SPARSE, SWINGUP_SPARSE] {
        // A cosine of 0.995 is an angle of 0.10004.
        for (position, paid) in [
            ([0.0, 0.0], 1.0),
            ([0.24, 0.09], 1.0),
            ([-0.24, -0.09], 1.0),
            ([0.26, 0.0], 0.0),
            ([-0.26, 0.0], 0.0),
            ([0.0, 0.11], 0.0),
            ([0.0, 3.1], 0.0),
            ([0.0, 2.0 * std::f64::consts::PI], 1.0),
        ] {
            let mut env = Cartpole::new(variant, Observe::Vector, [64, 64], 0);
            env.start_from(State { position, velocity: [0.0; 2] });
            assert_eq!(Outcome::of(&env.step(&push(0.0)).unwrap()).reward, paid, "{} {position:?}", variant.task);
        }
    }
}

#[test]
fn actions_beyond_the_bounds_act_as_the_bounds() {
    let run = |force| {
        let mut env = Cartpole::new(SWINGUP, Observe::Vector, [64, 64], 2);
        env.step(&Action::reset()).unwrap();
        env.step(&push(force)).unwrap()
    };
    assert_eq!(run(7.0), run(1.0));
    assert_ne!(run(0.5), run(1.0));
}

#[test]
fn the_picture_follows_cart_and_pole() {
    let draw = |position| picture::draw(&State { position, velocity: [0.0; 2] }, [64, 64]);
    let images = [[0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [0.0, -0.1], [0.0, 3.1], [1.8, 0.0], [-1.8, 0.0]].map(draw);
    for (i, a) in images.iter().enumerate() {
        assert_eq!(a.shape, [64, 64, 3]);
        assert!(images[i + 1..].iter().all(|b| b != a));
    }
    // Upright, the rows above the cart are lit; hanging, those below.
    let light = |image: &Array, rows: std::ops::Range<usize>| {
        image.bytes[rows.start * 192..rows.end * 192].iter().map(|&x| x as u64).sum::<u64>()
    };
    assert!(light(&images[0], 10..28) > light(&images[0], 36..54));
    assert!(light(&images[4], 10..28) < light(&images[4], 36..54));
}
