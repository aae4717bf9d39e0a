//! Pickles of arrays, tensors and plain containers, read without running anything, and written.
//!
//! A pickle is a program for a stack machine, and may name any Python object to be called. This reader knows the operations
//! that containers, NumPy arrays and PyTorch tensors need (protocols 2 to 5) and the few objects that rebuild those; any other
//! is an error that names it. Memory stays in proportion to the file: long data are slices of it, and operations are counted.
//! Operations as in Python's `Lib/pickletools.py`; how an array is rebuilt as in NumPy's `ndarray.__reduce__` and `__setstate__`,
//! a tensor as in PyTorch's `torch/_utils.py` and `torch/serialization.py`.

mod array;
mod machine;
mod object;
mod tensor;
mod write;

use std::collections::BTreeMap;

pub use array::Stored;
use machine::Node;
pub use object::Dialect;
pub use tensor::{Storage, View};
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
    size: usize,
}

/// One object of a pickle.
#[derive(Clone, Copy, Debug)]
pub struct Value<'p> {
    pickle: &'p Pickle<'p>,
    node: &'p Node<'p>,
}

impl<'a> Pickle<'a> {
    /// Read a pickle of NumPy arrays; bytes behind its end are ignored, as Python does.
    pub fn read(bytes: &'a [u8]) -> Result<Self, PickleError> {
        Self::read_as(bytes, Dialect::Arrays)
    }

    /// [`Self::read`] for a pickle that may name the objects of a dialect.
    pub fn read_as(bytes: &'a [u8], dialect: Dialect) -> Result<Self, PickleError> {
        machine::run(bytes, dialect).map(|(nodes, root, size)| Self { nodes, root, size })
    }

    /// The object that was pickled.
    pub fn value(&self) -> Value<'_> {
        self.at(self.root)
    }

    /// Bytes up to the pickle's end; another may follow.
    pub fn size(&self) -> usize {
        self.size
    }

    /// All storages that are named, in the order of the pickle.
    pub fn storages(&self) -> impl Iterator<Item = &Storage<'a>> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Storage(storage) => Some(&**storage),
            _ => None,
        })
    }

    fn at(&self, node: usize) -> Value<'_> {
        Value { pickle: self, node: &self.nodes[node] }
    }
}

impl<'p> Value<'p> {
    /// Entries of a dict with text keys; none for anything else.
    pub fn entries(self) -> Option<BTreeMap<&'p str, Value<'p>>> {
        let Node::Dict(entries) = self.node else { return None };
        let entry = |(key, value): &(usize, usize)| Some((self.pickle.at(*key).text()?, self.pickle.at(*value)));
        entries.iter().map(entry).collect()
    }

    /// Keys and values of a dict, whatever the keys are; none for anything else.
    pub fn pairs(self) -> Option<impl ExactSizeIterator<Item = (Value<'p>, Value<'p>)>> {
        let Node::Dict(entries) = self.node else { return None };
        Some(entries.iter().map(move |(key, value)| (self.pickle.at(*key), self.pickle.at(*value))))
    }

    /// Items of a list; none for anything else.
    pub fn items(self) -> Option<impl ExactSizeIterator<Item = Value<'p>>> {
        let Node::List(items) = self.node else { return None };
        Some(items.iter().map(move |item| self.pickle.at(*item)))
    }

    /// A text; none for anything else.
    pub fn text(self) -> Option<&'p str> {
        let Node::Text(text) = self.node else { return None };
        Some(text)
    }

    /// An integer, Python's or NumPy's; none for anything else.
    pub fn integer(self) -> Option<i64> {
        match self.node {
            Node::Integer(value) => Some(*value),
            Node::Array(Some(array)) => array.integer(),
            _ => None,
        }
    }

    /// True or false; none for anything else.
    pub fn flag(self) -> Option<bool> {
        let Node::Flag(flag) = self.node else { return None };
        Some(*flag)
    }

    /// An array; none for anything else.
    pub fn array(self) -> Option<&'p Stored<'p>> {
        let Node::Array(array) = self.node else { return None };
        array.as_deref()
    }

    /// A tensor and the storage that it views; none for anything else.
    pub fn tensor(self) -> Option<(&'p View, &'p Storage<'p>)> {
        let Node::Tensor(view) = self.node else { return None };
        match self.pickle.at(view.storage).node {
            Node::Storage(storage) => Some((view, storage)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
