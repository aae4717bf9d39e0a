//! The Python objects that a pickle may name, and what a call of each makes.

use super::PickleError;
use super::array::{AXES, Element, Stored};
use super::machine::{Machine, Node};
use super::tensor::{Storage, View};

/// Which objects a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Those of NumPy arrays.
    Arrays,
    /// Those of PyTorch tensors too, and a few that lie in checkpoints beside them.
    Tensors,
}

/// What a pickle may name to be called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Object {
    /// NumPy's class of arrays.
    Class,
    /// Makes an element type.
    Element,
    /// Makes an empty array, whose content is then set.
    Reconstruct,
    /// Makes a number.
    Scalar,
    /// Makes an array with its content (protocol 5).
    FromBuffer,
    /// Makes a dict.
    OrderedDict,
    /// Makes a tensor.
    RebuildTensor,
    /// Gives the tensor that is its first argument.
    RebuildParameter,
    /// Makes bytes of text, for NumPy numbers in protocol 2.
    Encode,
    /// Makes something that nobody asks for.
    Inert,
}

/// Most arguments of a call, and most parts of a state.
const ARGUMENTS: usize = 16;

impl Dialect {
    /// The object of that name.
    pub fn find<'a>(self, module: &str, name: &'a str) -> Result<Node<'a>, PickleError> {
        let tensors = (self == Self::Tensors).then(|| tensor_object(module, name)).flatten();
        let object = array_object(module, name).map(Node::Object).or(tensors);
        object.ok_or_else(|| PickleError::Object { name: format!("{module}.{name}") })
    }
}

fn array_object(module: &str, name: &str) -> Option<Object> {
    // NumPy 2 calls its core `_core`.
    Some(match (module.replace("._core.", ".core.").as_str(), name) {
        ("numpy", "ndarray") => Object::Class,
        ("numpy", "dtype") => Object::Element,
        ("numpy.core.multiarray", "_reconstruct") => Object::Reconstruct,
        ("numpy.core.multiarray", "scalar") => Object::Scalar,
        ("numpy.core.numeric", "_frombuffer") => Object::FromBuffer,
        _ => return None,
    })
}

fn tensor_object<'a>(module: &str, name: &'a str) -> Option<Node<'a>> {
    let known = |names: &[&str]| names.contains(&name);
    Some(match (module, name) {
        ("collections", "OrderedDict") => Node::Object(Object::OrderedDict),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
            Node::Object(Object::RebuildTensor)
        }
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            Node::Object(Object::RebuildParameter)
        }
        ("_codecs", "encode") => Node::Object(Object::Encode),
        ("argparse", "Namespace") | ("torch", "Size" | "device") | ("builtins" | "__builtin__", "set") => {
            Node::Object(Object::Inert)
        }
        ("torch" | "torch.cuda", _) if known(&STORAGES) => Node::Global(name),
        ("torch.storage", "TypedStorage" | "UntypedStorage" | "_TypedStorage" | "_UntypedStorage") => {
            Node::Global(name)
        }
        ("torch", _) if known(&DTYPES) => Node::Global(name),
        _ => return None,
    })
}

/// Classes of storages in `torch` and `torch.cuda`.
const STORAGES: [&str; 17] = [
    "FloatStorage",
    "HalfStorage",
    "BFloat16Storage",
    "DoubleStorage",
    "LongStorage",
    "IntStorage",
    "ShortStorage",
    "CharStorage",
    "ByteStorage",
    "BoolStorage",
    "ComplexFloatStorage",
    "ComplexDoubleStorage",
    "QInt8Storage",
    "QUInt8Storage",
    "QInt32Storage",
    "QUInt4x2Storage",
    "UntypedStorage",
];

/// Element types in `torch`.
const DTYPES: [&str; 20] = [
    "float32",
    "float16",
    "bfloat16",
    "float64",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "complex64",
    "complex128",
    "complex32",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
];

impl<'a> Machine<'a> {
    /// Rebuild what one of the known objects makes of its arguments.
    pub(super) fn call(&mut self) -> Result<(), PickleError> {
        let (arguments, object) = (self.pop()?, self.pop()?);
        let Node::Object(object) = self.nodes[object] else {
            return Err(self.broken("a call of something that cannot be called"));
        };
        let indices = self.few(arguments)?;
        if let (Object::RebuildParameter, [tensor, ..]) = (object, &indices[..]) {
            self.stack.push(*tensor);
            return Ok(());
        }
        if object == Object::OrderedDict {
            return self.ordered_dict(&indices);
        }
        let made = self.made(object, &indices);
        let made = made.ok_or_else(|| self.broken(format!("{object:?} of arguments that make nothing known")))?;
        self.push(made)
    }

    /// The parts of a tuple, which are few.
    fn few(&self, tuple: usize) -> Result<Vec<usize>, PickleError> {
        match &self.nodes[tuple] {
            Node::Tuple(parts) if parts.len() <= ARGUMENTS => Ok(parts.clone()),
            Node::Tuple(parts) => Err(self.broken(format!("a call or a state with {} parts", parts.len()))),
            _ => Err(self.broken("arguments or a state that are no tuple")),
        }
    }

    fn made(&self, object: Object, indices: &[usize]) -> Option<Node<'a>> {
        let arguments: Vec<&Node> = indices.iter().map(|node| &self.nodes[*node]).collect();
        match (object, &arguments[..]) {
            (Object::Reconstruct, [Node::Object(Object::Class), ..]) => Some(Node::Array(None)),
            (Object::Element, [Node::Text(name), ..]) => Element::parse(name).map(Node::Element),
            (Object::Scalar, [Node::Element(element), Node::Bytes(bytes)]) => self.array(*element, &[], false, bytes),
            // The number's bytes are made by a call that is not made.
            (Object::Scalar, [Node::Element(_), Node::Inert]) => Some(Node::Inert),
            (
                Object::FromBuffer,
                [Node::Bytes(bytes), Node::Element(element), Node::Tuple(shape), Node::Text(order)],
            ) => self.array(*element, shape, *order == "F", bytes),
            (Object::RebuildTensor, arguments) => {
                View::new(*indices.first()?, arguments, &self.nodes).map(|view| Node::Tensor(Box::new(view)))
            }
            (Object::Encode, [Node::Text(_), Node::Text("latin1")]) | (Object::Inert, _) => Some(Node::Inert),
            _ => None,
        }
    }

    /// Empty, or of a list of pairs, as Python 2 writes it.
    fn ordered_dict(&mut self, arguments: &[usize]) -> Result<(), PickleError> {
        let entries = match arguments {
            [] => vec![],
            [list] => {
                self.take_pairs(*list).ok_or_else(|| self.broken("an OrderedDict of something else than pairs"))?
            }
            _ => return Err(self.broken("an OrderedDict of more than one argument")),
        };
        self.push(Node::Dict(entries))
    }

    /// The list is left empty, so that it cannot be copied again and again.
    fn take_pairs(&mut self, list: usize) -> Option<Vec<(usize, usize)>> {
        let Node::List(items) = &mut self.nodes[list] else { return None };
        let items = std::mem::take(items);
        let pair = |item: &usize| match &self.nodes[*item] {
            Node::Tuple(pair) | Node::List(pair) => <[usize; 2]>::try_from(&pair[..]).ok().map(|[k, v]| (k, v)),
            _ => None,
        };
        items.iter().map(pair).collect()
    }

    /// Set the content of an array, or the byte order of an element type.
    pub(super) fn set_state(&mut self) -> Result<(), PickleError> {
        let (state, target) = (self.pop()?, self.top()?);
        // Attributes of a dict or of a tensor, and the content of what nobody asks for.
        if matches!(self.nodes[target], Node::Inert | Node::Tensor(_))
            || matches!((&self.nodes[target], &self.nodes[state]), (Node::Dict(_), Node::Dict(_)))
        {
            return Ok(());
        }
        let state = self.few(state)?;
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
            // Its bytes are made by a call that is not made.
            (Node::Array(None), [_, Node::Tuple(_), Node::Element(_), Node::Flag(_), Node::Inert]) => Ok(()),
            _ => Err(self.broken("a state that is none of an array")),
        }
    }

    /// What stands outside of the pickle under a name: a storage.
    pub(super) fn persistent(&mut self) -> Result<(), PickleError> {
        let id = self.pop()?;
        let id = self.few(id)?;
        let id: Vec<&Node> = id.iter().map(|node| &self.nodes[*node]).collect();
        let storage =
            Storage::new(&id, &self.nodes).ok_or_else(|| self.broken("a persistent id that is no storage"))?;
        self.push(Node::Storage(Box::new(storage)))
    }

    fn array(&self, element: Element, shape: &[usize], fortran: bool, bytes: &'a [u8]) -> Option<Node<'a>> {
        let side = |node: &usize| match self.nodes[*node] {
            Node::Integer(side) => usize::try_from(side).ok(),
            _ => None,
        };
        if shape.len() > AXES {
            return None;
        }
        let shape = shape.iter().map(side).collect::<Option<Vec<usize>>>()?;
        Stored::new(element, shape, fortran, bytes).map(|array| Node::Array(Some(Box::new(array))))
    }
}
