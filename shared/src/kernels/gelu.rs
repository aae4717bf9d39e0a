//! GELU with the exact error function, as a loop the compiler vectorises.

use multiversion::multiversion;

use super::math::exp;

/// The error function, absolute error below 3e-7 (Abramowitz and Stegun 7.1.26).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_8) * t - 0.284_496_72) * t + 0.254_829_6) * t;
    (1.0 - p * exp(-a * a)).copysign(x)
}

/// GELU in place: x * Phi(x).
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn gelu(values: &mut [f32]) {
    for x in values {
        *x = 0.5 * *x * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2));
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
}
