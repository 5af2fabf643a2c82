//! What one lease is of: a lock, or a set of locks.

use std::sync::Arc;

use crate::lease::{LeaseId, LockKey};

/// One lock, or several that are had, extended and released together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locks {
    /// A lock, or what stands for a semaphore.
    One(LockKey),
    /// Each is there once, and they are always in the same order.
    Set(Arc<[LockKey]>),
    /// Of a set, but nobody knows of which.
    UnknownSet,
}

impl From<LockKey> for Locks {
    fn from(key: LockKey) -> Self {
        Self::One(key)
    }
}

impl Locks {
    /// How many locks a set may have: what one atomic step of a node can bear.
    pub const MAX_MEMBERS: usize = 16;

    /// A set of these, in whatever order. Each is there once.
    pub fn of_set(mut members: Vec<LockKey>) -> Self {
        members.sort_unstable();
        Self::Set(members.into())
    }

    /// By what the nodes know it if it is held under this lease.
    pub fn key(&self, lease: &LeaseId) -> LockKey {
        match self {
            Self::One(key) => key.clone(),
            Self::Set(_) | Self::UnknownSet => LockKey::of_set(lease),
        }
    }

    /// The locks of a set; none if it is none.
    pub fn members(&self) -> &[LockKey] {
        match self {
            Self::Set(members) => members,
            Self::One(_) | Self::UnknownSet => &[],
        }
    }

    /// The locks that others may want as well.
    pub fn each(&self) -> &[LockKey] {
        match self {
            Self::One(key) => std::slice::from_ref(key),
            Self::Set(members) => members,
            Self::UnknownSet => &[],
        }
    }

    pub fn is_set(&self) -> bool {
        !matches!(self, Self::One(_))
    }
}
