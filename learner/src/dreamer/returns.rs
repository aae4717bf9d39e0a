//! Lambda returns (official `agent.py`, lambda_return).

/// Arguments of [`lambda_return`], each [rows, L] in row-major order. A reward belongs to the state it arrives with.
pub struct Episode<'a> {
    /// Whether the episode ends here.
    pub last: &'a [f32],
    /// Whether nothing follows here (1 - continue).
    pub term: &'a [f32],
    /// Reward.
    pub reward: &'a [f32],
    /// Value to bootstrap from.
    pub boot: &'a [f32],
}

/// Returns [rows, L-1]: R_t = r_{t+1} + live * ((1 - cont) * boot_{t+1} + cont * R_{t+1}), from the last bootstrap value backwards.
pub fn lambda_return(e: &Episode, length: usize, discount: f32, lambda: f32) -> Vec<f32> {
    let rows = e.reward.len() / length;
    let mut returns = vec![0.0; rows * (length - 1)];
    for n in 0..rows {
        let at = |values: &[f32], t: usize| values[n * length + t];
        let mut next = at(e.boot, length - 1);
        for t in (0..length - 1).rev() {
            let live = (1.0 - at(e.term, t + 1)) * discount;
            let cont = (1.0 - at(e.last, t + 1)) * lambda;
            next = at(e.reward, t + 1) + (1.0 - cont) * live * at(e.boot, t + 1) + live * cont * next;
            returns[n * (length - 1) + t] = next;
        }
    }
    returns
}
