//! How the two pendulums start, move and are rewarded.

use std::f64::consts::PI;

use rand::{Rng, RngExt};

/// Angle and velocity of a pendulum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Radians, 0 upright, clockwise as drawn; it counts turns.
    pub angle: f64,
    /// Radians a second.
    pub velocity: f64,
}

/// Which pendulum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Gymnasium's Pendulum-v1: a rod of 1 kg and 1 m under a gravity of 10 m/s², without friction, in steps of 0.05 s.
    Gymnasium,
    /// dm_control's: a ball of 1 kg at 0.5 m, friction in the hinge, in steps of 0.02 s.
    Suite,
}

impl Model {
    /// Name of the task.
    pub fn task(self) -> &'static str {
        match self {
            Self::Gymnasium => "pendulum",
            Self::Suite => "pendulum_swingup",
        }
    }

    /// Greatest torque, newton metres.
    pub fn torque(self) -> f32 {
        match self {
            Self::Gymnasium => 2.0,
            Self::Suite => 1.0,
        }
    }

    /// Greatest speed that the model lets the pendulum reach, radians a second.
    pub fn speed(self) -> f32 {
        match self {
            Self::Gymnasium => 8.0,
            Self::Suite => f32::INFINITY,
        }
    }

    /// Steps after which an episode is cut.
    pub fn steps(self) -> usize {
        match self {
            Self::Gymnasium => 200,
            Self::Suite => 1000,
        }
    }

    /// A random start: any angle; at rest in dm_control's, with at most 1 radian a second in Gymnasium's.
    pub fn start(self, rng: &mut impl Rng) -> State {
        let angle = rng.random_range(-PI..PI);
        let velocity = match self {
            Self::Gymnasium => rng.random_range(-1.0..1.0),
            Self::Suite => 0.0,
        };
        State { angle, velocity }
    }

    /// The state one step later, and the reward. Gymnasium's reward is minus a cost of the state before and the torque;
    /// dm_control's is 1 where the state after is within 8 degrees of upright, else 0.
    pub fn advance(self, state: State, torque: f64) -> (State, f64) {
        match self {
            Self::Gymnasium => {
                let cost = wrapped(state.angle).powi(2) + 0.1 * state.velocity.powi(2) + 0.001 * torque * torque;
                (rod(state, torque), -cost)
            }
            Self::Suite => {
                let next = ball(state, torque);
                let upright = next.angle.cos() >= 8f64.to_radians().cos();
                (next, if upright { 1.0 } else { 0.0 })
            }
        }
    }
}

/// The same direction in [-π, π).
fn wrapped(angle: f64) -> f64 {
    (angle + PI).rem_euclid(2.0 * PI) - PI
}

/// A rod of mass m and length l has the inertia m l² / 3 about its end. The new speed moves the angle.
fn rod(state: State, torque: f64) -> State {
    const STEP: f64 = 0.05;
    const GRAVITY: f64 = 10.0;
    const SPEED: f64 = 8.0;
    let acceleration = 1.5 * GRAVITY * state.angle.sin() + 3.0 * torque;
    let velocity = (state.velocity + acceleration * STEP).clamp(-SPEED, SPEED);
    State { angle: state.angle + velocity * STEP, velocity }
}

/// As MuJoCo's Euler integrator does it: damping is implicit, and the new speed moves the angle.
fn ball(state: State, torque: f64) -> State {
    const STEP: f64 = 0.02;
    const MOMENT: f64 = 9.81 * 1.0 * 0.5;
    /// A ball of radius 0.05 about its centre, and the parallel-axis term.
    const INERTIA: f64 = 0.4 * 0.05 * 0.05 + 0.5 * 0.5;
    const DAMPING: f64 = 0.1;
    let force = torque + MOMENT * state.angle.sin() - DAMPING * state.velocity;
    let velocity = state.velocity + STEP * force / (INERTIA + STEP * DAMPING);
    State { angle: state.angle + STEP * velocity, velocity }
}
