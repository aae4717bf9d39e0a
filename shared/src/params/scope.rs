//! A place in the tree of parameters, from which a module takes its weights.

use super::{Init, ParamError, Weight};

/// Where weights come from: created, looked up, or mapped.
pub trait Source {
    /// The parameter at `path`. In creation it is made with `init` on first use; later phases only look up.
    /// Another shape than the existing parameter's is an error.
    fn weight(&self, path: &str, shape: &[usize], init: Init) -> Result<Weight, ParamError>;
}

/// A source and a prefix.
#[derive(Clone)]
pub struct Scope<'a> {
    source: &'a dyn Source,
    prefix: String,
}

impl<'a> Scope<'a> {
    /// The root of a source.
    pub fn root(source: &'a dyn Source) -> Self {
        Self { source, prefix: String::new() }
    }

    /// The scope below this one.
    pub fn sub(&self, name: &str) -> Self {
        Self { source: self.source, prefix: self.path(name) }
    }

    /// The parameter `name` of this scope.
    pub fn weight(&self, name: &str, shape: &[usize], init: Init) -> Result<Weight, ParamError> {
        self.source.weight(&self.path(name), shape, init)
    }

    /// Full path of a name below this scope.
    pub fn path(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_string(),
            prefix => format!("{prefix}/{name}"),
        }
    }
}
