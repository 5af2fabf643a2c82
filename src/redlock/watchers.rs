//! Who watches which lock through this gateway, and word for them that something may have happened to it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::lease::LockKey;

/// The locks that somebody watches.
#[derive(Default)]
pub struct Watchers {
    by_lock: Mutex<HashMap<LockKey, watch::Sender<()>>>,
    /// How many locks: what happens to a lock that nobody watches looks no further than here.
    count: AtomicUsize,
}

/// Somebody who watches a lock, until this is dropped.
pub struct Watcher {
    watchers: Arc<Watchers>,
    key: LockKey,
    changes: watch::Receiver<()>,
}

impl Watchers {
    pub fn watch(self: &Arc<Self>, key: &LockKey) -> Watcher {
        let mut by_lock = self.by_lock();
        let changes = by_lock.entry(key.clone()).or_insert_with(|| watch::Sender::new(())).subscribe();
        self.count.store(by_lock.len(), Ordering::Relaxed);
        Watcher { watchers: Arc::clone(self), key: key.clone(), changes }
    }

    /// Something happened to the lock, or may have.
    pub fn changed(&self, key: &LockKey) {
        if 0 < self.count.load(Ordering::Relaxed)
            && let Some(changes) = self.by_lock().get(key)
        {
            changes.send_replace(());
        }
    }

    fn by_lock(&self) -> MutexGuard<'_, HashMap<LockKey, watch::Sender<()>>> {
        self.by_lock.lock().expect("no code panics while it holds this")
    }
}

impl Watcher {
    /// Returns when something may have happened since this returned last.
    pub async fn changed(&mut self) {
        // The other side is there for as long as this is.
        let _ = self.changes.changed().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut by_lock = self.watchers.by_lock();
        // This one is still counted.
        if by_lock.get(&self.key).is_some_and(|changes| changes.receiver_count() <= 1) {
            by_lock.remove(&self.key);
        }
        self.watchers.count.store(by_lock.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn all_who_watch_a_lock_are_told_once_and_nobody_else() {
        let watchers = Arc::new(Watchers::default());
        let [a, b] = ["a", "b"].map(|name| LockKey::new(name).unwrap());
        let mut told = [watchers.watch(&a), watchers.watch(&a), watchers.watch(&b)];
        watchers.changed(&a);
        watchers.changed(&a);
        assert_eq!(told.each_mut().map(|watcher| watcher.changed().now_or_never().is_some()), [true, true, false]);
        assert_eq!(told.each_mut().map(|watcher| watcher.changed().now_or_never().is_some()), [false; 3]);
        let [first, mut second, third] = told;
        drop(first);
        watchers.changed(&a);
        assert!(second.changed().now_or_never().is_some());
        drop((second, third));
        assert!(watchers.by_lock().is_empty() && watchers.count.load(Ordering::Relaxed) == 0);
    }
}
