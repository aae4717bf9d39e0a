//! Reading, checking and drawing actions.

use std::collections::BTreeMap;

use rand::{Rng, RngExt};
use shared::array::{Array, DType};
use shared::env::{Space, Spaces};

use super::{Action, EnvError};

/// Check that an action has exactly the keys of the space, each of the right type and shape, finite and, where it
/// counts classes, in range. Bounds of continuous entries are not checked: policies sample outside, wrappers clip.
pub(super) fn check(task: &str, spaces: &Spaces, action: &Action) -> Result<(), EnvError> {
    for (key, space) in spaces {
        fetch(task, key, space, action)?;
    }
    match action.values.keys().find(|key| !spaces.contains_key(*key)) {
        None => Ok(()),
        Some(key) => {
            let known: Vec<_> = spaces.keys().map(|k| format!("`{k}`")).collect();
            Err(fault(task, key, "no entry of the action space".into(), known.join(", ")))
        }
    }
}

/// The one class of a discrete entry, checked.
pub(super) fn class(task: &str, key: &str, space: &Space, action: &Action) -> Result<usize, EnvError> {
    let array = fetch(task, key, space, action)?;
    Ok(array.to_f32().first().map_or(0, |&x| x as usize))
}

/// The numbers of a continuous entry, checked.
pub(super) fn numbers(task: &str, key: &str, space: &Space, action: &Action) -> Result<Vec<f32>, EnvError> {
    Ok(fetch(task, key, space, action)?.to_f32())
}

fn fetch<'a>(task: &str, key: &str, space: &Space, action: &'a Action) -> Result<&'a Array, EnvError> {
    let array = action.values.get(key).ok_or_else(|| fault(task, key, "missing".into(), describe(space)))?;
    match mismatch(array, space) {
        None => Ok(array),
        Some(found) => Err(fault(task, key, found, describe(space))),
    }
}

fn fault(task: &str, key: &str, found: String, expected: String) -> EnvError {
    EnvError::Action { task: task.into(), key: key.into(), found, expected }
}

/// What is wrong with an array as a value of the space, its bounds aside; `None` if nothing is.
pub(super) fn mismatch(array: &Array, space: &Space) -> Option<String> {
    if array.dtype != space.dtype || array.shape != space.shape {
        return Some(format!("{:?} {:?}", array.dtype, array.shape));
    }
    if array.bytes.len() != array.elements() * array.dtype.size() {
        return Some(format!("{:?} {:?} in {} bytes", array.dtype, array.shape, array.bytes.len()));
    }
    let valid = |x: &f32| match space.classes {
        Some(classes) => *x >= 0.0 && (*x as usize) < classes,
        None => x.is_finite(),
    };
    if array.dtype == DType::U8 && space.classes.is_none() {
        return None; // a byte is always finite: spare images the conversion
    }
    array.to_f32().into_iter().find(|x| !valid(x)).map(|x| format!("{x}"))
}

/// A space in words, for error messages.
pub(super) fn describe(space: &Space) -> String {
    let kind = match space.classes {
        Some(classes) => format!("classes 0 to {}", classes.saturating_sub(1)),
        None if space.low.is_finite() || space.high.is_finite() => {
            format!("finite numbers, {} to {}", space.low, space.high)
        }
        None => "finite numbers".into(),
    };
    format!("{:?} {:?}, {kind}", space.dtype, space.shape)
}

/// A uniformly random value of every entry. Unbounded numbers are drawn from [-1, 1]. For random baselines and
/// calibration frames.
pub fn sample_action(spaces: &Spaces, rng: &mut impl Rng) -> BTreeMap<String, Array> {
    spaces.iter().map(|(key, space)| (key.clone(), sample_uniform(space, rng))).collect()
}

/// A uniformly random value of one space; unbounded numbers are drawn from [-1, 1].
pub(super) fn sample_uniform(space: &Space, rng: &mut impl Rng) -> Array {
    let n = space.elements();
    let classes = space.classes.unwrap_or(1 << 8).max(1);
    match space.dtype {
        DType::I32 => Array::i32(&space.shape, &draw(n, || rng.random_range(0..classes as i32))),
        DType::U16 => {
            let top = classes.min(1 << 16) - 1;
            Array::u16(&space.shape, &draw(n, || rng.random_range(0..=top as u16)))
        }
        DType::U64 => Array::u64(&space.shape, &draw(n, || rng.random_range(0..classes as u64))),
        DType::U8 => {
            let top = classes.min(1 << 8) - 1;
            Array::u8(&space.shape, &draw(n, || rng.random_range(0..=top as u8)))
        }
        DType::F16 => {
            let (low, high) = finite_bounds(space);
            Array::f16(&space.shape, &draw(n, || half::f16::from_f32(rng.random_range(low..=high))))
        }
        DType::F32 => {
            let (low, high) = finite_bounds(space);
            Array::f32(&space.shape, &draw(n, || rng.random_range(low..=high)))
        }
    }
}

/// The bounds of a continuous space, or -1 and 1 where it has none.
pub(super) fn finite_bounds(space: &Space) -> (f32, f32) {
    let bounded = space.low.is_finite() && space.high.is_finite() && space.low <= space.high;
    if bounded { (space.low, space.high) } else { (-1.0, 1.0) }
}

fn draw<T>(n: usize, mut one: impl FnMut() -> T) -> Vec<T> {
    (0..n).map(|_| one()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    fn spaces() -> Spaces {
        [
            ("key".to_string(), Space::discrete(&[2], 3)),
            ("arm".to_string(), Space::bounded(&[2, 2], -3.0, 5.0)),
            ("free".to_string(), Space::vector(&[])),
        ]
        .into_iter()
        .collect()
    }

    fn error_of(key: &str, array: Option<Array>) -> String {
        let mut values = sample_action(&spaces(), &mut Xoshiro256PlusPlus::seed_from_u64(0));
        match array {
            Some(array) => values.insert(key.into(), array),
            None => values.remove(key),
        };
        check("toy", &spaces(), &Action::act(values)).unwrap_err().to_string()
    }

    #[test]
    fn bad_actions_are_named() {
        for (key, array, parts) in [
            ("arm", None, ["missing", "F32 [2, 2]"]),
            ("arm", Some(Array::f32(&[4], &[0.0; 4])), ["F32 [4]", "F32 [2, 2]"]),
            ("arm", Some(Array::i32(&[2, 2], &[0; 4])), ["I32 [2, 2]", "F32 [2, 2]"]),
            ("arm", Some(Array::f32(&[2, 2], &[0.0, f32::NAN, 0.0, 0.0])), ["NaN", "finite"]),
            ("free", Some(Array::scalar(f32::INFINITY)), ["inf", "finite"]),
            ("key", Some(Array::i32(&[2], &[0, 3])), ["3", "classes 0 to 2"]),
            ("key", Some(Array::i32(&[2], &[-1, 0])), ["-1", "classes 0 to 2"]),
            ("foot", Some(Array::scalar(0.0)), ["no entry", "`arm`"]),
        ] {
            let text = error_of(key, array);
            for part in ["`toy`", &format!("`{key}`"), parts[0], parts[1]] {
                assert!(text.contains(part), "{text} lacks {part}");
            }
        }
        let short = Array { dtype: DType::F32, shape: vec![2, 2], bytes: vec![0; 3] };
        assert!(error_of("arm", Some(short)).contains("3 bytes"));
    }

    proptest! {
        #[test]
        fn sampled_actions_are_valid_and_in_bounds(seed: u64, classes in 1usize..300, low in -9f32..9.0, width in 0f32..9.0) {
            let spaces: Spaces = [
                ("d".to_string(), Space::discrete(&[3], classes)),
                ("c".to_string(), Space::bounded(&[4], low, low + width)),
            ].into_iter().collect();
            let values = sample_action(&spaces, &mut Xoshiro256PlusPlus::seed_from_u64(seed));
            prop_assert!(values["c"].to_f32().iter().all(|x| (low..=low + width).contains(x)));
            prop_assert!(check("toy", &spaces, &Action::act(values)).is_ok());
        }
    }
}
