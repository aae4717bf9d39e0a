//! Nonlinearities of Vision Transformers, in place, as loops that the compiler vectorises.

use multiversion::{multiversion, target::target_cfg_f};

use super::math::{mul_add, sigmoid, tanh};

/// erf(x / sqrt(2)), so near to it that [`gelu`] is within 1.5e-6: a polynomial in x^2, moved to -1 to 1, fitted so that the largest
/// error of GELU is least; beyond 5.25 it counts as 1. A quotient of two polynomials would be shorter, but a division takes as long as
/// sixteen multiplications.
#[inline(always)]
fn erf_of_root_half<const FUSED: bool>(x: f32) -> f32 {
    const LIMIT: f32 = 5.25;
    const FACTORS: [f32; 13] = [
        0.001_973_303_3,
        -0.005_659_263_5,
        0.006_163_405_7,
        -0.007_210_26,
        0.015_826_564,
        -0.027_332_697,
        0.037_654_016,
        -0.049_676_66,
        0.063_936_16,
        -0.079_565_27,
        0.099_300_98,
        -0.134_252_64,
        0.269_318_6,
    ];
    let x = x.clamp(-LIMIT, LIMIT);
    let t = mul_add::<FUSED>(x, x * (2.0 / (LIMIT * LIMIT)), -1.0);
    let p = FACTORS.into_iter().reduce(|p, factor| mul_add::<FUSED>(p, t, factor)).unwrap_or(0.0);
    (x * p).clamp(-1.0, 1.0)
}

/// GELU in place: x * Phi(x).
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn gelu(values: &mut [f32]) {
    for x in values {
        let half = 0.5 * *x;
        *x = half + half * erf_of_root_half::<{ target_cfg_f!(target_feature = "fma") }>(*x);
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
