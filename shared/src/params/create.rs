//! Creation: parameters appear on first use; three ways bring pretrained weights in.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Device, Tensor, Var};
use parking_lot::Mutex;

use super::select::{below, check_new, join, relative, select};
use super::store::{Entry, Origin, check_dtype, check_shape};
use super::{Create, Init, ParamError, Params, Phase, Region, Run, Scope, Source, Tree, Weight, tree};
use crate::array::Array;
use crate::snapshot::format::SnapshotView;

impl Params<Create> {
    /// An empty store on the CPU; the seed decides every initial value.
    pub fn new(seed: u64) -> Self {
        Self::on(seed, Device::Cpu)
    }

    /// An empty store whose variables live on a device.
    pub fn on(seed: u64, device: Device) -> Self {
        Self::with_phase(BTreeMap::new(), Create { seed, device, saved: None, frozen: Mutex::new(Vec::new()) })
    }

    /// A store that goes on from a checkpoint: a path in `saved` takes its value from there, by key, and then neither its
    /// initialiser nor its loader nor its module's hook runs. [`Params::seal`] checks that the checkpoint was used up and
    /// that no trainable parameter is without a saved value.
    pub fn restoring(seed: u64, saved: Tree) -> Self {
        Self::restoring_on(seed, Device::Cpu, saved)
    }

    /// [`Params::restoring`] with variables on a device.
    pub fn restoring_on(seed: u64, device: Device, saved: Tree) -> Self {
        let mut params = Self::on(seed, device);
        params.phase.saved = Some(Mutex::new(saved));
        params
    }

    /// The parameter at `path`, made with `init` on first use; the same one ever after.
    pub fn get(&self, path: &str, shape: &[usize], init: Init) -> Result<Weight, ParamError> {
        if self.entries.read().contains_key(path) {
            return self.lookup_shaped(path, shape);
        }
        if let Some(value) = self.saved(path) {
            check_shape::<Create>(&self.entries.read(), path, &value.shape, shape)?;
            return self.adopt(path, value);
        }
        let values = init.values(self.phase.seed, path, shape.iter().product());
        self.insert(path, &Array::f32(shape, &values), Origin::Init)
    }

    /// The parameter at `path`, made by `load` on first use; the loader runs once, and not at all when the path is restored.
    ///
    /// ```
    /// # use shared::{array::Array, params::{Create, ParamError, Params}};
    /// # fn main() -> Result<(), ParamError> {
    /// let params = Params::<Create>::new(0);
    /// let first = params.get_with("enc/vit/cls", || Ok(Array::f32(&[2], &[1.0, 2.0])))?;
    /// let again = params.get_with("enc/vit/cls", || panic!("runs once"))?;
    /// assert_eq!(first.to_vec()?, again.to_vec()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_with(&self, path: &str, load: impl FnOnce() -> Result<Array, ParamError>) -> Result<Weight, ParamError> {
        if self.entries.read().contains_key(path) {
            return self.lookup(path);
        }
        match self.saved(path) {
            Some(value) => self.adopt(path, value),
            None => self.insert(path, &load()?, Origin::Given("loaded".to_string())),
        }
    }

    /// Put a whole tree below a prefix; all of it or nothing. Every path must be new. [`Params::find`] returns it.
    pub fn put(&self, tree: Tree, prefix: &str) -> Result<(), ParamError> {
        let prefix = prefix.trim_end_matches('/');
        let mut made: BTreeMap<String, Entry> = BTreeMap::new();
        for (key, value) in tree {
            let path = join(prefix, &key);
            check_new(&self.entries.read(), &path)?;
            check_new(&made, &path)?;
            let (value, origin) = match self.peek_saved(&path) {
                Some(saved) => {
                    check_shape::<Create>(&self.entries.read(), &path, &saved.shape, &value.shape)?;
                    (saved, Origin::Restored)
                }
                None => (value, Origin::Given("put".to_string())),
            };
            let weight = Weight::Var(self.variable(&path, &value)?);
            made.insert(path, Entry { weight, frozen: false, origin });
        }
        for (path, entry) in made {
            self.saved(&path);
            self.recorder.created(&path);
            self.entries.write().insert(path, entry);
        }
        Ok(())
    }

    /// Build a module below `prefix`, then hand the parameters it just created to `postinit`, which returns them filled:
    /// the same keys, shapes and types, or nothing is kept. The hook does not run when the parameters exist already or
    /// come from a checkpoint.
    ///
    /// ```
    /// # use shared::{array::Array, params::{Create, Init, ParamError, Params}};
    /// # fn main() -> Result<(), ParamError> {
    /// let params = Params::<Create>::new(0);
    /// let kernel = params.wrap(
    ///     "enc/vit",
    ///     |scope| scope.weight("kernel", &[1, 2], Init::Zeros),
    ///     |mut tree| {
    ///         tree.insert("kernel".to_string(), Array::f32(&[1, 2], &[3.0, 4.0]));
    ///         Ok(tree)
    ///     },
    /// )?;
    /// assert_eq!(kernel.to_vec()?, [3.0, 4.0]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wrap<M>(
        &self,
        prefix: &str,
        build: impl FnOnce(&Scope) -> Result<M, ParamError>,
        postinit: impl FnOnce(Tree) -> Result<Tree, ParamError>,
    ) -> Result<M, ParamError> {
        let prefix = prefix.trim_end_matches('/');
        let before: BTreeSet<String> = self.paths().into_iter().collect();
        let module = build(&Scope::root(self).sub(prefix));
        let new: Vec<String> = self.paths().into_iter().filter(|p| below(p, prefix) && !before.contains(p)).collect();
        let filled = module.and_then(|module| self.fill(prefix, &new, postinit).map(|()| module));
        if filled.is_err() {
            // A second try must start from nothing, or it would keep initial values and skip the hook.
            let mut entries = self.entries.write();
            new.iter().for_each(|path| drop(entries.remove(path)));
        }
        filled
    }

    fn fill(
        &self,
        prefix: &str,
        new: &[String],
        postinit: impl FnOnce(Tree) -> Result<Tree, ParamError>,
    ) -> Result<(), ParamError> {
        let fresh = |path: &String| self.entries.read().get(path).is_some_and(|e| e.origin == Origin::Init);
        if new.is_empty() || !new.iter().all(fresh) {
            return Ok(());
        }
        let subtree: Tree = {
            let entries = self.entries.read();
            let key = |path: &str| relative(prefix, path).to_string();
            new.iter().map(|p| Ok((key(p), tree::to_array(&entries[p].weight)?))).collect::<Result<_, ParamError>>()?
        };
        let filled = postinit(subtree.clone())?;
        tree::check_same_keys(prefix, &subtree, &filled)?;
        let mut entries = self.entries.write();
        let mut writes = Vec::with_capacity(filled.len());
        for (key, value) in &filled {
            let path = join(prefix, key);
            check_shape::<Create>(&entries, &path, &value.shape, &subtree[key].shape)?;
            writes.push((self.tensor(&path, value)?, path));
        }
        for (tensor, path) in writes {
            self.recorder.modified(&path);
            let Some(entry) = entries.get_mut(&path) else { continue };
            entry.origin = Origin::Given("hook".to_string());
            if let Weight::Var(var) = &entry.weight {
                var.set(&tensor)?;
            }
        }
        Ok(())
    }

    /// Enter the weights of a region (a frozen encoder, shared by all processes of a host) below a prefix: mapped, frozen,
    /// read in place. `source` says where they came from.
    pub fn put_region(&self, prefix: &str, region: Region, source: &str) -> Result<(), ParamError> {
        let prefix = prefix.trim_end_matches('/');
        let view = SnapshotView::open(region)?;
        let mut entries = self.entries.write();
        let mut paths = Vec::new();
        for (path, mapped) in view.iter() {
            let path = join(prefix, path);
            check_new(&entries, &path)?;
            paths.push((path, mapped.clone()));
        }
        for (path, mapped) in paths {
            self.recorder.created(&path);
            let origin = Origin::Given(source.to_string());
            entries.insert(path, Entry { weight: Weight::Mapped(mapped), frozen: true, origin });
        }
        self.phase.frozen.lock().push(prefix.to_string());
        Ok(())
    }

    /// Say where the values of the selected parameters came from; frozen records repeat it.
    pub fn set_source(&self, pattern: &str, source: &str) -> Result<(), ParamError> {
        let mut entries = self.entries.write();
        for path in select(&entries, pattern, Create::NAME)?.paths {
            if let Some(entry) = entries.get_mut(&path) {
                entry.origin = Origin::Given(source.to_string());
            }
        }
        Ok(())
    }

    /// Freeze what a pattern selects, now and until the store is sealed. A pattern that selects nothing is an error.
    pub fn freeze(&self, pattern: &str) -> Result<(), ParamError> {
        mark_frozen(&mut self.entries.write(), pattern)?;
        self.phase.frozen.lock().push(pattern.trim_end_matches('/').to_string());
        Ok(())
    }

    /// End creation: fix the set of parameters, and take the digest of each frozen subtree.
    pub fn seal(self) -> Result<Params<Run>, ParamError> {
        let mut entries = self.entries.into_inner();
        let patterns = self.phase.frozen.into_inner();
        patterns.iter().try_for_each(|pattern| mark_frozen(&mut entries, pattern))?;
        if let Some(saved) = self.phase.saved {
            check_restored(&entries, saved.into_inner())?;
        }
        Params::<Run>::sealed(entries, patterns)
    }

    fn insert(&self, path: &str, value: &Array, origin: Origin) -> Result<Weight, ParamError> {
        check_new(&self.entries.read(), path)?;
        let weight = Weight::Var(self.variable(path, value)?);
        self.recorder.created(path);
        self.entries.write().insert(path.to_string(), Entry { weight: weight.clone(), frozen: false, origin });
        Ok(weight)
    }

    fn adopt(&self, path: &str, value: Array) -> Result<Weight, ParamError> {
        self.insert(path, &value, Origin::Restored)
    }

    /// Take a value out of the checkpoint.
    fn saved(&self, path: &str) -> Option<Array> {
        self.phase.saved.as_ref()?.lock().remove(path)
    }

    fn peek_saved(&self, path: &str) -> Option<Array> {
        self.phase.saved.as_ref()?.lock().get(path).cloned()
    }

    fn tensor(&self, path: &str, value: &Array) -> Result<Tensor, ParamError> {
        check_dtype::<Create>(path, value)?;
        Ok(value.to_tensor()?.to_device(&self.phase.device)?)
    }

    fn variable(&self, path: &str, value: &Array) -> Result<Var, ParamError> {
        Ok(Var::from_tensor(&self.tensor(path, value)?)?)
    }
}

impl Source for Params<Create> {
    fn weight(&self, path: &str, shape: &[usize], init: Init) -> Result<Weight, ParamError> {
        self.get(path, shape, init)
    }
}

fn mark_frozen(entries: &mut BTreeMap<String, Entry>, pattern: &str) -> Result<(), ParamError> {
    for path in select(entries, pattern, Create::NAME)?.paths {
        if let Some(entry) = entries.get_mut(&path) {
            entry.frozen = true;
        }
    }
    Ok(())
}

/// A checkpoint must hold every trainable parameter and nothing that no module asked for.
fn check_restored(entries: &BTreeMap<String, Entry>, left: Tree) -> Result<(), ParamError> {
    let unsaved = |e: &Entry| !e.frozen && e.origin == Origin::Init;
    let missing: Vec<String> = entries.iter().filter(|(_, e)| unsaved(e)).map(|(p, _)| p.clone()).collect();
    match missing.is_empty() && left.is_empty() {
        true => Ok(()),
        false => {
            Err(ParamError::Keys { what: "checkpoint".to_string(), missing, unexpected: left.into_keys().collect() })
        }
    }
}
