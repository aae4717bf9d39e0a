//! Nonlinearities of Vision Transformers, in place, as loops that the compiler vectorises.

use multiversion::multiversion;

use super::math::{sigmoid, tanh};

/// The error function, absolute error below 4e-7: a quotient of polynomials fitted by least squares to 0 to 4; beyond, it is 1 within
/// 2e-8.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let z = x * x;
    let p = -1.381_298_6e-8 * z + 4.809_261_6e-6;
    let p = (((p * z + 3.838_091e-4) * z + 3.843_36e-3) * z + 0.054_359_01) * z + 0.184_720_3;
    let q = (6.428_509e-5 * z + 1.311_891e-3) * z + 0.015_464_811;
    let q = ((q * z + 0.113_852_68) * z + 0.497_037_65) * z + 1.0;
    x * (p * z + std::f32::consts::FRAC_2_SQRT_PI) / q
}

/// GELU in place: x * Phi(x).
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn gelu(values: &mut [f32]) {
    for x in values {
        *x = 0.5 * *x * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// GELU in its approximation by tanh.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn gelu_tanh(values: &mut [f32]) {
    const ROOT: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
    for x in values {
        *x = 0.5 * *x * (1.0 + tanh(ROOT * (*x + 0.044_715 * *x * *x * *x)));
    }
}

/// `x * sigmoid(scale * x)`: SiLU with scale 1, CLIP's quick GELU with 1.702.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn swish(values: &mut [f32], scale: f32) {
    for x in values {
        *x *= sigmoid(scale * *x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vit_gelu_matches_known_values() {
        // x * Phi(x) in double precision.
        let known = [(0.0, 0.0), (1.0, 0.841_344_8), (-1.0, -0.158_655_25), (2.5, 2.484_475_8), (-6.0, -5.919_526e-9)];
        for (x, y) in known {
            let mut v = [x];
            gelu(&mut v);
            assert!((v[0] - y).abs() < 1e-6, "gelu({x}) = {} instead of {y}", v[0]);
        }
    }

    #[test]
    fn vit_approximations_of_gelu_match_known_values() {
        // 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) and x / (1 + exp(-1.702 x)), in double precision.
        for (x, by_tanh, quick) in
            [(1.0, 0.841_192, 0.845_796), (-1.0, -0.158_808, -0.154_204), (2.5, 2.484_916, 2.465_014)]
        {
            let (mut a, mut b) = ([x], [x]);
            gelu_tanh(&mut a);
            swish(&mut b, 1.702);
            assert!((a[0] - by_tanh).abs() < 2e-6, "gelu_tanh({x}) = {}", a[0]);
            assert!((b[0] - quick).abs() < 2e-6, "quick_gelu({x}) = {}", b[0]);
        }
    }
}
