//! Watching a lock through all gateways.

use std::sync::Arc;

use tokio::time::Instant;

use super::cluster::Cluster;
use super::waiters::TELL_EVERY;
use super::watchers::Watcher;
use crate::lease::LockKey;

/// Word of what may have happened to a lock, until this is dropped.
pub struct Watch {
    cluster: Arc<Cluster>,
    key: LockKey,
    watcher: Watcher,
    /// When the other gateways were last told that word is wanted.
    told: Option<Instant>,
}

impl Watch {
    pub(super) fn begin(cluster: &Arc<Cluster>, key: &LockKey) -> Self {
        let mut watch = Self { cluster: Arc::clone(cluster), key: key.clone(), watcher: cluster.watchers().watch(key), told: None };
        watch.tell_others();
        watch
    }

    /// Returns when something may have happened since this returned last, if word of it arrived. To be called again every
    /// second or so, which keeps the other gateways informed.
    pub async fn changed(&mut self) {
        self.tell_others();
        self.watcher.changed().await;
    }

    fn tell_others(&mut self) {
        if self.told.is_none_or(|told| TELL_EVERY <= told.elapsed()) {
            self.told = Some(Instant::now());
            self.cluster.neighbours().tell_watched(&self.key);
        }
    }
}
