//! What one lease is of: a lock, or a set of locks.

use std::sync::Arc;

use crate::lease::{LeaseId, LockKey};

/// One lock, or several that are had, extended and released together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locks {
    key: LockKey,
    members: Arc<[LockKey]>,
}

impl From<LockKey> for Locks {
    fn from(key: LockKey) -> Self {
        Self { key, members: Arc::default() }
    }
}

impl Locks {
    /// How many locks a set may have: what one atomic step of a node can bear.
    pub const MAX_MEMBERS: usize = 16;

    /// The set of these that `lease` has, or is to have. Each is there once, and they are always in the same order.
    pub fn of_set(lease: &LeaseId, members: Arc<[LockKey]>) -> Self {
        Self { key: LockKey::of_set(lease), members }
    }

    /// The lock, or the one that stands for the set: by it the nodes know the lease.
    pub fn key(&self) -> &LockKey {
        &self.key
    }

    /// The locks of a set; none if it is none.
    pub fn members(&self) -> &Arc<[LockKey]> {
        &self.members
    }

    /// The locks that others may want as well.
    pub fn each(&self) -> &[LockKey] {
        if self.members.is_empty() { std::slice::from_ref(&self.key) } else { &self.members }
    }
}
