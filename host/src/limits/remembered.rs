//! What is known of each of many clients: of those that were seen last, so that memory is bounded.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

/// Addresses, and usernames by address, that are remembered.
const REMEMBERED_MAX: usize = 100_000;

/// A value for each key; of too many keys, those that were asked for last.
pub struct Remembered<K, V>(Mutex<LruCache<K, Arc<V>>>);

impl<K: Hash + Eq, V> Remembered<K, V> {
    pub fn new() -> Self {
        // With a capacity it would take the memory at once.
        Remembered(Mutex::new(LruCache::unbounded()))
    }

    /// What is known of this one; `make` says it where nothing is.
    pub fn of(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut remembered = self.locked();
        let value = remembered.get_or_insert(key, || Arc::new(make())).clone();
        if remembered.len() > REMEMBERED_MAX {
            remembered.pop_lru();
        }
        value
    }

    pub fn forget(&self, key: &K) {
        self.locked().pop(key);
    }

    fn locked(&self) -> MutexGuard<'_, LruCache<K, Arc<V>>> {
        // What `make` panics over is not added.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
