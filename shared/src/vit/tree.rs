//! A trunk's parameters by path.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{PREFIX, VitError, VitSpec};

/// Parameters by path below the trunk's prefix: shape and values.
pub type Tree = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// An untrained trunk of these sizes: the control that says what pretraining is worth.
pub fn random(spec: &VitSpec, seed: u64) -> Tree {
    let fill = |(path, shape, init): (String, Vec<usize>, crate::params::Init)| {
        let values = init.values(seed, &format!("{PREFIX}/{path}"), shape.iter().product());
        (path, (shape, values))
    };
    spec.params().into_iter().map(fill).collect()
}

/// Whether a tree is a trunk of these sizes and all its values are finite; the error names the first parameter that is not so.
pub fn check(tree: &Tree, spec: &VitSpec, file: &str) -> Result<(), VitError> {
    spec.validate()?;
    let wanted = spec.params();
    for (path, shape, _) in &wanted {
        let name = format!("{PREFIX}/{path}");
        let Some((found, values)) = tree.get(path) else {
            let nearest = nearest(path, tree.keys().map(String::as_str));
            return Err(VitError::Missing { file: file.into(), name, nearest });
        };
        if found != shape {
            return Err(VitError::Shape { file: file.into(), name, found: found.clone(), wanted: shape.clone() });
        }
        if !values.iter().all(|x| x.is_finite()) {
            return Err(VitError::Spec(format!(
                "{file}: `{name}` has a value that is not finite; fetch or save it again"
            )));
        }
    }
    let known: BTreeSet<&str> = wanted.iter().map(|(path, ..)| path.as_str()).collect();
    match tree.keys().find(|path| !known.contains(path.as_str())) {
        None => Ok(()),
        Some(path) => Err(VitError::Unexpected {
            file: file.into(),
            name: format!("{PREFIX}/{path}"),
            nearest: nearest(path, known.into_iter()),
        }),
    }
}

/// A trunk in two: what is frozen, and what trains if `blocks` do, which is these blocks and the final norm. Without blocks nothing
/// trains.
pub fn split(tree: Tree, blocks: &Range<usize>) -> (Tree, Tree) {
    tree.into_iter().partition(|(path, _)| !trains(path, blocks))
}

/// Whether a path below the trunk's prefix belongs to what trains.
pub(super) fn trains(path: &str, blocks: &Range<usize>) -> bool {
    match path.strip_prefix("blocks/").and_then(|rest| rest.split('/').next()) {
        Some(index) => index.parse().is_ok_and(|index| blocks.contains(&index)),
        None => !blocks.is_empty() && path.starts_with("norm/"),
    }
}

/// The three names most like `name`, comma separated.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut ranked: Vec<(usize, &str)> = names.map(|n| (strsim::damerau_levenshtein(name, n), n)).collect();
    ranked.sort();
    ranked.iter().take(3).map(|(_, n)| *n).collect::<Vec<_>>().join(", ")
}
