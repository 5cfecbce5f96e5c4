//! Values of the clients that were seen last, so that memory is bounded.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

/// Addresses, or usernames with addresses, that are remembered.
const REMEMBERED_MAX: usize = 100_000;

/// A value for each key. If there are too many keys, the least recently used one is forgotten.
pub struct Remembered<K, V>(Mutex<LruCache<K, Arc<V>>>);

impl<K: Hash + Eq, V> Remembered<K, V> {
    pub fn new() -> Self {
        // With a capacity the cache would allocate all of its memory at once.
        Remembered(Mutex::new(LruCache::unbounded()))
    }

    /// The value of this key; `make` makes it if there is none.
    pub fn of(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut remembered = self.locked();
        let value = remembered.get_or_insert(key, || Arc::new(make())).clone();
        if remembered.len() > REMEMBERED_MAX {
            remembered.pop_lru();
        }
        value
    }

    /// The value of this key, if there is one. It does not count as used.
    pub fn known(&self, key: &K) -> Option<Arc<V>> {
        self.locked().peek(key).cloned()
    }

    pub fn forget(&self, key: &K) {
        self.locked().pop(key);
    }

    fn locked(&self) -> MutexGuard<'_, LruCache<K, Arc<V>>> {
        // If `make` panics, nothing is added.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
