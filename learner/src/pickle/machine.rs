//! The stack machine.

use std::collections::HashMap;

use super::PickleError;
use super::array::{Element, Stored};
use super::object::{Dialect, Object};
use super::tensor::{Storage, View};

/// Operations that a pickle may have. An array takes about 30, so this is enough for tens of thousands.
const MOST: usize = 1 << 20;

/// An object; others are named by their index in the list of all. Content that nobody asks for is not kept.
#[derive(Debug)]
pub enum Node<'a> {
    None,
    Flag(bool),
    Integer(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Tuple(Vec<usize>),
    List(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    Object(Object),
    Element(Element),
    /// None until its content is set.
    Array(Option<Box<Stored<'a>>>),
    Storage(Box<Storage<'a>>),
    Tensor(Box<View>),
    /// A class of storages or an element type of PyTorch, by its name.
    Global(&'a str),
    /// Something harmless that nobody asks for.
    Inert,
}

/// All objects, the index of the one that was pickled, and where the pickle ends.
pub fn run(bytes: &[u8], dialect: Dialect) -> Result<(Vec<Node<'_>>, usize, usize), PickleError> {
    let mut machine =
        Machine { bytes, dialect, at: 0, nodes: vec![], stack: vec![], marks: vec![], memo: HashMap::new() };
    for _ in 0..MOST {
        match machine.byte()? {
            b'.' => {
                let root = machine.pop()?;
                return Ok((machine.nodes, root, machine.at));
            }
            operation => machine.step(operation)?,
        }
    }
    Err(machine.broken(format!("more than {MOST} operations")))
}

pub struct Machine<'a> {
    bytes: &'a [u8],
    dialect: Dialect,
    at: usize,
    pub nodes: Vec<Node<'a>>,
    pub stack: Vec<usize>,
    /// Heights of the stack at which marks were set.
    marks: Vec<usize>,
    memo: HashMap<u64, usize>,
}

impl<'a> Machine<'a> {
    fn step(&mut self, operation: u8) -> Result<(), PickleError> {
        match operation {
            0x80 => self.protocol(),
            0x95 => self.number(8).map(drop), // A frame: a hint for readers of streams.
            b'N' => self.push(Node::None),
            0x88 | 0x89 => self.push(Node::Flag(operation == 0x88)),
            b'K' => self.integer(1, false),
            b'M' => self.integer(2, false),
            b'J' => self.integer(4, true),
            0x8a => self.number(1).and_then(|size| self.integer(size, true)),
            0x8b => self.number(4).and_then(|size| self.integer(size, true)),
            b'G' => self.take(8).and_then(|_| self.push(Node::Inert)),
            0x8c => self.text(1),
            b'X' => self.text(4),
            0x8d => self.text(8),
            b'U' => self.text(1), // Of Python 2, which has no other.
            b'T' => self.text(4),
            b'C' => self.binary(1),
            b'B' => self.binary(4),
            0x8e | 0x96 => self.binary(8),
            b')' => self.push(Node::Tuple(vec![])),
            0x85..=0x87 => self.tuple(usize::from(operation - 0x84)),
            b't' => self.pop_mark().and_then(|items| self.push(Node::Tuple(items))),
            b']' => self.push(Node::List(vec![])),
            b'a' => self.pop().and_then(|item| self.append(vec![item])),
            b'e' => self.pop_mark().and_then(|items| self.append(items)),
            b'}' => self.push(Node::Dict(vec![])),
            b's' => self.pop_many(2).and_then(|items| self.set_items(&items)),
            b'u' => self.pop_mark().and_then(|items| self.set_items(&items)),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            0x94 => self.remember(self.memo.len() as u64),
            b'q' => self.number(1).and_then(|key| self.remember(key)),
            b'r' => self.number(4).and_then(|key| self.remember(key)),
            b'h' => self.number(1).and_then(|key| self.recall(key)),
            b'j' => self.number(4).and_then(|key| self.recall(key)),
            b'c' => self.object_by_lines(),
            0x93 => self.object(),
            b'R' | 0x81 => self.call(),
            b'Q' => self.persistent(),
            b'b' => self.set_state(),
            other => {
                Err(self.broken(format!("operation {other:#04x} is none of those for arrays and plain containers")))
            }
        }
    }

    pub fn broken(&self, why: impl Into<String>) -> PickleError {
        PickleError::Broken { at: self.at, why: why.into() }
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], PickleError> {
        let rest = &self.bytes[self.at..];
        let found = usize::try_from(count).ok().and_then(|count| rest.get(..count));
        let found =
            found.ok_or_else(|| self.broken(format!("cut short: {count} bytes expected, {} left", rest.len())))?;
        self.at += found.len();
        Ok(found)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// An unsigned number of at most 8 bytes, smallest byte first.
    fn number(&mut self, size: u64) -> Result<u64, PickleError> {
        Ok(self.take(size)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn protocol(&mut self) -> Result<(), PickleError> {
        match self.byte()? {
            0..=5 => Ok(()),
            other => Err(self.broken(format!("protocol {other} is not known"))),
        }
    }

    pub fn push(&mut self, node: Node<'a>) -> Result<(), PickleError> {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
        Ok(())
    }

    /// The object on top, above the last mark.
    pub fn top(&self) -> Result<usize, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let above = self.stack.get(floor..).and_then(<[usize]>::last);
        above.copied().ok_or_else(|| self.broken("nothing on the stack"))
    }

    pub fn pop(&mut self) -> Result<usize, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<usize>, PickleError> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        Ok(items)
    }

    fn pop_mark(&mut self) -> Result<Vec<usize>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.broken("no mark on the stack"))?;
        Ok(self.stack.split_off(mark))
    }

    fn integer(&mut self, size: u64, signed: bool) -> Result<(), PickleError> {
        let bytes = self.take(size)?;
        if bytes.len() > 8 {
            return self.push(Node::Inert);
        }
        let negative = signed && bytes.last().is_some_and(|byte| byte >> 7 == 1);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Node::Integer(i64::from_le_bytes(wide)))
    }

    fn text(&mut self, size: u64) -> Result<(), PickleError> {
        let size = self.number(size)?;
        let text = std::str::from_utf8(self.take(size)?).map_err(|_| self.broken("text that is not UTF-8"))?;
        self.push(Node::Text(text))
    }

    fn binary(&mut self, size: u64) -> Result<(), PickleError> {
        let size = self.number(size)?;
        let bytes = self.take(size)?;
        self.push(Node::Bytes(bytes))
    }

    fn tuple(&mut self, count: usize) -> Result<(), PickleError> {
        let items = self.pop_many(count)?;
        self.push(Node::Tuple(items))
    }

    fn append(&mut self, items: Vec<usize>) -> Result<(), PickleError> {
        let list = self.top()?;
        match &mut self.nodes[list] {
            Node::List(list) => list.extend(items),
            _ => return Err(self.broken("items for something that is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[usize]) -> Result<(), PickleError> {
        let dict = self.top()?;
        let (pairs, rest) = items.as_chunks();
        match &mut self.nodes[dict] {
            Node::Dict(dict) if rest.is_empty() => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            _ => return Err(self.broken("entries for something that is no dict, or a key without a value")),
        }
        Ok(())
    }

    fn remember(&mut self, key: u64) -> Result<(), PickleError> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Result<(), PickleError> {
        let node = self.memo.get(&key).copied().ok_or_else(|| self.broken(format!("no object was kept as {key}")))?;
        self.stack.push(node);
        Ok(())
    }

    fn object_by_lines(&mut self) -> Result<(), PickleError> {
        let (module, name) = (self.line()?, self.line()?);
        self.push(self.dialect.find(module, name)?)
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        let length = self.bytes[self.at..].iter().position(|byte| *byte == b'\n');
        let length = length.ok_or_else(|| self.broken("cut short: a line without an end"))?;
        let line = self.take(length as u64 + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| self.broken("text that is not UTF-8"))
    }

    fn object(&mut self) -> Result<(), PickleError> {
        let (name, module) = (self.pop()?, self.pop()?);
        let (Node::Text(module), Node::Text(name)) = (&self.nodes[module], &self.nodes[name]) else {
            return Err(self.broken("an object whose name is no text"));
        };
        let object = self.dialect.find(module, name)?;
        self.push(object)
    }
}
