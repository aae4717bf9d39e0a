//! PyTorch tensors as a pickle holds them: views of storages that lie outside of it.

use super::machine::Node;

/// Most axes of a tensor; PyTorch's own kernels stop at 64.
pub const AXES: usize = 64;

/// The elements that tensors view. They are not in the pickle, which only says where to find them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage<'a> {
    /// Its class, which says the type of its elements: `FloatStorage`.
    pub class: &'a str,
    /// What it is called where the elements are.
    pub key: &'a str,
    /// Elements.
    pub length: usize,
    /// For a part of another storage, as files of the first PyTorch versions have them: where it begins and how many elements
    /// it has.
    pub part: Option<(usize, usize)>,
}

impl<'a> Storage<'a> {
    /// From a persistent id: "storage", class, key, place, length and, in the old format, None or (key, start, length) of a part.
    pub(super) fn new(id: &[&Node<'a>], nodes: &[Node<'a>]) -> Option<Self> {
        let [Node::Text("storage"), Node::Global(class), Node::Text(key), _, length, rest @ ..] = id else {
            return None;
        };
        let part = match rest {
            [] | [Node::None] => None,
            [Node::Tuple(part)] => match part[..] {
                [_, start, length] => Some((count(&nodes[start])?, count(&nodes[length])?)),
                _ => return None,
            },
            _ => return None,
        };
        Some(Self { class, key, length: count(length)?, part })
    }
}

/// A tensor: which elements of a storage it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub(super) storage: usize,
    /// Element of the storage where it begins.
    pub offset: usize,
    /// Sides.
    pub shape: Vec<usize>,
    /// Elements from one index to the next, for each axis.
    pub strides: Vec<usize>,
    /// Element type where the storage does not say it: `torch.float8_e5m2`.
    pub dtype: Option<String>,
}

impl View {
    /// From the arguments of `_rebuild_tensor` or one of its successors; `storage` is the index of the first.
    pub(super) fn new(storage: usize, arguments: &[&Node], nodes: &[Node]) -> Option<Self> {
        let [Node::Storage(_), offset, Node::Tuple(shape), Node::Tuple(strides), rest @ ..] = arguments else {
            return None;
        };
        let dtype = match rest {
            [_, _, Node::Global(dtype), ..] => Some(format!("torch.{dtype}")),
            _ => None,
        };
        let (shape, strides) = (counts(shape, nodes)?, counts(strides, nodes)?);
        let view = Self { storage, offset: count(offset)?, shape, strides, dtype };
        (view.shape.len() == view.strides.len()).then_some(view)
    }
}

fn counts(items: &[usize], nodes: &[Node]) -> Option<Vec<usize>> {
    if items.len() > AXES {
        return None;
    }
    items.iter().map(|item| count(&nodes[*item])).collect()
}

fn count(node: &Node) -> Option<usize> {
    match node {
        Node::Integer(count) => usize::try_from(*count).ok(),
        _ => None,
    }
}
