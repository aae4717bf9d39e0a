//! The newest of something that is replaced as a whole.

use std::sync::Arc;

use parking_lot::RwLock;

/// Holds one value; readers clone its `Arc`, a writer swaps it. The lock guards nothing else and is never held longer.
pub struct Store<T> {
    held: RwLock<Option<Arc<T>>>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { held: RwLock::new(None) }
    }
}

impl<T> Store<T> {
    /// The newest value; none before the first.
    pub fn newest(&self) -> Option<Arc<T>> {
        self.held.read().clone()
    }

    /// Replace it. Memory of the old one is freed when its last reader is done.
    pub fn swap(&self, value: Arc<T>) {
        let old = self.held.write().replace(value);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_value_lives_until_its_last_reader_is_done() {
        let store = Store::default();
        assert!(store.newest().is_none());
        store.swap(Arc::new(1));
        let reader = store.newest().unwrap();
        let old = Arc::downgrade(&reader);
        store.swap(Arc::new(2));
        assert_eq!((*reader, *store.newest().unwrap()), (1, 2));
        drop(reader);
        assert!(old.upgrade().is_none());
    }
}
