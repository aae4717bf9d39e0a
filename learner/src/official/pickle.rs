//! Pickles of arrays and plain containers, read without running anything, and written.
//!
//! A pickle is a program for a stack machine, and may name any Python object to be called. This reader knows the operations
//! that containers and NumPy arrays need (protocols 3 to 5) and the five NumPy objects that rebuild an array; any other is an
//! error that names it. Memory stays in proportion to the file: long data are slices of it, and operations are counted.
//! Operations as in Python's `Lib/pickletools.py`; how an array is rebuilt as in NumPy's `ndarray.__reduce__` and `__setstate__`.

mod array;
mod machine;
mod write;

use std::collections::BTreeMap;

pub use array::Stored;
use machine::Node;
pub use write::{Item, write};

/// Why a pickle was refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PickleError {
    /// It asks for a Python object that is no part of an array.
    #[error("it asks for the Python object `{name}`; only arrays and plain containers are read")]
    Object {
        /// Module and name.
        name: String,
    },
    /// It is cut short, damaged, or holds something else than arrays and plain containers.
    #[error("byte {at}: {why}")]
    Broken {
        /// Where reading stopped.
        at: usize,
        /// What is wrong.
        why: String,
    },
}

/// A pickle that was read whole. Objects may be shared, so they are kept in a list and refer to each other by index.
#[derive(Debug)]
pub struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: usize,
}

/// One object of a pickle.
#[derive(Clone, Copy, Debug)]
pub struct Value<'p> {
    pickle: &'p Pickle<'p>,
    node: &'p Node<'p>,
}

impl<'a> Pickle<'a> {
    /// Read a pickle; bytes behind its end are ignored, as Python does.
    pub fn read(bytes: &'a [u8]) -> Result<Self, PickleError> {
        machine::run(bytes).map(|(nodes, root)| Self { nodes, root })
    }

    /// The object that was pickled.
    pub fn value(&self) -> Value<'_> {
        Value { pickle: self, node: &self.nodes[self.root] }
    }
}

impl<'p> Value<'p> {
    /// Entries of a dict with text keys; none for anything else.
    pub fn entries(self) -> Option<BTreeMap<&'p str, Value<'p>>> {
        let Node::Dict(entries) = self.node else { return None };
        let entry = |(key, value): &(usize, usize)| match &self.pickle.nodes[*key] {
            Node::Text(key) => Some((*key, Value { pickle: self.pickle, node: &self.pickle.nodes[*value] })),
            _ => None,
        };
        entries.iter().map(entry).collect()
    }

    /// An integer, Python's or NumPy's; none for anything else.
    pub fn integer(self) -> Option<i64> {
        match self.node {
            Node::Integer(value) => Some(*value),
            Node::Array(Some(array)) => array.integer(),
            _ => None,
        }
    }

    /// An array; none for anything else.
    pub fn array(self) -> Option<&'p Stored<'p>> {
        match self.node {
            Node::Array(array) => array.as_ref(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
