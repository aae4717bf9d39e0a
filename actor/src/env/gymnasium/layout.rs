//! What an environment shows and takes, and where in the shared memory.

use std::collections::BTreeMap;

use serde::Deserialize;
use shared::array::Array;
use shared::env::{Space, Spaces};

use super::memory::Memory;
use crate::env::{Outcome, Step};

/// Every entry begins at a multiple of this many bytes.
const ALIGN: usize = 64;
/// Most bytes of one step.
const MOST: usize = 1 << 30;

/// The first message of a child: its entries, observations before actions in memory.
#[derive(Deserialize)]
pub struct Hello {
    observations: Vec<Entry>,
    actions: Vec<Entry>,
    renders: bool,
}

#[derive(Deserialize)]
struct Entry {
    key: String,
    dtype: String,
    shape: Vec<usize>,
    classes: Option<usize>,
}

impl Entry {
    fn space(&self, action: bool) -> Result<Space, String> {
        let space = match (self.dtype.as_str(), self.classes) {
            ("u8", None) => Space { shape: self.shape.clone(), ..Space::image(1, 1, 1) },
            ("f32", None) if action => Space::bounded(&self.shape, -1.0, 1.0),
            ("f32", None) => Space::vector(&self.shape),
            ("i32", Some(classes)) if classes > 0 => Space::discrete(&self.shape, classes),
            (dtype, classes) => return Err(format!("`{}` is {dtype} with {classes:?} classes", self.key)),
        };
        match self.shape.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis)) {
            Some(n) if n > 0 && n <= MOST / space.dtype.size() => Ok(space),
            _ => Err(format!("`{}` has the shape {:?}", self.key, self.shape)),
        }
    }
}

/// One entry of a step or an action.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    key: String,
    space: Space,
    at: usize,
}

/// Entries of steps and actions, with their places.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    observations: Vec<Place>,
    actions: Vec<Place>,
    /// Bytes of memory.
    pub size: usize,
    /// Whether the environment can be drawn.
    pub renders: bool,
}

impl Layout {
    /// As the child says; what it says wrong comes back.
    pub fn new(hello: &Hello) -> Result<Self, String> {
        let mut size = 0;
        let mut place = |entry: &Entry, action: bool| {
            let (space, at) = (entry.space(action)?, size);
            size += (space.elements() * space.dtype.size()).next_multiple_of(ALIGN);
            if size > MOST {
                return Err(format!("a step takes more than {MOST} bytes"));
            }
            Ok(Place { key: entry.key.clone(), space, at })
        };
        let observations = hello.observations.iter().map(|entry| place(entry, false)).collect::<Result<_, _>>()?;
        let actions = hello.actions.iter().map(|entry| place(entry, true)).collect::<Result<_, _>>()?;
        Ok(Self { observations, actions, size, renders: hello.renders })
    }

    /// Spaces of steps, with flags and reward.
    pub fn obs_space(&self) -> Spaces {
        self.observations.iter().map(|p| (p.key.clone(), p.space.clone())).chain(Outcome::spaces()).collect()
    }

    /// Spaces of actions.
    pub fn act_space(&self) -> Spaces {
        self.actions.iter().map(|p| (p.key.clone(), p.space.clone())).collect()
    }

    /// The observation in memory, without flags and reward.
    pub fn read(&self, memory: &Memory) -> Step {
        let one = |place: &Place| {
            let mut array = Array::zeros(place.space.dtype, &place.space.shape);
            memory.read(place.at, &mut array.bytes);
            (place.key.clone(), array)
        };
        self.observations.iter().map(one).collect()
    }

    /// Put an action into memory; entries that are missing or of another size keep the zeros of their kind.
    pub fn write(&self, memory: &Memory, values: &BTreeMap<String, Array>) {
        for place in &self.actions {
            let zeros = Array::zeros(place.space.dtype, &place.space.shape);
            let value = values.get(&place.key).filter(|value| value.bytes.len() == zeros.bytes.len());
            memory.write(place.at, &value.unwrap_or(&zeros).bytes);
        }
    }

    /// Why an observation cannot come from its spaces: a class that does not exist, a number that is not finite.
    pub fn mismatch(&self, step: &Step) -> Option<String> {
        let wrong = |place: &Place| {
            let found = crate::env::action::mismatch(step.get(&place.key)?, &place.space)?;
            Some(format!("observation `{}` is {found}", place.key))
        };
        self.observations.iter().find_map(wrong)
    }
}

#[cfg(test)]
mod tests {
    use shared::array::DType;

    use super::*;
    use crate::env::gymnasium::memory;

    fn layout(text: &str) -> Result<Layout, String> {
        Layout::new(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn entries_lie_in_order_each_from_a_multiple_of_64_bytes_on() {
        let text = r#"{"renders": true,
            "observations": [
                {"key": "image", "dtype": "u8", "shape": [5, 5, 3], "classes": null},
                {"key": "vector", "dtype": "f32", "shape": [4], "classes": null}],
            "actions": [{"key": "action", "dtype": "i32", "shape": [], "classes": 3}]}"#;
        let layout = layout(text).unwrap();
        let expected = [("image", DType::U8, 0), ("vector", DType::F32, 128), ("action", DType::I32, 192)];
        let places = layout.observations.iter().chain(&layout.actions);
        let places: Vec<_> = places.map(|p| (p.key.as_str(), p.space.dtype, p.at)).collect();
        assert_eq!((places, layout.size), (expected.to_vec(), 256));
        let memory = Memory::map(memory::create().unwrap(), layout.size).unwrap();
        layout.write(&memory, &[("action".to_string(), Array::i32(&[], &[2]))].into());
        let mut action = [0; 4];
        memory.read(192, &mut action);
        assert_eq!(action, [2, 0, 0, 0]);
        memory.write(128, &f32::NAN.to_le_bytes());
        let step = layout.read(&memory);
        assert!(layout.mismatch(&step).unwrap().contains("`vector` is NaN"));
    }

    #[test]
    fn sizes_that_cannot_be_are_named() {
        for (dtype, shape, classes) in [
            ("f32", "[0]", "null"),
            ("f32", "[1000000, 1000000, 1000000, 1000000]", "null"),
            ("i32", "[2]", "null"),
            ("i32", "[2]", "0"),
            ("f64", "[2]", "null"),
        ] {
            let entry = format!(r#"{{"key": "odd", "dtype": "{dtype}", "shape": {shape}, "classes": {classes}}}"#);
            let text = format!(r#"{{"renders": false, "observations": [{entry}], "actions": []}}"#);
            assert!(layout(&text).unwrap_err().contains("`odd`"));
        }
    }
}
