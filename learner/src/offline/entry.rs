//! One array of a file, held against the space that the run has for it.

use shared::array::{Array, DType};
use shared::env::Space;

use super::npy::{Kind, Npy};

/// What is wrong, and at which step if it is at one.
pub type Fault = (Option<usize>, String);

/// The entry of T steps, [T, …] in its space's type. Steps that are `spare` may have a one-hot vector of zeros: what stands there
/// has no effect.
pub fn convert(npy: &Npy, space: &Space, steps: usize, bounded: bool, spare: &[u8]) -> Result<Array, Fault> {
    let shape = [&[steps], space.shape.as_slice()].concat();
    let fits = npy.shape == shape;
    match space.classes {
        Some(classes) if npy.shape == [&shape[..], &[classes]].concat() && !(fits && classes == 1) => {
            one_hot(npy, space, &shape, spare)
        }
        Some(_) if fits => classes(npy.numbers(), space, &shape),
        None if fits && space.dtype == DType::U8 => match npy.kind {
            Kind::U8 => Ok(Array { dtype: DType::U8, shape, bytes: npy.bytes.clone() }),
            other => Err((None, format!("holds {other:?}, must hold U8, as images do"))),
        },
        None if fits => numbers(npy, space, &shape, bounded),
        _ => Err((None, format!("has the shape {:?}, must have {shape:?}{}", npy.shape, also(space, &shape)))),
    }
}

fn also(space: &Space, shape: &[usize]) -> String {
    space.classes.map_or(String::new(), |classes| format!(", or one-hot {:?}", [shape, &[classes]].concat()))
}

fn classes(numbers: Vec<f64>, space: &Space, shape: &[usize]) -> Result<Array, Fault> {
    let count = space.classes.unwrap_or(0);
    let wrong = |x: &f64| x.fract() != 0.0 || !(0.0..count as f64).contains(x);
    if let Some(at) = numbers.iter().position(wrong) {
        let what = format!("is {}, must be a class from 0 to {}", numbers[at], count.saturating_sub(1));
        return Err((Some(at / space.elements().max(1)), what));
    }
    Ok(match space.dtype {
        DType::U8 => Array::u8(shape, &numbers.iter().map(|x| *x as u8).collect::<Vec<_>>()),
        _ => Array::i32(shape, &numbers.iter().map(|x| *x as i32).collect::<Vec<_>>()),
    })
}

fn one_hot(npy: &Npy, space: &Space, shape: &[usize], spare: &[u8]) -> Result<Array, Fault> {
    let (numbers, count) = (npy.numbers(), space.classes.unwrap_or(1));
    let mut found = Vec::with_capacity(numbers.len() / count);
    for (index, vector) in numbers.chunks_exact(count).enumerate() {
        let step = index / space.elements().max(1);
        let ones = vector.iter().filter(|x| **x == 1.0).count();
        let zeros = vector.iter().filter(|x| **x == 0.0).count();
        let free = ones == 0 && spare.get(step).is_some_and(|spare| *spare != 0);
        if ones + zeros != count || !(ones == 1 || free) {
            return Err((Some(step), format!("is {vector:?}, must be one-hot: one 1, else 0")));
        }
        found.push(vector.iter().position(|x| *x == 1.0).unwrap_or(0) as f64);
    }
    classes(found, space, shape)
}

fn numbers(npy: &Npy, space: &Space, shape: &[usize], bounded: bool) -> Result<Array, Fault> {
    let numbers: Vec<f32> = npy.numbers().into_iter().map(|x| x as f32).collect();
    let outside = |x: f32| bounded && !(space.low..=space.high).contains(&x);
    if let Some(at) = numbers.iter().position(|x| !x.is_finite() || outside(*x)) {
        let what = format!("is {}, must be a finite number from {} to {}", numbers[at], space.low, space.high);
        return Err((Some(at / space.elements().max(1)), what));
    }
    Ok(Array::f32(shape, &numbers))
}
