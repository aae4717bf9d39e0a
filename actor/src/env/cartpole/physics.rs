//! Cart and pole, integrated as MuJoCo integrates dm_control's model of them.

const STEP: f64 = 0.01;
const GRAVITY: f64 = 9.81;
const POLE_MASS: f64 = 0.1;
const TOTAL_MASS: f64 = 1.0 + POLE_MASS;
/// Distance from the hinge to the pole's centre of mass.
const POLE_CENTRE: f64 = 0.5;
/// Inertia about the hinge: a capsule of radius 0.045 around a segment of length 1, and the parallel-axis term.
const POLE_INERTIA: f64 = 0.009_424_592_767_295_598 + POLE_MASS * POLE_CENTRE * POLE_CENTRE;
const CART_DAMPING: f64 = 5e-4;
const POLE_DAMPING: f64 = 2e-6;
const GEAR: f64 = 10.0;

/// The cart's position is limited to this on either side by a soft constraint.
pub const RAIL: f64 = 1.8;
/// `solreflimit` of the slider: time constant in seconds, at damping ratio 1.
const LIMIT_TIME: f64 = 0.08;
/// `solimp`: impedance at the limit and beyond `LIMIT_WIDTH` behind it.
const LIMIT_IMPEDANCE: [f64; 2] = [0.9, 0.95];
const LIMIT_WIDTH: f64 = 0.001;
/// Inverse inertia that the constraint's regularisation is scaled with: the mean over the cart's body at rest.
const LIMIT_INVERSE_MASS: f64 = 0.973_352_054_461_412_7;

type Pair = [f64; 2];

/// Position and velocity of cart (metres along the rail) and pole (radians, 0 upright, clockwise seen from the front).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Cart position, pole angle.
    pub position: Pair,
    /// Their rates, per second.
    pub velocity: Pair,
}

impl State {
    /// The state 0.01 s later under a constant control in [-1, 1]: one step of the classic Runge-Kutta method.
    pub fn advance(&self, control: f64) -> Self {
        let rate = |s: &Self| (s.velocity, s.acceleration(control));
        let k1 = rate(self);
        let k2 = rate(&self.along(k1, STEP / 2.0));
        let k3 = rate(&self.along(k2, STEP / 2.0));
        let k4 = rate(&self.along(k3, STEP));
        let mean =
            |a: Pair, b: Pair, c: Pair, d: Pair| std::array::from_fn(|i| (a[i] + 2.0 * b[i] + 2.0 * c[i] + d[i]) / 6.0);
        self.along((mean(k1.0, k2.0, k3.0, k4.0), mean(k1.1, k2.1, k3.1, k4.1)), STEP)
    }

    fn along(&self, (velocity, acceleration): (Pair, Pair), time: f64) -> Self {
        Self {
            position: std::array::from_fn(|i| self.position[i] + time * velocity[i]),
            velocity: std::array::from_fn(|i| self.velocity[i] + time * acceleration[i]),
        }
    }

    fn acceleration(&self, control: f64) -> Pair {
        let (sin, cos) = self.position[1].sin_cos();
        let [cart_rate, pole_rate] = self.velocity;
        let moment = POLE_MASS * POLE_CENTRE;
        let coupling = moment * cos;
        let force = [
            GEAR * control - CART_DAMPING * cart_rate + moment * sin * pole_rate * pole_rate,
            moment * GRAVITY * sin - POLE_DAMPING * pole_rate,
        ];
        let determinant = TOTAL_MASS * POLE_INERTIA - coupling * coupling;
        // Response of both accelerations to a unit force on the cart: the first column of the inverse mass matrix.
        let response = [POLE_INERTIA / determinant, -coupling / determinant];
        let free = [
            response[0] * force[0] + response[1] * force[1],
            response[1] * force[0] + TOTAL_MASS / determinant * force[1],
        ];
        let limit = self.limit_force(free[0], response[0]);
        [free[0] + response[0] * limit, free[1] + response[1] * limit]
    }

    /// Force of the rail's end on the cart, given the cart's acceleration without it and the acceleration that a unit
    /// force gives: MuJoCo's regularised constraint, which for a single row has a closed solution.
    fn limit_force(&self, free: f64, response: f64) -> f64 {
        let overshoot = self.position[0].abs() - RAIL;
        if overshoot <= 0.0 {
            return 0.0;
        }
        let inward = -self.position[0].signum();
        let [low, high] = LIMIT_IMPEDANCE;
        let impedance = low + (high - low) * smooth_step(overshoot / LIMIT_WIDTH);
        let stiffness = 1.0 / (high * LIMIT_TIME).powi(2);
        let damping = 2.0 / (high * LIMIT_TIME);
        let wanted = stiffness * impedance * overshoot - damping * inward * self.velocity[0];
        let softness = (1.0 - impedance) / impedance * LIMIT_INVERSE_MASS;
        inward * ((wanted - inward * free) / (softness + response)).max(0.0)
    }
}

/// From 0 to 1 over [0, 1], quadratic on both sides of the middle.
fn smooth_step(x: f64) -> f64 {
    let x = x.min(1.0);
    if x < 0.5 { 2.0 * x * x } else { 1.0 - 2.0 * (1.0 - x) * (1.0 - x) }
}
