use std::f64::consts::PI;

use serde::Deserialize;

use super::*;

/// Recorded with Gymnasium and dm_control by `tests/pendulum.py`.
const RECORDED: &str = include_str!("../../../../tests/pendulum.json");
const MODELS: [Model; 2] = [Model::Gymnasium, Model::Suite];

#[derive(Deserialize)]
struct Episode {
    task: String,
    kind: String,
    angle: f64,
    velocity: f64,
    /// Torque, cosine, sine, velocity, reward.
    steps: Vec<[f32; 5]>,
}

fn turn(torque: f32) -> Action {
    Action::act([("action".to_string(), Array::f32(&[1], &[torque]))].into())
}

fn numbers(step: &Step) -> Vec<f32> {
    ["orientation", "velocity", "reward"].iter().flat_map(|key| step[*key].to_f32()).collect()
}

#[test]
fn steps_and_rewards_are_those_of_gymnasium_and_dm_control() {
    let episodes: Vec<Episode> = serde_json::from_str(RECORDED).unwrap();
    let of = |model: Model| episodes.iter().filter(move |e| e.task == model.task()).flat_map(|e| &e.steps);
    assert!(of(Model::Gymnasium).any(|s| s[3] == 8.0), "the recording should reach the greatest speed");
    assert!(of(Model::Suite).any(|s| s[4] == 1.0) && of(Model::Suite).any(|s| s[4] == 0.0));
    for episode in &episodes {
        let model = MODELS.into_iter().find(|m| m.task() == episode.task).unwrap();
        let mut env = Pendulum::new(model, Observe::Vector, [64, 64], 0);
        env.start_from(State { angle: episode.angle, velocity: episode.velocity });
        for (t, row) in episode.steps.iter().enumerate() {
            let found = numbers(&env.step(&turn(row[0])).unwrap());
            for (i, (found, expected)) in found.iter().zip(&row[1..]).enumerate() {
                let close = (found - expected).abs() < 1e-5 * (1.0 + expected.abs());
                assert!(close, "{} {} step {t} value {i}: {found}, not {expected}", episode.task, episode.kind);
            }
        }
    }
}

/// By hand: a rod that lies flat falls with 15 rad/s², half of which a torque of -2.5 would cancel.
#[test]
fn one_step_of_the_rod_by_hand() {
    let (next, reward) = Model::Gymnasium.advance(State { angle: PI / 2.0, velocity: 0.5 }, -2.0);
    assert!((next.velocity - (0.5 + (15.0 - 6.0) * 0.05)).abs() < 1e-12, "{next:?}");
    assert!((next.angle - (PI / 2.0 + 0.95 * 0.05)).abs() < 1e-12, "{next:?}");
    assert!((reward + (PI * PI / 4.0 + 0.1 * 0.25 + 0.001 * 4.0)).abs() < 1e-12, "{reward}");
    // Costs count the shorter way round: one turn and a bit is a bit.
    let (_, reward) = Model::Gymnasium.advance(State { angle: -4.0 * PI + 0.5, velocity: 0.0 }, 0.0);
    assert!((reward + 0.25).abs() < 1e-12, "{reward}");
}

#[test]
fn episodes_start_at_random_and_are_cut_never_terminal() {
    for model in MODELS {
        let mut env = Pendulum::new(model, Observe::Vector, [64, 64], 1);
        let mut halves = [0, 0];
        for _ in 0..20 {
            let first = env.step(&Action::reset()).unwrap();
            assert_eq!(Outcome::of(&first), Outcome::first());
            halves[(first["orientation"].to_f32()[0] > 0.0) as usize] += 1;
            assert!(first["velocity"].to_f32()[0].abs() <= if model == Model::Suite { 0.0 } else { 1.0 });
            for t in 1..=model.steps() {
                let outcome = Outcome::of(&env.step(&turn(0.0)).unwrap());
                assert_eq!((outcome.is_first, outcome.is_terminal), (false, false));
                assert_eq!(outcome.is_last, t == model.steps(), "{t}");
            }
            assert_eq!(env.step(&turn(0.0)).unwrap_err(), EnvError::ended(model.task()));
        }
        assert!(halves[0] > 2 && halves[1] > 2, "{halves:?}");
    }
}

/// A player that pumps energy with the sign of the velocity and holds the pendulum near the top swings both up.
#[test]
fn pumping_energy_swings_it_up() {
    for (model, gravity, inertia) in [(Model::Gymnasium, 5.0, 1.0 / 3.0), (Model::Suite, 4.905, 0.251)] {
        let mut env = Pendulum::new(model, Observe::Vector, [64, 64], 3);
        env.start_from(State { angle: PI, velocity: 0.1 });
        let mut upright = 0;
        for _ in 0..model.steps() {
            let State { angle, velocity } = env.state;
            let tilt = angle.sin().atan2(angle.cos());
            let energy = 0.5 * inertia * velocity * velocity + gravity * (angle.cos() - 1.0);
            let torque = match tilt.abs() < 0.3 {
                true => -(12.0 * tilt + 2.0 * velocity),
                false => 10.0 * velocity.signum() * -energy.min(0.5),
            };
            env.step(&turn(torque as f32)).unwrap();
            upright = if tilt.abs() < 0.1 { upright + 1 } else { 0 };
        }
        assert!(upright > 50, "{}: upright for the last {upright} steps", model.task());
    }
}

#[test]
fn torques_beyond_the_bounds_act_as_the_bounds() {
    for model in MODELS {
        let run = |torque| {
            let mut env = Pendulum::new(model, Observe::Vector, [64, 64], 2);
            env.step(&Action::reset()).unwrap();
            env.step(&turn(torque)).unwrap()
        };
        assert_eq!(run(7.0), run(model.torque()));
        assert_ne!(run(0.5), run(model.torque()));
    }
}

#[test]
fn the_picture_follows_the_angle() {
    let draw = |angle| picture::draw(&State { angle, velocity: 0.0 }, [64, 64]);
    let images = [0.0, 0.1, -0.1, 1.5, -1.5, 3.1].map(draw);
    for (i, a) in images.iter().enumerate() {
        assert_eq!(a.shape, [64, 64, 3]);
        assert!(images[i + 1..].iter().all(|b| b != a));
    }
    let light =
        |image: &Array, half: usize| image.bytes.chunks(6144).nth(half).unwrap().iter().map(|&x| x as u64).sum();
    let [top, bottom]: [u64; 2] = [light(&images[0], 0), light(&images[0], 1)];
    assert!(top > bottom);
    let [top, bottom]: [u64; 2] = [light(&images[5], 0), light(&images[5], 1)];
    assert!(top < bottom);
}
