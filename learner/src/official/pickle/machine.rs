//! The stack machine.

use std::collections::HashMap;

use super::PickleError;
use super::array::{Element, Stored};

/// Operations that a pickle may have. An array takes about 30, so this is enough for tens of thousands.
const MOST: usize = 1 << 20;

/// An object; others are named by their index in the list of all. Content that nobody asks for is not kept.
#[derive(Debug)]
pub enum Node<'a> {
    None,
    Flag(bool),
    Integer(i64),
    Float,
    Text(&'a str),
    Bytes(&'a [u8]),
    Tuple(Vec<usize>),
    List(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    Object(Object),
    Element(Element),
    /// None until its content is set.
    Array(Option<Stored<'a>>),
}

/// What a pickle of arrays may name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Object {
    /// The class of arrays.
    Class,
    /// Makes an element type.
    Element,
    /// Makes an empty array, whose content is then set.
    Reconstruct,
    /// Makes a number.
    Scalar,
    /// Makes an array with its content (protocol 5).
    FromBuffer,
}

impl Object {
    fn find(module: &str, name: &str) -> Result<Self, PickleError> {
        // NumPy 2 calls its core `_core`.
        Ok(match (module.replace("._core.", ".core.").as_str(), name) {
            ("numpy", "ndarray") => Self::Class,
            ("numpy", "dtype") => Self::Element,
            ("numpy.core.multiarray", "_reconstruct") => Self::Reconstruct,
            ("numpy.core.multiarray", "scalar") => Self::Scalar,
            ("numpy.core.numeric", "_frombuffer") => Self::FromBuffer,
            _ => return Err(PickleError::Object { name: format!("{module}.{name}") }),
        })
    }
}

/// All objects, and the index of the one that was pickled.
pub fn run(bytes: &[u8]) -> Result<(Vec<Node<'_>>, usize), PickleError> {
    let mut machine = Machine { bytes, at: 0, nodes: vec![], stack: vec![], marks: vec![], memo: HashMap::new() };
    for _ in 0..MOST {
        match machine.byte()? {
            b'.' => {
                let root = machine.pop()?;
                return Ok((machine.nodes, root));
            }
            operation => machine.step(operation)?,
        }
    }
    Err(machine.broken(format!("more than {MOST} operations")))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<usize>,
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
            b'G' => self.take(8).and_then(|_| self.push(Node::Float)),
            0x8c => self.text(1),
            b'X' => self.text(4),
            0x8d => self.text(8),
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
            b'R' => self.call(),
            b'b' => self.set_state(),
            other => {
                Err(self.broken(format!("operation {other:#04x} is none of those for arrays and plain containers")))
            }
        }
    }

    fn broken(&self, why: impl Into<String>) -> PickleError {
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

    fn push(&mut self, node: Node<'a>) -> Result<(), PickleError> {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
        Ok(())
    }

    /// The object on top, above the last mark.
    fn top(&self) -> Result<usize, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let above = self.stack.get(floor..).and_then(<[usize]>::last);
        above.copied().ok_or_else(|| self.broken("nothing on the stack"))
    }

    fn pop(&mut self) -> Result<usize, PickleError> {
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
            return Err(self.broken("an integer of more than 64 bits"));
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
        self.push(Node::Object(Object::find(module, name)?))
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
        let object = Object::find(module, name)?;
        self.push(Node::Object(object))
    }

    /// Rebuild what one of the known objects makes of its arguments.
    fn call(&mut self) -> Result<(), PickleError> {
        let (arguments, object) = (self.pop()?, self.pop()?);
        let (Node::Object(object), Node::Tuple(arguments)) = (&self.nodes[object], &self.nodes[arguments]) else {
            return Err(self.broken("a call of something that cannot be called"));
        };
        let arguments: Vec<&Node> = arguments.iter().map(|node| &self.nodes[*node]).collect();
        let made = match (object, &arguments[..]) {
            (Object::Reconstruct, [Node::Object(Object::Class), ..]) => Some(Node::Array(None)),
            (Object::Element, [Node::Text(name), ..]) => Element::parse(name).map(Node::Element),
            (Object::Scalar, [Node::Element(element), Node::Bytes(bytes)]) => self.array(*element, &[], false, bytes),
            (
                Object::FromBuffer,
                [Node::Bytes(bytes), Node::Element(element), Node::Tuple(shape), Node::Text(order)],
            ) => self.array(*element, shape, *order == "F", bytes),
            _ => None,
        };
        let made = made.ok_or_else(|| self.broken(format!("{object:?} of arguments that make no array of numbers")))?;
        self.push(made)
    }

    /// Set the content of an array, or the byte order of an element type.
    fn set_state(&mut self) -> Result<(), PickleError> {
        let (state, target) = (self.pop()?, self.top()?);
        let Node::Tuple(state) = &self.nodes[state] else { return Err(self.broken("a state that is no tuple")) };
        let state: Vec<&Node> = state.iter().map(|node| &self.nodes[*node]).collect();
        match (&self.nodes[target], &state[..]) {
            (Node::Element(_), [_, Node::Text("<" | "|" | "="), ..]) => Ok(()),
            (Node::Element(_), [_, Node::Text(">"), ..]) => Err(self.broken("an array with the largest byte first")),
            (
                Node::Array(None),
                [_, Node::Tuple(shape), Node::Element(element), Node::Flag(fortran), Node::Bytes(bytes)],
            ) => {
                let array = self.array(*element, shape, *fortran, bytes);
                let array = array.ok_or_else(|| self.broken("an array whose shape does not fit its bytes"))?;
                self.nodes[target] = array;
                Ok(())
            }
            _ => Err(self.broken("a state that is none of an array")),
        }
    }

    fn array(&self, element: Element, shape: &[usize], fortran: bool, bytes: &'a [u8]) -> Option<Node<'a>> {
        let side = |node: &usize| match self.nodes[*node] {
            Node::Integer(side) => usize::try_from(side).ok(),
            _ => None,
        };
        let shape = shape.iter().map(side).collect::<Option<Vec<usize>>>()?;
        Stored::new(element, shape, fortran, bytes).map(|array| Node::Array(Some(array)))
    }
}
